"""The step graph of a decoder as two graphs for a loop that stays in one process.

What depends on the image alone (keys and values of the cross-attention) is computed once for a report, not for every
token; and the cache is written where it lies instead of going in and out of every run as a whole. The two are used
only where they are found to give what the step graph gives.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from radserve.models.onnx_graph import OnnxGraph

if TYPE_CHECKING:
    import onnx

_CLOSE = 1e-4
_STEPS_COMPARED = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoopGraphs:
    """`start`: `image_tokens` (N, P, C) -> `seen_0` ...: what every step reads of the image.

    `step`: `token`, `position` (N, 1), `seen_*`, `slot_*` -> `logits` (N, V), `kept_*`: a slot is the keys or values of
    one layer, `kept_*` is that slot with this token's row in it, and both may be the same memory.
    """

    start: bytes
    step: bytes


def loop_graphs(model: bytes) -> LoopGraphs | None:
    """The two graphs of a step graph (bytes of an ONNX file); None where it is not built as they need it.

    That is so for a cache which is not read slot by slot and written at one position, or for weights of 16 bits; and
    where the package onnx is not installed.
    """
    try:
        graphs = _rebuilt(model)
        if _same(OnnxGraph(model), graphs):
            return graphs
        reason = "the rebuilt graphs give something else"
    except Exception as error:  # any graph that passes the checks of a pack is served, if need be as it is
        reason = f"{type(error).__name__}: {error}"
    logger.info("reports are decoded with the cache copied at every step: %s", reason)
    return None


def _rebuilt(model: bytes) -> LoopGraphs:
    import onnx  # not needed where no pack writes

    from radserve.models.triton import step_rules as rules

    whole = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
    whole = rules.without_unused_parts(rules.with_gelu(rules.with_slots(rules.folded(whole))))
    start, step = _split(onnx.shape_inference.infer_shapes(whole))
    return LoopGraphs(start.SerializeToString(), rules.in_rows(step).SerializeToString())


def _split(model: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """What depends on `image_tokens` and nothing else becomes a graph of its own."""
    from onnx import helper

    from radserve.models.triton.onnx_nodes import rebuilt

    graph = model.graph
    fixed = {each.name for each in graph.initializer}
    of_image, before, after = {"image_tokens"}, [], []
    for node in graph.node:
        needed = {name for name in node.input if name} - fixed
        if needed <= of_image:
            before.append(node)
            (of_image if needed else fixed).update(node.output)
        if not needed <= of_image or not needed:
            after.append(node)
    crossing = dict.fromkeys(name for node in after for name in node.input if name in of_image)
    seen = {name: f"seen_{number}" for number, name in enumerate(crossing)}
    types = {each.name: each.type.tensor_type for each in (*graph.value_info, *graph.input)}
    infos = []
    for name, short in seen.items():
        shape = [each.dim_value or each.dim_param for each in types[name].shape.dim]
        infos.append(helper.make_tensor_value_info(short, types[name].elem_type, ["batch", *shape[1:]]))
        before.append(helper.make_node("Identity", [name], [short]))
    for node in after:
        node.input[:] = [seen.get(name, name) for name in node.input]
    image = [each for each in graph.input if each.name == "image_tokens"]
    others = [each for each in graph.input if each.name != "image_tokens"]
    return rebuilt(model, before, inputs=image, outputs=infos), rebuilt(model, after, inputs=[*others, *infos])


def _same(original: OnnxGraph, graphs: LoopGraphs) -> bool:
    """Whether both give the same logits over some tokens, two texts side by side."""
    rng = np.random.default_rng(0)
    start, step = OnnxGraph(graphs.start), OnnxGraph(graphs.step)
    image_tokens = rng.standard_normal((2, *start.inputs["image_tokens"][1]), dtype=np.float32)
    seen = start.run({"image_tokens": image_tokens})
    slots = {name: np.zeros((2, *shape), np.float32) for name, (_, shape) in step.inputs.items() if "slot_" in name}
    cache = np.zeros((2, *original.inputs["cache"][1]), np.float32)
    for position in range(_STEPS_COMPARED):
        told = {"token": rng.integers(0, 2, (2, 1)), "position": np.full((2, 1), position)}
        expected = original.run({**told, "image_tokens": image_tokens, "cache": cache})
        found = step.run({**told, **seen, **slots})
        if not np.allclose(found["logits"], expected["logits"], rtol=_CLOSE, atol=_CLOSE):
            return False
        cache = expected["cache_out"]
        slots = {name: found[name.replace("slot_", "kept_")] for name in slots}
    return True
