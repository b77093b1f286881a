"""The step graph of a decoder as graphs for a loop that stays in one process.

They are built anew from its weights. What depends on the image alone (keys and values of the cross-attention) is
computed once for a report, not for every token; and the cache is written where it lies instead of going in and out of
every run as a whole. They are used only where they are found to give what the step graph gives.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from radserve.models.onnx_graph import OnnxGraph

_CLOSE = 1e-4
_STEPS_COMPARED = 3
LEAP = 6

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoopGraphs:
    """`start`: `image_tokens` (N, P, C) -> `seen_0` ...: what every step reads of the image.

    `step`: `token`, `position` (N,) int32, `seen_*`, `slot_*` -> `logits` (N, V), `kept_*`: a slot is the keys or
    values of one layer, `kept_*` is that slot with this token's row in it, and both may be the same memory. Of a slot
    the rows up to `position` are read.

    `leap`: as `step` with LEAP tokens of each text in one run: `token`, `position` (N, LEAP) -> `logits` (N, LEAP, V).
    """

    start: bytes
    step: bytes
    leap: bytes


def loop_graphs(model: bytes) -> LoopGraphs | None:
    """The graphs of a step graph (bytes of an ONNX file); None where it is not built as they need it.

    That is so for a network other than models/train/decoder_step.py, for weights that are not of 32 bits, and where the
    package onnx is not installed.
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

    from radserve.models.triton.decoder_graph import start_graph, step_graph
    from radserve.models.triton.step_weights import step_weights

    whole = onnx.load_from_string(model)
    weights = step_weights(whole)
    image = next(each.type.tensor_type.shape.dim for each in whole.graph.input if each.name == "image_tokens")
    patches, channels = (each.dim_value for each in image[1:])
    step, leap = (step_graph(weights, patches, tokens) for tokens in (1, LEAP))
    return LoopGraphs(start_graph(weights, patches, channels), step, leap)


def _same(original: OnnxGraph, graphs: LoopGraphs) -> bool:
    """Whether both give the same logits over some tokens, two texts side by side."""
    rng = np.random.default_rng(0)
    start, step = OnnxGraph(graphs.start), OnnxGraph(graphs.step)
    image_tokens = rng.standard_normal((2, *start.inputs["image_tokens"][1]), dtype=np.float32)
    seen = start.run({"image_tokens": image_tokens})
    slots = {name: np.zeros((2, *shape), np.float32) for name, (_, shape) in step.inputs.items() if "slot_" in name}
    cache = np.zeros((2, *original.inputs["cache"][1]), np.float32)
    for position in range(_STEPS_COMPARED):
        told = {"token": rng.integers(0, 2, 2), "position": np.full(2, position)}
        columns = {name: each[:, np.newaxis] for name, each in told.items()}
        expected = original.run({**columns, "image_tokens": image_tokens, "cache": cache})
        found = step.run({**{name: each.astype(np.int32) for name, each in told.items()}, **seen, **slots})
        if not np.allclose(found["logits"], expected["logits"], rtol=_CLOSE, atol=_CLOSE):
            return False
        cache = expected["cache_out"]
        slots = {name: found[name.replace("slot_", "kept_")] for name in slots}
    return True
