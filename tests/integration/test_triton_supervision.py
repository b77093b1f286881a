"""The embedded Triton dies, or its keeper does: what is answered meanwhile is right or an error, and nothing stays."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from radserve.errors import ErrorCode, ModelError
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import ModelPack, load_pack
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.server import EmbeddedTriton, Supervision
from radserve.tensors import InferenceRequest, InferenceResponse
from tests.support.packs import make_tiny_pack, random_inputs
from tests.support.triton import eventually, family, largest_difference, living, shared_memory

pytestmark = pytest.mark.integration

EXPECTED_FAILURES = {ErrorCode.MODEL_UNAVAILABLE, ErrorCode.DEADLINE_EXCEEDED}


@pytest.fixture
def pack(tmp_path: Path) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path / "tiny"))


@pytest.fixture
async def server(pack: ModelPack, tmp_path: Path) -> AsyncIterator[EmbeddedTriton]:
    async with EmbeddedTriton([pack], log_folder=tmp_path / "logs") as server:
        yield server


def request(pack: ModelPack, seed: int) -> InferenceRequest:
    return InferenceRequest(
        pack.model("image_encoder"), random_inputs(pack.graphs["image_encoder"].inputs, 1 + seed % 4, seed), 5.0
    )


class Load:
    """Workers that ask without pause; every answer is compared, every error collected."""

    def __init__(self, runner: TritonRunner, requests: list[InferenceRequest], expected: list[InferenceResponse]):
        self.answered, self.errors = 0, set[ErrorCode]()
        self._runner, self._pairs = runner, list(zip(requests, expected, strict=True))
        self._tasks = [asyncio.create_task(self._work(index)) for index in range(8)]

    async def _work(self, index: int) -> None:
        while True:
            asked, expected = self._pairs[index % len(self._pairs)]
            index += 1
            try:
                assert largest_difference(await self._runner.infer(asked), expected) <= 1e-5
                self.answered += 1
            except ModelError as error:
                self.errors.add(error.code)
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in results), results


async def start_load(runner: TritonRunner, pack: ModelPack) -> Load:
    reference = OnnxRunner([pack])
    requests = [request(pack, seed) for seed in range(12)]
    expected = [await reference.infer(each) for each in requests]
    await reference.close()
    return Load(runner, requests, expected)


async def test_after_kill_9_it_is_unready_then_comes_back_and_no_answer_was_wrong(
    server: EmbeddedTriton, pack: ModelPack
) -> None:
    runner = TritonRunner(server.url, [pack])
    load = await start_load(runner, pack)
    await eventually(lambda: load.answered > 50)
    first, processes = server.pid, family(server.pid or 0)
    os.kill(first or 0, signal.SIGKILL)
    await eventually(lambda: server.pid is None)
    assert not await runner.is_ready(pack.model("image_encoder"))
    await eventually(lambda: runner.is_ready(pack.model("decoder_step")))
    assert server.restarts == 1
    assert server.pid not in (None, first)
    assert not living(processes)
    before = load.answered
    await eventually(lambda: load.answered > before + 50)
    await load.stop()
    assert load.errors
    assert load.errors <= EXPECTED_FAILURES
    await runner.close()


async def test_after_a_backend_process_died_it_comes_back_and_no_answer_was_wrong(
    server: EmbeddedTriton, pack: ModelPack
) -> None:
    # Triton itself would call the model ready and fail its requests for ever.
    runner = TritonRunner(server.url, [pack])
    load = await start_load(runner, pack)
    await eventually(lambda: load.answered > 50)
    processes = family(server.pid or 0)
    next(each for each in processes[1:] if "tiny--1.0.0--image_encoder" in " ".join(each.cmdline())).kill()
    await eventually(lambda: server.restarts == 1)
    await eventually(lambda: runner.is_ready(pack.model("image_encoder")))
    before = load.answered
    await eventually(lambda: load.answered > before + 50)
    await load.stop()
    assert load.errors
    assert load.errors <= EXPECTED_FAILURES
    assert not living(processes)
    await runner.close()


async def test_unloading_and_loading_a_model_is_no_failure(server: EmbeddedTriton, pack: ModelPack) -> None:
    runner, model = TritonRunner(server.url, [pack]), pack.model("text_encoder")
    for _ in range(3):
        await runner.unload(model)
        await runner.load(model)
    await asyncio.sleep(1.5)  # three looks of the supervisor
    assert server.restarts == 0
    await runner.close()


async def test_stop_leaves_no_process_no_folder_and_no_shared_memory(pack: ModelPack, tmp_path: Path) -> None:
    server = EmbeddedTriton([pack], log_folder=tmp_path / "logs")
    await server.start()
    processes, private = family(server.pid or 0), Path(server.url.removeprefix("unix:")).parent
    prefix = server.shared_memory_prefix
    assert len(processes) == 4
    assert len(shared_memory(prefix)) >= 3
    await server.stop()
    assert not living(processes)
    assert not private.exists()
    assert not shared_memory(prefix)
    assert server.pid is None
    said = (tmp_path / "logs" / "triton.log").read_text()
    assert "successfully loaded" in said and "failed to stop" not in said
    await server.stop()  # does nothing
    await server.start()  # and it can be used again
    assert await TritonRunner(server.url).is_ready(pack.model("text_encoder"))
    await server.stop()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder whose path leaves room for the name of a socket, as tmp_path does not in a process of many."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


async def test_when_the_service_is_killed_nothing_of_triton_stays(
    pack: ModelPack, tmp_path: Path, short_folder: Path
) -> None:
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from radserve.models.pack import load_pack
        from radserve.models.triton.server import EmbeddedTriton

        async def main():
            server = EmbeddedTriton([load_pack(Path(sys.argv[1]))], log_folder=Path(sys.argv[2]))
            await server.start()
            print(server.pid, server.shared_memory_prefix, flush=True)
            await asyncio.sleep(600)

        asyncio.run(main())
        """
    )
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(pack.folder), str(tmp_path / "logs")),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(short_folder)},
    )
    assert service.stdout is not None
    pid, prefix = (await asyncio.wait_for(service.stdout.readline(), 120.0)).decode().split()
    processes = family(int(pid))
    assert len(living(processes)) == 4
    assert shared_memory(prefix)
    service.kill()
    await service.wait()
    await eventually(lambda: not living(processes))
    await eventually(lambda: not shared_memory(prefix))


