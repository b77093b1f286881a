"""Holds what a model server answers to ONNX Runtime in process: same graphs, same inputs, how far apart?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import GraphSpec, ModelPack
from radserve.ports import ModelRunner
from radserve.tensors import InferenceRequest

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}  # of the largest value of a tensor
BATCHES = (1, 2, 5)
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class GraphParity:
    """A graph's largest difference over batch sizes, as a share of the largest value that ONNX Runtime gives."""

    graph: str
    largest_difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.largest_difference <= self.tolerance


async def compare_runners(
    pack: ModelPack, runner: ModelRunner, *, precision: str = "fp32", seed: int = 0
) -> list[GraphParity]:
    """Ask `runner` and ONNX Runtime the same seeded questions for every graph. Raises ModelError."""
    reference = OnnxRunner([pack])
    try:
        return [
            GraphParity(name, await _difference(pack, name, runner, reference, seed), TOLERANCE[precision])
            for name in pack.graphs
        ]
    finally:
        await reference.close()


async def _difference(pack: ModelPack, name: str, runner: ModelRunner, reference: OnnxRunner, seed: int) -> float:
    graph, largest = pack.graphs[name], 0.0
    for batch in sorted({min(size, graph.max_batch_size) for size in BATCHES}):
        request = InferenceRequest(pack.model(name), _inputs(graph, batch, seed), TIMEOUT_S)
        answer, expected = await asyncio.gather(runner.infer(request), reference.infer(request))
        for tensor, array in expected.outputs.items():
            scale = max(float(np.abs(array).max()), 1.0)
            largest = max(largest, float(np.abs(answer.outputs[tensor] - array).max()) / scale)
    return largest


def _inputs(graph: GraphSpec, batch: int, seed: int) -> dict[str, npt.NDArray[np.generic]]:
    """Standard normal numbers, and 0 or 1 for integers: valid token ids and positions of every pack."""
    rng = np.random.default_rng(seed)
    return {
        spec.name: rng.standard_normal((batch, *spec.shape[1:]), dtype=np.float32)
        if spec.dtype == "float32"
        else rng.integers(0, 2, (batch, *spec.shape[1:]))
        for spec in graph.inputs
    }
