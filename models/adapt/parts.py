"""What an adapter puts into a pack, by its method: a graph more, learned prompts, or examples beside the score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from radserve.models.adapt.adapter_file import Adapter
from radserve.models.adapt.head_graph import LOGIT, head_graph
from radserve.models.adapt.heads import LinearHead
from radserve.models.adapt.low_rank import from_tensors, merged
from radserve.models.pack import IMAGE_ENCODER, GraphSpec, ModelPack
from radserve.models.pack_files import invalid
from radserve.models.pack_types import OutputScoring

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """What changes in the base: a graph of its own (`graph`, its bytes, and the graph whose table it takes), how the
    label is scored (None: as before), its entry in prompts.toml, and its table of examples."""

    graph: str = ""
    content: bytes = b""
    like: str = IMAGE_ENCODER
    scoring: Table | None = None
    prompts: Table | None = None
    exemplars: Table | None = None
    files: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))


def parts_of(base: ModelPack, adapter: Adapter) -> Parts:
    """The parts of an adapter for its base. Raises PACK_INVALID naming a tensor of the wrong shape, or another base."""
    adapter.check_base(base)
    makers: dict[str, Callable[[ModelPack, Adapter], Parts]] = {
        "logistic": _head,
        "prototype": _head,
        "low-rank": _low_rank,
        "context-vectors": _context,
        "exemplars": _exemplars,
    }
    if adapter.method not in makers:
        raise invalid(f"adapter: method {adapter.method!r} is not one of {sorted(makers)}")
    return makers[adapter.method](base, adapter)


def _head(base: ModelPack, adapter: Adapter) -> Parts:
    head = LinearHead(_vector(base, adapter, "weight"), float(_bias(adapter)))
    encoder, name = _encoder(base, adapter), f"head_{adapter.slug}"
    graph, heat_map = head_graph(onnx.load_model_from_string(base.read(encoder.name)), encoder, head)
    return Parts(graph=name, content=graph, like=encoder.name, scoring=_scoring(name, heat_map))


def _low_rank(base: ModelPack, adapter: Adapter) -> Parts:
    name, like = f"tower_{adapter.slug}", str(adapter.told("graph"))
    if like not in base.graphs:
        raise invalid(f"adapter: the pack has no graph {like!r}")
    changes = from_tensors(adapter.tensors, "image")
    model = merged(onnx.load_model_from_string(base.read(like)), changes, _number(adapter, "factor"))
    if "weight" in adapter.tensors:  # behind an embedding: the prompts' direction
        head = LinearHead(_vector(base, adapter, "weight"), float(_bias(adapter)))
        encoder = _encoder(base, adapter)
        content, heat_map = head_graph(model, encoder, head)
        return Parts(graph=name, content=content, like=encoder.name, scoring=_scoring(name, heat_map))
    scoring = base.label(adapter.label).scoring
    if not isinstance(scoring, OutputScoring):
        raise invalid("adapter: has no direction for a label that is scored by prompts")
    stated = {each: getattr(scoring, each) for each in ("kind", "output", "index", "activation", "map")}
    return Parts(graph=name, content=model.SerializeToString(), like=like, scoring={**stated, "graph": name})


def _context(base: ModelPack, adapter: Adapter) -> Parts:
    del base  # the pack that comes of it checks the learned texts when it is read
    prompts = {**_table(adapter, "prompts"), "learned": adapter.file_name}
    return Parts(scoring=_table(adapter, "scoring"), prompts=prompts)


def _exemplars(base: ModelPack, adapter: Adapter) -> Parts:
    if base.label(adapter.label).exemplars:
        raise invalid(f"label {adapter.label!r} has exemplars already: start from the pack without")
    weights = {name: adapter.told(name) for name in ("alpha", "beta", "shown")}
    return Parts(exemplars={"file": adapter.file_name, **weights})


def _table(adapter: Adapter, name: str) -> Table:
    found = adapter.told(name)
    if not isinstance(found, dict):
        raise invalid(f"adapter: {name}: expected a table")
    return dict(found)


def _number(adapter: Adapter, name: str) -> float:
    found = adapter.told(name)
    if not isinstance(found, int | float) or not np.isfinite(found):
        raise invalid(f"adapter: {name}: expected a finite number")
    return float(found)


def _scoring(graph: str, heat_map: str) -> Table:
    stated: Table = {"kind": "output", "graph": graph, "output": LOGIT, "index": 0, "activation": "sigmoid"}
    return {**stated, "map": heat_map} if heat_map else stated


def _vector(base: ModelPack, adapter: Adapter, name: str) -> npt.NDArray[np.float64]:
    width = _encoder(base, adapter).tensor("embedding").shape[1]
    given = adapter.tensors.get(name)
    if given is None or given.shape != (width,) or not np.isfinite(given).all():
        got = "nothing" if given is None else f"{given.dtype} {given.shape}"
        raise invalid(f"adapter: {name}: got {got}, expected finite ({width},), as the image encoder's embedding")
    return np.asarray(given, dtype=np.float64)


def _encoder(base: ModelPack, adapter: Adapter) -> GraphSpec:
    use = base.input(adapter.input)
    if not base.encodes(use):
        raise invalid("adapter: the pack has no image encoder")
    return base.graphs[use.image_encoder]


def _bias(adapter: Adapter) -> np.float64:
    given = adapter.tensors.get("bias")
    if given is None or given.shape != (1,) or not np.isfinite(given).all():
        raise invalid("adapter: bias: expected one finite number")
    return np.float64(given[0])
