"""Writes packs as a Triton model repository: name/config.pbtxt and name/version/model.onnx for every graph.

For plans the version folders stay empty: the script that stands beside the repository fills them on a GPU node.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from radserve.models import onnx_graph
from radserve.models.decoding import batch, constraint, guesses, in_place, search
from radserve.models.pack import DECODER_STEP, GraphSpec, ModelPack
from radserve.models.tokenizer import pack_tokenizer
from radserve.models.triton import backend_model, loop_model
from radserve.models.triton.config import ServingOptions, config_text, loop_config_text
from radserve.models.triton.config_check import CONFIG_FILE, MODEL_FILE, check_config
from radserve.models.triton.loop_graphs import loop_graphs
from radserve.tensors import ModelRef

VOCABULARY_FILE = "vocabulary.json"
LOOP = "decoder_loop"


def loop_of(pack: ModelPack) -> ModelRef:
    """How a model server knows the model that writes whole reports of a pack."""
    return ModelRef(f"{pack.name}--{pack.version}--{LOOP}", pack.model_version)


def models_of(pack: ModelPack, options: ServingOptions) -> tuple[ModelRef, ...]:
    """The models that a pack is served as."""
    loop = (loop_of(pack),) if options.decoder_loop and DECODER_STEP in pack.graphs else ()
    return (*pack.models, *loop)


def write_repository(
    packs: Iterable[ModelPack], folder: Path, options: ServingOptions | None = None
) -> tuple[ModelRef, ...]:
    """Write every graph of `packs` below `folder` and return the models, in the order written.

    Models of the same names are replaced, others left alone.
    Raises PACK_HASH_MISMATCH when a graph was altered after its pack was loaded.
    """
    options = options or ServingOptions()
    written: list[ModelRef] = []
    for pack in packs:
        for name, graph in pack.graphs.items():
            _write_model(folder, pack.model(name), graph, pack.read(name), options)
        if loop_of(pack) in models_of(pack, options):
            _write_loop(folder, pack, options)
        written += models_of(pack, options)
    return tuple(written)


def _write_model(folder: Path, model: ModelRef, graph: GraphSpec, onnx: bytes, options: ServingOptions) -> None:
    with _replaced(folder, model) as version:
        if options.backend != "tensorrt":
            (version / MODEL_FILE).write_bytes(onnx)
        if options.backend == "python":
            # The backend's process must not need radserve: it gets the sources themselves.
            _copy_sources(version, backend_model, onnx_graph)
        text = config_text(model, graph, options)
        check_config(text, model, graph)
        (version.parent / CONFIG_FILE).write_text(text)


def _write_loop(folder: Path, pack: ModelPack, options: ServingOptions) -> None:
    model = loop_of(pack)
    with _replaced(folder, model) as version:
        for name, graph in _loop_files(pack.read(DECODER_STEP)).items():
            (version / name).write_bytes(graph)
        tokenizer = pack_tokenizer(pack)
        words = tokenizer.words if tokenizer else ()
        (version / VOCABULARY_FILE).write_text(json.dumps(words), encoding="utf-8")
        _copy_sources(version, loop_model, onnx_graph, batch, constraint, guesses, in_place, search)
        config = loop_config_text(model, pack.graphs[DECODER_STEP], options)
        (version.parent / CONFIG_FILE).write_text(config)


def _loop_files(step: bytes) -> dict[str, bytes]:
    """The graphs that the loop runs, by file name: those for a cache in place, or the step graph itself."""
    graphs = loop_graphs(step)
    if graphs is None:
        return {MODEL_FILE: step}
    files = (loop_model.START_FILE, loop_model.STEP_FILE, loop_model.LEAP_FILE)
    return dict(zip(files, (graphs.start, graphs.step, graphs.leap), strict=True))


@contextmanager
def _replaced(folder: Path, model: ModelRef) -> Iterator[Path]:
    """The version folder of a model that takes the place of one of the same name once it is whole."""
    target, fresh = folder / model.name, folder / f".{model.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    version = fresh / str(model.version)
    version.mkdir(parents=True)
    yield version
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _copy_sources(version: Path, model: ModuleType, *beside: ModuleType) -> None:
    shutil.copyfile(str(model.__file__), version / "model.py")
    for module in beside:
        shutil.copyfile(str(module.__file__), version / Path(str(module.__file__)).name)
