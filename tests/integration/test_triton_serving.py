"""The embedded Triton serves: it is the real one, it batches, it gives ONNX Runtime's answers, it keeps deadlines."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from radserve.errors import ErrorCode, ModelError
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import GRAPH_NAMES, ModelPack, load_pack
from radserve.models.parity_check import compare_runners
from radserve.models.triton.client import ModelStatistics, TritonRunner
from radserve.models.triton.server import EmbeddedTriton
from radserve.tensors import InferenceRequest, InferenceResponse, ModelRef
from tests.support.packs import CONTEXT, make_tiny_pack, random_inputs
from tests.support.triton import count_anew, largest_difference, settled_statistics, shared_memory

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1200)]


@dataclass
class Setting:
    tiny: ModelPack
    slow: ModelPack
    server: EmbeddedTriton
    runner: TritonRunner
    reference: OnnxRunner

    def request(self, graph: str, batch: int, seed: int = 0, timeout_s: float | None = 120.0) -> InferenceRequest:
        return InferenceRequest(
            self.tiny.model(graph), random_inputs(self.tiny.graphs[graph].inputs, batch, seed), timeout_s
        )

    def slow_request(self, batch: int, seed: int = 0, timeout_s: float | None = 120.0) -> InferenceRequest:
        inputs = random_inputs(self.slow.graphs["image_encoder"].inputs, batch, seed)
        return InferenceRequest(self.slow.model("image_encoder"), inputs, timeout_s)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setting]:
    folder = tmp_path_factory.mktemp("triton")
    packs = [
        load_pack(make_tiny_pack(folder / "tiny")),
        load_pack(make_tiny_pack(folder / "slow", "slow", ballast=100)),
    ]
    async with EmbeddedTriton(packs, log_folder=folder / "logs") as server:
        runner, reference = TritonRunner(server.url, packs), OnnxRunner(packs)
        yield Setting(*packs, server, runner, reference)
        await runner.close()
        await reference.close()


async def test_the_server_is_triton(setting: Setting) -> None:
    metadata = await setting.runner.server_metadata()
    assert metadata.name == "triton"
    assert metadata.version.startswith("2.")


@pytest.mark.parametrize("graph", GRAPH_NAMES)
@pytest.mark.parametrize("batch", [1, 2, 7, 16])
async def test_answers_are_those_of_onnx_runtime(setting: Setting, graph: str, batch: int) -> None:
    request = setting.request(graph, batch, seed=batch)
    answer, expected = await setting.runner.infer(request), await setting.reference.infer(request)
    assert largest_difference(answer, expected) <= 1e-5


async def test_triton_passes_the_parity_check_of_every_graph(setting: Setting) -> None:
    results = await compare_runners(setting.tiny, setting.runner)
    assert [each.graph for each in results] == list(GRAPH_NAMES)
    assert all(each.passed for each in results)


async def test_statistics_grow_by_what_was_asked(setting: Setting) -> None:
    model = setting.tiny.model("text_encoder")
    await count_anew(setting.runner, model)
    for _ in range(3):
        await setting.runner.infer(setting.request("text_encoder", 2))
    assert await settled_statistics(setting.runner, model, 6) == ModelStatistics(6, 3)


async def test_concurrent_requests_share_runs_and_each_gets_its_own_answer(setting: Setting) -> None:
    model, requests = setting.slow.model("image_encoder"), [setting.slow_request(1, seed) for seed in range(64)]
    await count_anew(setting.runner, model)
    answers = await asyncio.gather(*(setting.runner.infer(each) for each in requests))
    for request, answer in zip(requests, answers, strict=True):
        assert largest_difference(answer, await setting.reference.infer(request)) <= 1e-5
    done = await settled_statistics(setting.runner, model, 64)
    assert done.inference_count == 64
    assert done.execution_count < 48


async def test_the_same_request_gives_the_same_bits_alone_and_under_load(setting: Setting) -> None:
    request = setting.request("decoder_step", 1, seed=3)
    alone = await setting.runner.infer(request)
    crowd = [setting.request("decoder_step", 1 + seed % 3, seed) for seed in range(60)]
    answers = await asyncio.gather(*(setting.runner.infer(each) for each in [*crowd, *[request] * 20]))
    for answer in answers[len(crowd) :]:
        assert largest_difference(answer, alone) == 0.0


async def occupied(setting: Setting) -> list[asyncio.Task[InferenceResponse]]:
    """512 slow images at work in Triton, in batches that cannot be shared: whatever comes next waits for them."""
    tasks = [asyncio.create_task(setting.runner.infer(setting.slow_request(64))) for _ in range(8)]
    await something_quick(setting)
    return tasks


async def something_quick(setting: Setting) -> None:
    """Ask another model over the same connection: what was said on it before has arrived."""
    await setting.runner.infer(setting.request("text_encoder", 1))


def unanswered(tasks: list[asyncio.Task[InferenceResponse]]) -> int:
    return sum(not task.done() for task in tasks)


async def test_a_deadline_too_short_is_told_as_such(setting: Setting) -> None:
    running = await occupied(setting)
    with pytest.raises(ModelError) as caught:
        await setting.runner.infer(setting.slow_request(16, timeout_s=0.002))
    assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED
    assert unanswered(running)
    await asyncio.gather(*running)


async def test_a_cancelled_request_in_the_queue_is_never_run(setting: Setting) -> None:
    model = setting.slow.model("image_encoder")
    await count_anew(setting.runner, model)
    running = await occupied(setting)
    queued = asyncio.create_task(setting.runner.infer(setting.slow_request(3)))
    await something_quick(setting)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    await something_quick(setting)
    assert unanswered(running) > 1  # so it was still waiting when it was cancelled
    await asyncio.gather(*running)
    await setting.runner.infer(setting.slow_request(1))
    done = await settled_statistics(setting.runner, model, 8 * 64 + 1)
    assert done.inference_count == 8 * 64 + 1


async def test_a_request_that_fails_does_not_fail_its_neighbours(setting: Setting) -> None:
    good = setting.request("text_encoder", 1)
    bad = InferenceRequest(good.model, {"tokens": np.full((1, CONTEXT), 10_000, np.int64)}, 20.0)
    answers = await asyncio.gather(
        *(setting.runner.infer(bad if index % 2 else good) for index in range(40)), return_exceptions=True
    )
    assert all(isinstance(each, ModelError) for each in answers[1::2])
    assert not any(isinstance(each, BaseException) for each in answers[::2])


async def test_a_model_or_version_that_is_not_loaded_is_unavailable(setting: Setting) -> None:
    inputs = setting.request("text_encoder", 1).inputs
    for model in (ModelRef("nothing", 1), ModelRef("tiny--1.0.0--text_encoder", 2)):
        assert not await setting.runner.is_ready(model)
        with pytest.raises(ModelError) as caught:
            await setting.runner.infer(InferenceRequest(model, inputs, 5.0))
        assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


async def test_a_model_can_be_unloaded_and_loaded_again(setting: Setting) -> None:
    request = setting.request("image_encoder", 1)
    expected = await setting.runner.infer(request)
    await setting.runner.unload(request.model)
    with pytest.raises(ModelError, match=r"tiny--1\.0\.0--image_encoder"):
        await setting.runner.infer(request)
    await setting.runner.load(request.model)
    await setting.runner.wait_ready([request.model], timeout_s=120.0)
    assert largest_difference(await setting.runner.infer(request), expected) == 0.0


async def test_pixels_in_flight_are_for_this_user_only(setting: Setting) -> None:
    regions = shared_memory(setting.server.shared_memory_prefix)
    assert len(regions) >= 2 * len(GRAPH_NAMES)
    assert all(stat.S_IMODE(region.stat().st_mode) == 0o600 for region in regions)
    private = Path(setting.server.url.removeprefix("unix:")).parent
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
