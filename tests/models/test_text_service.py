"""The client of a text service, against a server that speaks the protocol of OpenAI, vLLM and llama.cpp."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from radserve.decoding import GeneratedText
from radserve.errors import ErrorCode, ModelError, RadserveError
from radserve.models.text_service import MOST_ANSWER_BYTES, MOST_CHARACTERS, ChatService
from radserve.server.settings import Settings
from tests.support.text_service import DONE, Answer, event, streamed, text_service, whole

TEXT = "Findings: No pneumonia, 肺部清晰.\nImpression: Normal."
JSON = "application/json"


async def ask(answer: Answer, **options: object) -> GeneratedText:
    with text_service(answer) as service:
        return await ChatService(service.url, "tiny", **options).generate("Word it.", "{}")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(streamed(TEXT)),
        Answer([b"".join(streamed(TEXT))[n : n + 7] for n in range(0, 4000, 7)]),  # cut anywhere, also in a character
        Answer(streamed(TEXT), media_type="text/event-stream; charset=utf-8"),
        Answer([whole(TEXT)], media_type=JSON),
    ],
    ids=["events", "events in pieces", "charset", "one object"],
)
async def test_the_text_of_a_service_that_streams_and_of_one_that_does_not(answer: Answer) -> None:
    assert await ask(answer) == GeneratedText(TEXT)


@pytest.mark.parametrize("answer", [Answer(streamed(TEXT, "length")), Answer([whole(TEXT, "length")], media_type=JSON)])
async def test_a_text_that_ended_by_its_length_is_marked(answer: Answer) -> None:
    assert await ask(answer) == GeneratedText(TEXT, cut=True)


async def test_the_request_is_that_of_the_protocol() -> None:
    with text_service(Answer(streamed(TEXT))) as service:
        await ChatService(service.url, "tiny", key="sk-1", max_tokens=99).generate("Word it.", '{"a": 1}')
    ((path, headers, body),) = service.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer sk-1"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Word it."}, {"role": "user", "content": '{"a": 1}'}],
        "stream": True,
        "temperature": 0,
        "max_tokens": 99,
    }


async def test_the_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert await ask(Answer(streamed(TEXT))) == GeneratedText(TEXT)


@pytest.mark.parametrize(
    ("answer", "code", "cause"),
    [
        (Answer(status=401), ErrorCode.MODEL_UNAVAILABLE, "HTTP status 401"),
        (Answer(status=429), ErrorCode.MODEL_UNAVAILABLE, "HTTP status 429"),
        (Answer(status=503), ErrorCode.MODEL_UNAVAILABLE, "HTTP status 503"),
        (Answer(status=307, headers={"Location": "/v2"}), ErrorCode.MODEL_UNAVAILABLE, "HTTP status 307"),
        (Answer([b"{not json"], media_type=JSON), ErrorCode.MODEL_OUTPUT_INVALID, "not JSON"),
        (Answer([b"[" * 100_000], media_type=JSON), ErrorCode.MODEL_OUTPUT_INVALID, "not JSON"),
        (Answer([b"<html>"], media_type="text/html"), ErrorCode.MODEL_OUTPUT_INVALID, "not JSON"),
        (Answer([b"[]"], media_type=JSON), ErrorCode.MODEL_OUTPUT_INVALID, "not a chat completion"),
        (Answer([b'{"choices": [7]}'], media_type=JSON), ErrorCode.MODEL_OUTPUT_INVALID, "not a text"),
        (
            Answer([b'{"choices": [{"message": {"content": 7}}]}'], media_type=JSON),
            ErrorCode.MODEL_OUTPUT_INVALID,
            "not a text",
        ),
        (Answer([whole(TEXT, "content_filter")], media_type=JSON), ErrorCode.MODEL_OUTPUT_INVALID, "not a text"),
        (Answer([event("Fin"), b"data: {oops\n\n", DONE]), ErrorCode.MODEL_OUTPUT_INVALID, "not JSON"),
        (
            Answer([event("Fin"), b'data: {"error": {"message": "out of memory"}}\n\n']),
            ErrorCode.MODEL_OUTPUT_INVALID,
            "is an error",
        ),
        (Answer([event("Findings: ")]), ErrorCode.MODEL_OUTPUT_INVALID, "stream ended before"),
        (Answer([event("x")], headers={"Content-Length": "999"}), ErrorCode.MODEL_UNAVAILABLE, "cannot be reached"),
        (Answer([b"x" * (MOST_ANSWER_BYTES + 1)]), ErrorCode.MODEL_OUTPUT_INVALID, "more than 1048576 bytes"),
        (Answer([event("x" * 1000)] * 17 + [DONE]), ErrorCode.MODEL_OUTPUT_INVALID, f"{MOST_CHARACTERS} characters"),
        (
            Answer([whole("x" * 20_000)], media_type=JSON),
            ErrorCode.MODEL_OUTPUT_INVALID,
            f"{MOST_CHARACTERS} characters",
        ),
        (
            Answer([b"\x1f\x8b"], headers={"Content-Encoding": "gzip"}),
            ErrorCode.MODEL_OUTPUT_INVALID,
            "compressed",
        ),
    ],
)
async def test_an_answer_that_is_no_text_is_a_coded_error(answer: Answer, code: ErrorCode, cause: str) -> None:
    with pytest.raises(ModelError) as caught:
        await ask(answer)
    assert caught.value.code is code
    assert cause in caught.value.client_message
    assert "out of memory" not in str(caught.value)  # nothing that the service wrote


async def test_a_service_that_is_not_there_is_a_coded_error() -> None:
    with text_service(Answer()) as service:
        pass
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        await ChatService(service.url, "tiny").generate("", "")
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


@pytest.mark.parametrize(("own", "request_s"), [(0.2, None), (600.0, 0.2)])
async def test_a_service_that_hangs_in_the_middle_is_left_when_the_time_is_up(
    own: float, request_s: float | None
) -> None:
    with text_service(Answer([event("Findings: ")], hang=True)) as service:
        with pytest.raises(ModelError, match=r"within 0\.2 s") as caught:
            await ChatService(service.url, "tiny", timeout_s=own).generate("", "", request_s)
        assert await asyncio.to_thread(service.left.wait, 60)
    assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED


async def test_cancelling_closes_the_connection() -> None:
    with text_service(Answer([event("Findings: ")], hang=True)) as service:
        task = asyncio.create_task(ChatService(service.url, "tiny").generate("", ""))
        assert await asyncio.to_thread(service.asked.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(service.left.wait, 60)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"base_url": "ftp://host/v1"}, "http(s)://HOST"),
        ({"base_url": "https://me:secret@host/v1"}, "the key in a file"),
        ({"base_url": "http://host/v1", "key": "secret"}, "https where there is a key"),
        ({"key": "secret\nX-Other: 1"}, "printable ASCII"),
        ({"model": ""}, "the name of a model"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_do_not_show_the_key(change: dict[str, str], expected: str) -> None:
    with pytest.raises(RadserveError) as caught:
        replace(ChatService("https://host/v1", "tiny"), **change)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert expected in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(ChatService("https://host/v1", "tiny", key="secret"))


@pytest.mark.parametrize(
    "material",
    [
        np.zeros((28, 28), np.uint8),
        np.zeros((28, 28), np.uint8).tobytes(),
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}],
        '{"findings": [], "image": "data:image/png;base64,iVBORw0KGgo="}',
        base64.b64encode(np.zeros((28, 28), np.uint8).tobytes()).decode(),
    ],
    ids=["array", "bytes", "image part", "data URL", "base64"],
)
@pytest.mark.parametrize("place", ["instruction", "material"])
async def test_a_request_that_carries_pixels_is_refused_before_anything_is_sent(material: Any, place: str) -> None:
    with text_service(Answer(streamed("Findings: clear."))) as service:
        with pytest.raises(RadserveError, match="pixels are never sent") as caught:
            await ChatService(service.url, "tiny").generate(**{"instruction": "", "material": "", place: material})
        assert service.requests == []
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_no_setting_lets_pixels_out() -> None:
    named = [name for name in Settings.model_fields if name.startswith("text_service")]
    assert not [name for name in named if "pixel" in name or "image" in name]
