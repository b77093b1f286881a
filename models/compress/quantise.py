"""Graphs with 8-bit weights, or 16-bit floating point, by ONNX Runtime's tools. Inputs and outputs stay as they are."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_dynamic,
    quantize_static,
)

from radserve.errors import ErrorCode, PackError
from radserve.models.compress.fold import fold_batch_norms
from radserve.models.compress.samples import FloatArray

PERCENTILE = 99.99


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """The calibration images, one batch at a time."""

    def __init__(self, name: str, pixels: FloatArray, size: int = 16) -> None:
        parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        self._batches: Iterator[Mapping[str, Any]] = iter([{name: part} for part in parts])

    def get_next(self) -> Mapping[str, Any] | None:
        return next(self._batches, None)


def int8_dynamic(graph: bytes) -> bytes:
    """Weights of matrix products and convolutions as 8 bits; activations are scaled anew at every run.

    Unsigned weights: ONNX Runtime's ConvInteger on the CPU takes no signed ones.
    """
    with _tools() as folder:
        source, target = _prepared(graph, folder)
        quantize_dynamic(source, target, weight_type=QuantType.QUInt8)
        return _numbered(target)


def int8_static(graph: bytes, pixels: FloatArray) -> bytes:
    """Weights per channel and activations as 8 bits, with ranges found on `pixels` (N, C, rows, columns).

    A range holds PERCENTILE of the values: the extremes of a few images would make the steps of all others coarse. All
    activations of the pixels are in memory at once.
    """
    name = _single_input(graph)
    with _tools() as folder:
        source, target = _prepared(graph, folder)
        quantize_static(
            source,
            target,
            _Batches(name, pixels),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE},
        )
        return _numbered(target)


def fp16(graph: bytes) -> bytes:
    """Weights and arithmetic as 16-bit floating point.

    ONNX Runtime's optimiser ends the whole process on some such graphs, so each form is opened in a process of its own
    first: all of it in 16 bits, then all but layer normalisation. Raises PACK_INVALID when neither opens.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    for kept in ([], ["LayerNormalization"]):
        model = onnx.load_model_from_string(graph)
        blocked = [*DEFAULT_OP_BLOCK_LIST, *kept]
        converted = convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked)
        made = stripped(converted.SerializeToString())  # as it will be served: that decides whether it opens
        if _opens(made):
            return made
    raise PackError(ErrorCode.PACK_INVALID, "ONNX Runtime opens no 16-bit form of a graph of the pack")


def stripped(graph: bytes) -> bytes:
    """The graph without what the exporter noted about its sources: texts and stack traces."""
    model = onnx.load_model_from_string(graph)
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for part in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    return bytes(model.SerializeToString())


def _numbered(path: Path) -> bytes:
    """The graph with numbers for the names of its inner values, which in a quantised one are some 5 % of the bytes."""
    model = onnx.load(path)
    graph = model.graph
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return path.read_bytes()  # graphs inside know the names of those around them
    graph.ClearField("value_info")
    kept = {each.name for each in (*graph.input, *graph.output)} | {""}
    made = [name for node in graph.node for name in node.output] + [each.name for each in graph.initializer]
    inner = [name for name in dict.fromkeys(made) if name not in kept]
    free = (f"{number:x}" for number in itertools.count() if f"{number:x}" not in kept)
    short = dict(zip(inner, free, strict=False))
    for node in graph.node:
        node.ClearField("name")
        for names in (node.input, node.output):
            names[:] = [short.get(name, name) for name in names]
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
    return bytes(model.SerializeToString())


def _opens(graph: bytes) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(graph)
        code = (
            "import pathlib, sys; from radserve.models.onnx_graph import OnnxGraph;"
            "OnnxGraph(pathlib.Path(sys.argv[1]).read_bytes())"
        )
        run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=False)
        return run.returncode == 0


@contextlib.contextmanager
def _tools() -> Iterator[Path]:
    """A folder for ONNX Runtime's tools, which print and log what they do. Raises PACK_INVALID for what they refuse."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            yield Path(folder)
    except Exception as error:  # the tools have no error of their own
        message = "ONNX Runtime's tools cannot make 8 bits of a graph of the pack"
        raise PackError(
            ErrorCode.PACK_INVALID, message, detail=f"{message}: {type(error).__name__}: {error}"
        ) from error
    finally:
        logging.disable(disabled)


def _prepared(graph: bytes, folder: Path) -> tuple[Path, Path]:
    """The graph with its shapes inferred, on disk where the tools want it, and the path of the result.

    Batch normalisation is folded here: ONNX Runtime's own step gives each run of shared weights a copy of them.
    """
    raw, source = folder / "raw.onnx", folder / "source.onnx"
    raw.write_bytes(fold_batch_norms(onnx.load_model_from_string(graph)).SerializeToString())
    quant_pre_process(raw, source, skip_symbolic_shape=True)
    onnx.save(_free_weights_of_products(onnx.load(source)), source)
    return source, folder / "target.onnx"


def _free_weights_of_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with weights for each Gemm that nothing else reads and whose shape is stated once: the tools transpose
    them where they stand, and take what is then wrong elsewhere for a fault of the graph."""
    graph = model.graph
    weights = {each.name: each for each in graph.initializer}
    stated = [each for each in graph.value_info if each.name not in weights]
    graph.ClearField("value_info")
    graph.value_info.extend(stated)
    readers = Counter(name for node in graph.node for name in node.input)
    for index, node in enumerate(graph.node):
        if node.op_type == "Gemm" and node.input[1] in weights and readers[node.input[1]] > 1:
            own = graph.initializer.add()
            own.CopyFrom(weights[node.input[1]])
            own.name = node.input[1] = f"{own.name}_of_{index}"
    return model


def _single_input(graph: bytes) -> str:
    model = onnx.load_model_from_string(graph)
    weights = {each.name for each in model.graph.initializer}
    (name,) = [each.name for each in model.graph.input if each.name not in weights]
    return str(name)
