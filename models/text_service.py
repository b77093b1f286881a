"""Ask a text-generation service that speaks the chat protocol of OpenAI: vLLM, the server of llama.cpp and others.

Protocol: POST {base URL}/chat/completions; the answer is a stream of server-sent events (`data: {...}`, at the end
`data: [DONE]`), or one JSON object from services that do not stream. What comes is not trusted: it is bounded, checked.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from radserve._checks import invalid
from radserve.decoding import GeneratedText
from radserve.errors import ErrorCode, ModelError

MOST_ANSWER_BYTES = 1 << 20  # each token comes in an event of some 200 bytes
MOST_CHARACTERS = 16_000
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVENT_STREAM = "text/event-stream"
_PIXELS = re.compile(r"data:\s*[a-z]+/|[A-Za-z0-9+/=_-]{256,}")  # a data URL (RFC 2397), or base64 of some length


@dataclass(frozen=True, slots=True)
class ChatService:
    """A service by its base URL (with the /v1 that most have) and the model to ask there. Raises INVALID_ARGUMENT.

    `key` is the bearer token, "" for none; it is never sent in the clear, but to this machine. `timeout_s` bounds a
    whole text. `tls` None means the system's authorities. `max_tokens` bounds a text in the service.
    """

    base_url: str
    model: str
    key: str = field(default="", repr=False)
    timeout_s: float = 60.0
    tls: ssl.SSLContext | None = None
    max_tokens: int = 512

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise invalid("text service URL", f"{parts.scheme}://{parts.hostname}", "http(s)://HOST[:PORT]/PATH")
        if parts.username or parts.password:
            raise invalid("text service URL", f"one with a user ({parts.hostname})", "the key in a file of its own")
        if self.key and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise invalid("text service URL", f"http://{parts.hostname}", "https where there is a key")
        if not (self.key.isascii() and self.key.isprintable()):
            raise invalid("text service key", "other characters", "printable ASCII characters in one line")
        if not self.model:
            raise invalid("text service model", "nothing", "the name of a model of the service")

    async def generate(self, instruction: str, material: str, timeout_s: float | None = None) -> GeneratedText:
        """The text that the model writes, greedily, of `material` as `instruction` says.

        Cancelling it closes the connection, by which services stop. Raises INVALID_ARGUMENT, before anything is sent,
        for what is not text or holds an image: no setting allows that. Raises ModelError: MODEL_UNAVAILABLE (no
        connection, one that breaks, an HTTP status that is not 200), DEADLINE_EXCEEDED (after `timeout_s` or the
        service's own, the shorter one), MODEL_OUTPUT_INVALID (no such JSON or events, too long, no end).
        """
        _refuse_pixels(instruction, material)
        limit = self.timeout_s if timeout_s is None else min(timeout_s, self.timeout_s)
        body = {
            "model": self.model,
            "messages": [{"role": "system", "content": instruction}, {"role": "user", "content": material}],
            "stream": True,
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        try:
            async with asyncio.timeout(limit):
                return await self._ask(body)
        except (TimeoutError, httpx2.TimeoutException):
            text = f"the text service did not answer within {limit:.3g} s"
            raise ModelError(ErrorCode.DEADLINE_EXCEEDED, text) from None
        except (httpx2.HTTPError, ssl.SSLError) as error:
            text = f"the text service cannot be reached ({type(error).__name__})"
            raise ModelError(ErrorCode.MODEL_UNAVAILABLE, text) from None

    async def _ask(self, body: dict[str, Any]) -> GeneratedText:
        headers = {"Accept": f"{EVENT_STREAM}, application/json", "Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        verify = self.tls or self.base_url.startswith("https:")
        # no bound on each step: the whole is bounded
        async with (
            httpx2.AsyncClient(verify=verify, timeout=None, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", url, json=body, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                text = f"the text service answered with the HTTP status {answer.status_code}"
                raise ModelError(ErrorCode.MODEL_UNAVAILABLE, text)
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise _not_understood("its answer is compressed, which was not asked for")
            if answer.headers.get("content-type", "").partition(";")[0].strip().lower() == EVENT_STREAM:
                return await _streamed(answer)
            return _whole(b"".join([part async for part in _parts(answer)]))


async def _parts(answer: httpx2.Response) -> AsyncIterator[bytes]:
    size = 0
    async for part in answer.aiter_raw():
        size += len(part)
        if size > MOST_ANSWER_BYTES:
            raise _not_understood(f"its answer has more than {MOST_ANSWER_BYTES} bytes")
        yield part


async def _events(answer: httpx2.Response) -> AsyncIterator[bytes]:
    """The data of each server-sent event; comments and other fields are left out (WHATWG HTML, 9.2.6)."""
    pending = b""
    data: list[bytes] = []
    async for part in _parts(answer):
        *lines, pending = (pending + part).split(b"\n")
        for line in lines:
            name, _, value = line.removesuffix(b"\r").partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
            elif not name and not value and data:
                yield b"\n".join(data)
                data = []


async def _streamed(answer: httpx2.Response) -> GeneratedText:
    pieces: list[str] = []
    cut, size = False, 0
    async for event in _events(answer):
        if event == b"[DONE]":
            return GeneratedText("".join(pieces), cut)
        piece, ended_by = _choice(event, "delta")
        cut |= ended_by == "length"
        size += len(piece)
        if size > MOST_CHARACTERS:
            raise _not_understood(f"its text has more than {MOST_CHARACTERS} characters")
        pieces.append(piece)
    raise _not_understood("its stream ended before the text did")


def _whole(content: bytes) -> GeneratedText:
    text, ended_by = _choice(content, "message")
    if len(text) > MOST_CHARACTERS:
        raise _not_understood(f"its text has more than {MOST_CHARACTERS} characters")
    return GeneratedText(text, ended_by == "length")


def _choice(content: bytes, name: str) -> tuple[str, str]:
    """The text of the first choice and why it ended ("" while it has not); nothing where there is no choice (usage)."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise _not_understood("its answer is not JSON") from None
    if not isinstance(found, dict) or found.get("error") or not isinstance(found.get("choices"), list):
        raise _not_understood("its answer is an error or not a chat completion")
    if not found["choices"]:
        return "", ""
    choice = found["choices"][0]
    message = choice.get(name) if isinstance(choice, dict) else None
    text = (message.get("content") or "") if isinstance(message, dict) else None
    ended_by = (choice.get("finish_reason") or "") if isinstance(choice, dict) else ""
    if not isinstance(text, str) or ended_by not in ("", "stop", "length"):
        raise _not_understood("its answer is not a text that ended by itself or by its length")
    return text, ended_by


def _refuse_pixels(*texts: object) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise invalid("request to the text service", type(text).__name__, "text: pixels are never sent")
        if _PIXELS.search(text):
            raise invalid("request to the text service", "encoded data", "words: pixels are never sent")


def _not_understood(cause: str) -> ModelError:
    return ModelError(ErrorCode.MODEL_OUTPUT_INVALID, f"the text service: {cause}")
