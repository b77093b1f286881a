"""The Python backend's model, with a small stand-in for the module that exists inside Triton's stub only."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from radserve.models.pack import ModelPack, load_pack
from radserve.models.triton.repository import write_repository
from tests.support.packs import CONTEXT, make_tiny_pack, random_inputs
from tests.support.triton import Response, Tensor


@dataclass
class Request:
    inputs: dict[str, np.ndarray]
    cancelled: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def is_cancelled(self) -> bool:
        return self.cancelled


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model.py of a written repository, loaded as Triton's stub does: its own folder on sys.path."""
    pack = load_pack(make_tiny_pack(tmp_path / "tiny"))
    write_repository([pack], tmp_path / "models")
    utils = ModuleType("triton_python_backend_utils")
    utils.__dict__.update(
        Tensor=Tensor,
        InferenceResponse=Response,
        TritonError=str,
        get_input_tensor_by_name=lambda request, name: Tensor(name, request.inputs[name]),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    monkeypatch.delitem(sys.modules, "onnx_graph", raising=False)
    folder = tmp_path / "models" / "tiny--1.0.0--text_encoder" / "1"
    monkeypatch.syspath_prepend(str(folder))
    spec = spec_from_file_location("backend_under_test", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module, utils, pack
    sys.modules.pop("onnx_graph", None)


def start(module: Any) -> Any:
    model = module.TritonPythonModel()
    model.initialize({"model_config": json.dumps({"parameters": {"intra_op_threads": {"string_value": "1"}}})})
    return model


def tokens(pack: ModelPack, batch: int, seed: int) -> dict[str, np.ndarray]:
    return random_inputs(pack.graphs["text_encoder"].inputs, batch, seed)


def test_joined_requests_get_their_own_rows_back(backend: Any) -> None:
    module, _, pack = backend
    model = start(module)
    requests = [Request(tokens(pack, size, size)) for size in (1, 3, 2)]
    joined = model.execute(requests)
    for request, response in zip(requests, joined, strict=True):
        (alone,) = model.execute([request])
        assert response.error is None
        np.testing.assert_array_equal(response.tensors[0].array, alone.tensors[0].array)
        assert len(response.tensors[0].array) == len(request.inputs["tokens"])


def test_a_request_that_makes_the_run_fail_fails_alone(backend: Any) -> None:
    module, _, pack = backend
    model = start(module)
    bad = Request({"tokens": np.full((1, CONTEXT), 10_000, np.int64)})
    first, refused, last = model.execute([Request(tokens(pack, 1, 1)), bad, Request(tokens(pack, 1, 2))])
    assert refused.error
    assert not refused.tensors
    assert first.error is None
    assert last.error is None


def test_a_cancelled_request_is_not_run(backend: Any) -> None:
    module, _, pack = backend
    model = start(module)
    answered, cancelled = model.execute([Request(tokens(pack, 1, 1)), Request(tokens(pack, 1, 2), cancelled=True)])
    assert answered.error is None
    assert cancelled.error == "cancelled"
    assert [each.error for each in model.execute([Request(tokens(pack, 1, 2), cancelled=True)])] == ["cancelled"]


def test_numpy_2_is_refused_on_start(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, _ = backend
    monkeypatch.setattr(module.np, "__version__", "2.1.0")
    with pytest.raises(RuntimeError, match=r"numpy 2\.1\.0"):
        start(module)


def test_a_tensor_that_comes_out_empty_is_an_error_not_an_answer(backend: Any) -> None:
    module, utils, pack = backend
    model = start(module)
    utils.Tensor = lambda name, array: Tensor(name, array[:0])  # what the backend does under numpy 2
    (response,) = model.execute([Request(tokens(pack, 1, 1))])
    assert "OutputError" in response.error


def test_a_graph_that_is_not_what_it_declares_does_not_start(backend: Any, tmp_path: Path) -> None:
    module, _, _ = backend
    folder = tmp_path / "models"
    shutil.copyfile(
        folder / "tiny--1.0.0--text_encoder" / "config.pbtxt", folder / "tiny--1.0.0--text_encoder" / "1" / "model.onnx"
    )
    with pytest.raises(Exception, match="model"):
        start(module)
