"""The in-process runner: right answers, its own contract, deadlines and cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from radserve.errors import ErrorCode, ModelError, RadserveError
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import GRAPH_NAMES, ModelPack, load_pack
from radserve.models.tokenizer import PackTokenizer
from radserve.tensors import InferenceRequest, ModelRef
from tests.support.packs import CONTEXT, REPORT, make_tiny_pack, random_inputs, seal


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny"))


@pytest.fixture
async def runner(pack: ModelPack) -> AsyncIterator[OnnxRunner]:
    runner = OnnxRunner([pack])
    yield runner
    await runner.close()


@pytest.mark.parametrize("graph", GRAPH_NAMES)
async def test_answers_agree_with_the_reference_evaluator_of_onnx(
    runner: OnnxRunner, pack: ModelPack, graph: str
) -> None:
    inputs = random_inputs(pack.graphs[graph].inputs, 3)
    response = await runner.infer(InferenceRequest(pack.model(graph), inputs))
    expected = ReferenceEvaluator(onnx.load(pack.folder / f"{graph}.onnx")).run(None, inputs)
    for spec, array in zip(pack.graphs[graph].outputs, expected, strict=True):
        np.testing.assert_allclose(response.outputs[spec.name], array, atol=1e-5)


@pytest.mark.parametrize("graph", GRAPH_NAMES)
async def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(
    runner: OnnxRunner, pack: ModelPack, graph: str
) -> None:
    inputs = random_inputs(pack.graphs[graph].inputs, 16)
    together = (await runner.infer(InferenceRequest(pack.model(graph), inputs))).outputs
    for size in (1, 2, 3, 7):
        part = {name: array[:size] for name, array in inputs.items()}
        alone = (await runner.infer(InferenceRequest(pack.model(graph), part))).outputs
        for name, array in alone.items():
            np.testing.assert_array_equal(array, together[name][:size])


async def test_greedy_decoding_of_the_tiny_pack_writes_its_report(runner: OnnxRunner, pack: ModelPack) -> None:
    tokenizer = PackTokenizer(pack.tokenizer_path, context_length=CONTEXT, sections=pack.decoder.sections)
    state = random_inputs(pack.graphs["decoder_step"].inputs, 1) | {
        "cache": np.zeros((1, *pack.graphs["decoder_step"].tensor("cache").shape[1:]), np.float32)
    }
    tokens = [tokenizer.start_id]
    while tokens[-1] != tokenizer.end_id:
        step = {"token": np.array([[tokens[-1]]]), "position": np.array([[len(tokens) - 1]])}
        answer = await runner.infer(InferenceRequest(pack.model("decoder_step"), state | step))
        state["cache"] = answer.outputs["cache_out"]
        tokens.append(int(answer.outputs["logits"].argmax()))
    assert tokenizer.pieces(tokens) == tokenizer.detokenise(REPORT.split())


async def test_a_model_that_is_not_there_is_unavailable(runner: OnnxRunner, pack: ModelPack) -> None:
    other = ModelRef("tiny--1.0.0--text_encoder", 2)
    assert await runner.is_ready(pack.model("text_encoder"))
    assert not await runner.is_ready(other)
    with pytest.raises(ModelError) as caught:
        await runner.infer(InferenceRequest(other, {"tokens": np.zeros((1, CONTEXT), np.int64)}))
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


@pytest.mark.parametrize(
    "inputs",
    [
        {"pixels": np.zeros((1, 1, 28, 27), np.float32)},
        {"pixels": np.zeros((1, 1, 28, 28), np.float64)},
        {"pixels": np.zeros((65, 1, 28, 28), np.float32)},
        {"image": np.zeros((1, 1, 28, 28), np.float32)},
        {"pixels": np.zeros((0, 1, 28, 28), np.float32)},
    ],
    ids=["shape", "dtype", "batch", "name", "empty"],
)
async def test_tensors_that_are_not_the_graphs_are_refused(
    runner: OnnxRunner, pack: ModelPack, inputs: dict[str, Any]
) -> None:
    with pytest.raises(RadserveError) as caught:
        await runner.infer(InferenceRequest(pack.model("image_encoder"), inputs))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


async def test_nan_never_becomes_an_answer(runner: OnnxRunner, pack: ModelPack) -> None:
    pixels = np.full((1, 1, 28, 28), np.nan, np.float32)
    with pytest.raises(ModelError, match="holds NaN") as caught:
        await runner.infer(InferenceRequest(pack.model("image_encoder"), {"pixels": pixels}))
    assert caught.value.code is ErrorCode.MODEL_OUTPUT_INVALID


async def test_a_run_that_fails_is_an_error_without_the_librarys_text(runner: OnnxRunner, pack: ModelPack) -> None:
    tokens = np.full((1, CONTEXT), 10_000, np.int64)  # outside the vocabulary
    with pytest.raises(ModelError) as caught:
        await runner.infer(InferenceRequest(pack.model("text_encoder"), {"tokens": tokens}))
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert caught.value.client_message == "model 'tiny--1.0.0--text_encoder' failed"


async def test_a_graph_exchanged_on_disk_is_not_opened(tmp_path: Path) -> None:
    folder = make_tiny_pack(tmp_path / "tiny")
    pack = load_pack(folder)
    (folder / "text_encoder.onnx").write_bytes((folder / "image_encoder.onnx").read_bytes())
    runner = OnnxRunner([pack])
    assert not await runner.is_ready(pack.model("text_encoder"))
    await runner.close()


async def endless(folder: Path, timeout_s: float | None) -> tuple[OnnxRunner, InferenceRequest]:
    """A request that runs for minutes, in many short products."""
    folder = make_tiny_pack(folder / "slow", "slow", ballast=300)
    stated = folder / "pack.toml"
    stated.write_text(stated.read_text().replace("max_batch_size = 64", "max_batch_size = 4096"))
    pack = load_pack(folder)
    runner, model = OnnxRunner([pack]), pack.model("image_encoder")
    assert await runner.is_ready(model)
    inputs = random_inputs(pack.graphs["image_encoder"].inputs, 4096)
    return runner, InferenceRequest(model, inputs, timeout_s)


async def test_a_deadline_ends_the_wait_and_the_run(tmp_path: Path) -> None:
    runner, request = await endless(tmp_path, timeout_s=0.05)
    async with asyncio.timeout(60):
        with pytest.raises(ModelError) as caught:
            await runner.infer(request)
        await runner.close()  # waits for the thread, which ends only if the run itself was stopped
    assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED


async def test_cancelling_the_task_stops_the_run(tmp_path: Path) -> None:
    runner, request = await endless(tmp_path, timeout_s=None)
    task = asyncio.create_task(runner.infer(request))
    await asyncio.sleep(0.05)
    task.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await task
        await runner.close()


async def test_a_graph_that_gives_another_shape_than_it_declares_is_not_opened(tmp_path: Path) -> None:
    folder = make_tiny_pack(tmp_path / "tiny")
    for name in ("text_encoder", "image_encoder"):
        model = onnx.load(folder / f"{name}.onnx")
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    pack = load_pack(seal(folder))
    runner = OnnxRunner([pack])
    with pytest.raises(ModelError, match=r"'tiny--1\.0\.0--text_encoder' cannot be opened") as caught:
        await runner.infer(
            InferenceRequest(pack.model("text_encoder"), random_inputs(pack.graphs["text_encoder"].inputs, 1))
        )
    await runner.close()
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
