"""The Triton client where there is no Triton, and how Triton's errors are told."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from radserve.errors import ErrorCode, ModelError
from radserve.models.pack import ModelPack, load_pack
from radserve.models.triton import client as client_module
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.installation import find_installation
from radserve.models.triton.server_log import ServerLog
from radserve.tensors import InferenceRequest, ModelRef
from tests.support.packs import CONTEXT, make_tiny_pack

MODEL = ModelRef("tiny--1.0.0--text_encoder", 1)


@pytest.fixture
def pack(tmp_path: Path) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path / "tiny"))


def request(timeout_s: float | None = None, context: int = CONTEXT) -> InferenceRequest:
    return InferenceRequest(MODEL, {"tokens": np.zeros((1, context), np.int64)}, timeout_s)


async def test_a_server_that_is_not_there_is_unavailable(pack: ModelPack, tmp_path: Path) -> None:
    runner = TritonRunner(f"unix:{tmp_path / 'nothing'}", [pack])
    assert not await runner.is_ready(MODEL)
    with pytest.raises(ModelError) as caught:
        await runner.infer(request(5.0))
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert str(tmp_path) not in caught.value.client_message
    with pytest.raises(ModelError, match=r"not ready within 0\.2 s") as caught:
        await runner.wait_ready([MODEL], timeout_s=0.2)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    with pytest.raises(ModelError, match="Triton is not available"):
        await runner.server_metadata()
    await runner.close()


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_a_deadline_in_the_past_is_told_without_asking_triton(pack: ModelPack, timeout_s: float) -> None:
    with pytest.raises(ModelError) as caught:
        await TritonRunner("unix:/nothing", [pack]).infer(request(timeout_s))
    assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("timeout_s", "code"), [(0.001, ErrorCode.DEADLINE_EXCEEDED), (None, ErrorCode.MODEL_UNAVAILABLE)]
)
async def test_a_stream_that_breaks_after_its_deadline_ended_by_it(
    pack: ModelPack, monkeypatch: pytest.MonkeyPatch, timeout_s: float | None, code: ErrorCode
) -> None:
    class Broken:
        async def __anext__(self) -> None:
            await asyncio.sleep(0.01)
            raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "from Core")

        def cancel(self) -> None:
            pass

    runner = TritonRunner("unix:/nothing", [pack])
    monkeypatch.setattr(runner, "_client", lambda: SimpleNamespace(stream_infer=lambda *_, **__: Broken()))
    with pytest.raises(ModelError) as caught:
        await anext(runner.stream(request(timeout_s)))
    assert caught.value.code is code


async def test_tensors_that_are_not_the_graphs_never_reach_triton(pack: ModelPack) -> None:
    with pytest.raises(Exception, match="tensor tokens") as caught:
        await TritonRunner("unix:/nothing", [pack]).infer(request(context=CONTEXT + 1))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        ("UNAVAILABLE", "Socket closed", ErrorCode.MODEL_UNAVAILABLE),
        ("NOT_FOUND", "Request for unknown model", ErrorCode.MODEL_UNAVAILABLE),
        ("INTERNAL", "Stub process is not healthy", ErrorCode.MODEL_UNAVAILABLE),
        ("UNAVAILABLE", "Exceeds maximum queue size", ErrorCode.MODEL_UNAVAILABLE),
        ("UNAVAILABLE", "Request timeout expired", ErrorCode.DEADLINE_EXCEEDED),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", ErrorCode.DEADLINE_EXCEEDED),
        ("INVALID_ARGUMENT", "unexpected shape", ErrorCode.INVALID_ARGUMENT),
        ("INTERNAL", "OutputError: output 'embedding': got", ErrorCode.MODEL_OUTPUT_INVALID),
    ],
)
def test_tritons_errors_become_ours_and_its_text_stays_in_the_log(status: str, text: str, code: ErrorCode) -> None:
    error = client_module._model_error(MODEL, InferenceServerException(text, f"StatusCode.{status}"))
    assert error.code is code
    assert "tiny--1.0.0--text_encoder" in error.client_message
    assert text not in error.client_message
    assert text in error.detail


def test_a_platform_without_the_wheel_is_told_what_to_use_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radserve.models.triton.installation.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"nvidia-pytriton is not installed.*--triton URL") as caught:
        find_installation()
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


async def test_the_log_keeps_what_a_process_wrote_and_the_last_lines_for_errors(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "logs")
    end = await log.open()
    written = b"I1122 first\n\n+-----+\n| table |\n" + b"x" * 2_000_000 + b"\n\xff last"
    with os.fdopen(end, "wb") as pipe:
        await asyncio.to_thread(pipe.write, written)  # more than a pipe holds: the log must be reading
    await log.close()
    last = log.last_lines(10).splitlines()
    assert last[0] == "I1122 first"
    assert last[-1] == "\ufffd last"
    assert "(a line too long to keep)" in last
    assert max(map(len, last)) <= 300
    assert "I1122 first" in (tmp_path / "logs" / "triton.log").read_text()


async def test_of_a_log_with_errors_the_errors_are_shown(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "logs")
    with os.fdopen(await log.open(), "wb") as pipe:
        pipe.write(b'E1122 "CudaDriverHelper has not been initialized."\nE1122 failed to load\nI1122 unloading\n')
    await log.close()
    assert log.last_lines(10) == "E1122 failed to load"
