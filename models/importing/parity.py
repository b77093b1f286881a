"""The gate of an import: ONNX Runtime gives what PyTorch gives, for more than one batch size, or there is no pack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from radserve.models.export.onnx_graphs import OPSET, GraphPlan
from radserve.models.importing.imported import refused
from radserve.models.onnx_graph import OnnxGraph

TOLERANCE = 1e-4  # of the largest value of an output, at least of 1
LEAST_COSINE = 0.999  # of half precision
BATCHES = (1, 3)
PIXELS = "pixels"  # the input that takes images, in the graphs of all kinds


@dataclass(frozen=True, slots=True)
class OutputParity:
    """One output on seeded inputs: largest absolute difference and value, least cosine, share of equal top entries."""

    graph: str
    output: str
    max_abs_diff: float
    max_abs_value: float
    least_cosine: float
    same_top_1: float

    def passes(self, precision: str) -> bool:
        # `not (x > tolerance)` would let NaN through.
        if precision == "fp32":
            return self.max_abs_diff <= TOLERANCE * max(1.0, self.max_abs_value)
        return self.least_cosine >= LEAST_COSINE


def check_parity(
    plans: Sequence[GraphPlan], folder: Path, precision: str, scripted: frozenset[str], value_range: tuple[float, float]
) -> dict[str, Any]:
    """Compare the graphs in `folder` with their modules, write parity.json and return what it says.

    `value_range` is that of prepared pixels: half precision that overflows there has to be seen here. Raises PackError
    PACK_INVALID with the figures where they differ.
    """
    found = [each for plan in plans for each in compare(plan, folder / plan.file_name, value_range)]
    record: dict[str, Any] = {
        "reference": "PyTorch, fp32",
        "opset": OPSET,
        "precision": precision,
        "exporter": {plan.name: "TorchScript" if plan.name in scripted else "torch.export" for plan in plans},
        "batches": list(BATCHES),
        "tolerance": TOLERANCE if precision == "fp32" else None,
        "least_cosine_wanted": None if precision == "fp32" else LEAST_COSINE,
        "outputs": [asdict(each) for each in found],
    }
    if wrong := [each for each in found if not each.passes(precision)]:
        raise refused(f"ONNX and PyTorch differ: {json.dumps([asdict(each) for each in wrong])}")
    (folder / "parity.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


@torch.inference_mode()
def compare(plan: GraphPlan, path: Path, value_range: tuple[float, float], seed: int = 7) -> list[OutputParity]:
    """The outputs of a graph and of its module on seeded inputs, over all batch sizes."""
    graph = OnnxGraph(path.read_bytes())
    pairs: dict[str, list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]] = {name: [] for name in plan.outputs}
    for batch in BATCHES:
        inputs = _seeded(plan, batch, value_range, seed)
        expected = plan.module(*inputs.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        given = graph.run({name: tensor.numpy() for name, tensor in inputs.items()})
        for name, reference in zip(plan.outputs, expected, strict=True):
            pairs[name].append((given[name], reference.numpy()))
    return [_parity(plan.name, name, both) for name, both in pairs.items()]


def _parity(graph: str, output: str, both: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> OutputParity:
    one = np.concatenate([given.reshape(len(given), -1) for given, _ in both]).astype(np.float64)
    other = np.concatenate([reference.reshape(len(reference), -1) for _, reference in both]).astype(np.float64)
    with np.errstate(invalid="ignore"):  # what is no number stays none, and passes nothing
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosines = (one * other).sum(axis=1) / np.where(lengths == 0, 1, lengths)
    cosines[(one == other).all(axis=1)] = 1.0  # also of two rows of zeros
    return OutputParity(
        graph=graph,
        output=output,
        max_abs_diff=float(np.abs(one - other).max()),
        max_abs_value=float(np.abs(other).max()),
        least_cosine=float(cosines.min()),
        same_top_1=float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
    )


def _seeded(plan: GraphPlan, batch: int, value_range: tuple[float, float], seed: int) -> dict[str, torch.Tensor]:
    generator, (low, high) = torch.Generator().manual_seed(seed + batch), value_range
    made = {}
    for name, example in plan.inputs.items():
        shape = (batch, *example.shape[1:])
        if example.dtype == torch.int64:
            made[name] = torch.randint(1, 8, shape, generator=generator)  # token ids and positions that all models have
        elif name == PIXELS:
            made[name] = low + (high - low) * torch.rand(shape, generator=generator)
        else:
            made[name] = torch.randn(shape, generator=generator)
    return made
