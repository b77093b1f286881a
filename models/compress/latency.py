"""How long the graphs of packs take, measured in turns: a machine that is busy is busy for all of them.

A session has one thread, the caller's, so its processor time is that of the run, whoever else wants the processor.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import DECODER_STEP, ModelPack

Timing = tuple[str, int]
"""A graph and a batch."""
ROUNDS, RUNS = 15, 20


def timings_of(pack: ModelPack) -> tuple[Timing, ...]:
    """What is timed: every image encoder with one image and with eight, and a step of the decoder."""
    encoders = dict.fromkeys(use.image_encoder for use in pack.inputs if pack.encodes(use))
    steps = ((DECODER_STEP, 1),) if DECODER_STEP in pack.graphs else ()
    return (*((name, batch) for name in encoders for batch in (1, 8)), *steps)


def latencies(
    packs: Mapping[str, ModelPack],
    rounds: int = ROUNDS,
    runs: int = RUNS,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, dict[Timing, float]]:
    """Milliseconds of one run of each graph, on one thread: the median of rounds in which all packs take turns.

    `clock` gives seconds: of the processor, or on the wall (time.perf_counter), which a busy machine stretches.
    """
    in_all = set[Timing].intersection(*(set(timings_of(pack)) for pack in packs.values()))
    timings = sorted(in_all)
    ready = {}
    for name, pack in packs.items():
        graphs = {graph: OnnxGraph(pack.read(graph)) for graph, _ in timings}
        ready[name] = {each: (graphs[each[0]], _inputs(pack, *each)) for each in timings}
    taken: dict[str, dict[Timing, list[float]]] = {name: {each: [] for each in timings} for name in packs}
    for _ in range(rounds):
        for each in timings:
            for name in packs:
                graph, given = ready[name][each]
                started = clock()
                for _ in range(runs):
                    graph.run(given)
                taken[name][each].append((clock() - started) * 1e3 / runs)
    return {name: {each: statistics.median(times) for each, times in of.items()} for name, of in taken.items()}


def _inputs(pack: ModelPack, graph: str, batch: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        spec.name: rng.standard_normal((batch, *spec.shape[1:]), dtype=np.float32)
        if spec.dtype == "float32"
        else rng.integers(0, 2, (batch, *spec.shape[1:]))
        for spec in pack.graphs[graph].inputs
    }
