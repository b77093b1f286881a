"""Writes packs as a Triton model repository: name/config.pbtxt and name/version/model.onnx for every graph."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from radserve.models import onnx_graph
from radserve.models.pack import GraphSpec, ModelPack
from radserve.models.triton import backend_model
from radserve.models.triton.config import ServingOptions, config_text
from radserve.tensors import ModelRef

MODEL_FILE = "model.onnx"


def write_repository(
    packs: Iterable[ModelPack], folder: Path, options: ServingOptions | None = None
) -> tuple[ModelRef, ...]:
    """Write every graph of `packs` below `folder` and return the models, in the order written.

    Models of the same names are replaced, others left alone.
    Raises PACK_HASH_MISMATCH when a graph was altered after its pack was loaded.
    """
    written = []
    for pack in packs:
        for name, graph in pack.graphs.items():
            model = pack.model(name)
            _write_model(folder, model, graph, pack.read(name), options or ServingOptions())
            written.append(model)
    return tuple(written)


def _write_model(folder: Path, model: ModelRef, graph: GraphSpec, onnx: bytes, options: ServingOptions) -> None:
    target, fresh = folder / model.name, folder / f".{model.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    version = fresh / str(model.version)
    version.mkdir(parents=True)
    (version / MODEL_FILE).write_bytes(onnx)
    if options.backend == "python":
        # The backend's process must not need radserve: it gets the sources themselves.
        shutil.copyfile(backend_model.__file__, version / "model.py")
        shutil.copyfile(onnx_graph.__file__, version / "onnx_graph.py")
    (fresh / "config.pbtxt").write_text(config_text(model, graph, options))
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
