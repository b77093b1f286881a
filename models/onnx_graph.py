"""One ONNX graph in ONNX Runtime on the CPU: same input, same output, whatever else is in the batch.

Needs numpy and onnxruntime only and imports nothing of radserve: this file is copied into the Triton model repository
and runs inside Triton's Python backend as well as in the in-process runner, so both give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Tensors = Mapping[str, npt.NDArray[Any]]

_PROBE_BATCH, _PROBE_SIZES = 16, (1, 2, 3, 4, 7)
_IMAGE_AXES = 3  # channels, rows, columns; more are a volume, which gains nothing by sharing a run
_NUMPY_TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32"}


class OutputError(ValueError):
    """The graph gave something other than what it declares."""


class OnnxGraph:
    """A session over the bytes of an ONNX file (never a path: nothing outside the file is read).

    Kernels may add up in another order for another batch size, so the same image could get other last bits under load.
    `joint` says whether this graph was found to be free of that on this machine: then a batch is one run; otherwise
    every row is a run of its own.
    """

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        # One level less than all: what the last one adds is for float16 alone, and there it crashes the process on
        # transformers (onnxruntime 1.31.1; much like their issue 26717). Graphs of float32 come out the same.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_LAYOUT
        # Idle threads that spin would take the cores from the other graphs and from the service.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.inputs = {each.name: (each.type, each.shape[1:]) for each in self._session.get_inputs()}
        self.outputs = {each.name: (each.type, each.shape[1:]) for each in self._session.get_outputs()}
        self.joint = self._batch_equals_its_rows()

    def run(self, inputs: Tensors, options: ort.RunOptions | None = None) -> dict[str, npt.NDArray[Any]]:
        """Run a batch, first axis first; raises OutputError when an output is not of the declared dtype and shape."""
        batch = len(next(iter(inputs.values())))
        if batch == 1 or self.joint:
            return self._run(inputs, options)
        rows = [self._run(_part(inputs, row, row + 1), options) for row in range(batch)]
        return {name: np.concatenate([row[name] for row in rows]) for name in self.outputs}

    def bound(self, inputs: Tensors, outputs: Tensors) -> Callable[[], None]:
        """A run that reads `inputs` and writes `outputs` where they lie, as often as it is called.

        The arrays are contiguous, of the declared dtypes and shapes, all outputs among them; one may be both, where the
        graph may write into its input. Raises OutputError for an output that is not as declared.
        """
        binding, held = self._session.io_binding(), {}
        for arrays, bind in ((inputs, binding.bind_ortvalue_input), (outputs, binding.bind_ortvalue_output)):
            for name, array in arrays.items():
                if id(array) not in held:
                    held[id(array)] = (ort.OrtValue.ortvalue_from_numpy(array), array)
                bind(name, held[id(array)][0])
        batch = len(next(iter(inputs.values())))
        for name, (kind, shape) in self.outputs.items():
            check_output(name, outputs[name], (batch, *shape), _NUMPY_TYPES[kind])

        def run(held: Any = held) -> None:  # the binding does not keep the memory alive
            self._session.run_with_iobinding(binding)

        return run

    def _run(self, inputs: Tensors, options: ort.RunOptions | None = None) -> dict[str, npt.NDArray[Any]]:
        batch = len(next(iter(inputs.values())))
        results = self._session.run(list(self.outputs), dict(inputs), options)
        outputs = dict(zip(self.outputs, results, strict=True))
        for name, array in outputs.items():
            kind, shape = self.outputs[name]
            check_output(name, array, (batch, *shape), _NUMPY_TYPES[kind])
        return outputs

    def _batch_equals_its_rows(self) -> bool:
        """Compare batches of several sizes with a larger one, bit by bit; warms the session up on the way.

        Volumes are not tried: the probe would take gigabytes.
        """
        if any(len(shape) > _IMAGE_AXES for _, shape in self.inputs.values()):
            return False
        rng = np.random.default_rng(0)
        inputs = {
            # 0 and 1 are valid token ids and positions of every pack.
            name: rng.standard_normal((_PROBE_BATCH, *shape), dtype=np.float32)
            if kind == "tensor(float)"
            else rng.integers(0, 2, (_PROBE_BATCH, *shape)).astype(_NUMPY_TYPES[kind])
            for name, (kind, shape) in self.inputs.items()
        }
        whole = self._run(inputs)
        for size in _PROBE_SIZES:
            part = self._run(_part(inputs, 0, size))
            if any(array.tobytes() != whole[name][:size].tobytes() for name, array in part.items()):
                return False
        return True


def _part(inputs: Tensors, start: int, end: int) -> dict[str, npt.NDArray[Any]]:
    return {name: array[start:end] for name, array in inputs.items()}


def check_output(name: str, array: npt.NDArray[Any], shape: tuple[int, ...], dtype: str) -> None:
    """Raise OutputError unless `array` has this shape and dtype and holds all its data."""
    if array.shape != shape or str(array.dtype) != dtype or array.nbytes != array.dtype.itemsize * int(np.prod(shape)):
        raise OutputError(f"output {name!r}: got {array.dtype} {array.shape}, expected {dtype} {shape}")