def tritons() -> set[str]:
    """The folders of the Tritons that run under this test process; the server that other tests share may be among them.

    Told by folder, not by process: the shared one may start processes at any time.
    """
    found: set[str] = set()
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "triton" in each.name():
                found.update(re.findall(r"radserve-triton-\w+", " ".join(each.cmdline())))
    return found


async def test_a_model_that_triton_cannot_load_is_told_with_the_logs_last_lines(
    pack: ModelPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tritons()
    monkeypatch.setattr(ModelPack, "read", lambda self, graph: b"not a graph")
    server = EmbeddedTriton([pack], log_folder=tmp_path / "logs")
    with pytest.raises(ModelError, match="it ended with status 1 on start") as caught:
        await server.start()
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert "failed to load 'tiny--1.0.0--" in caught.value.client_message
    assert server.pid is None
    await eventually(lambda: tritons() <= before)


async def test_a_server_that_is_not_ready_in_time_is_told_and_ended(pack: ModelPack, tmp_path: Path) -> None:
    before = tritons()
    server = EmbeddedTriton([pack], log_folder=tmp_path / "logs", supervision=Supervision(start_timeout_s=0.05))
    with pytest.raises(ModelError, match=r"was not ready within 0\.05 s") as caught:
        await server.start()
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    await eventually(lambda: tritons() <= before)


async def test_cancelling_the_start_leaves_nothing(pack: ModelPack, tmp_path: Path) -> None:
    before = tritons()
    server = EmbeddedTriton([pack], log_folder=tmp_path / "logs")
    task = asyncio.create_task(server.start())
    await eventually(lambda: not tritons() <= before)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: tritons() <= before)
