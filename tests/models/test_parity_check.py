"""Comparing a model server with ONNX Runtime: what is equal passes, what is not is named by its graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import GRAPH_NAMES, ModelPack, load_pack
from radserve.models.parity_check import compare_runners
from radserve.tensors import InferenceRequest, InferenceResponse
from tests.support.packs import make_tiny_pack


@pytest.fixture
def pack(tmp_path: Path) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path / "tiny"))


class Disturbed(OnnxRunner):
    """Adds a little to one graph's answers."""

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        answer = await super().infer(request)
        if not request.model.name.endswith("text_encoder"):
            return answer
        return InferenceResponse(answer.model, {name: array + 0.01 for name, array in answer.outputs.items()})


async def test_the_same_graphs_give_the_same_numbers(pack: ModelPack) -> None:
    results = await compare_runners(pack, OnnxRunner([pack]))
    assert [each.graph for each in results] == list(GRAPH_NAMES)
    assert all(each.passed and each.largest_difference == 0 for each in results)


async def test_a_graph_that_differs_fails_and_more_may_differ_at_half_precision(pack: ModelPack) -> None:
    results = await compare_runners(pack, Disturbed([pack]))
    assert [each.graph for each in results if not each.passed] == ["text_encoder"]
    assert results[1].largest_difference == pytest.approx(0.01, rel=1e-4)
    assert all(each.passed for each in await compare_runners(pack, Disturbed([pack]), precision="fp16"))
