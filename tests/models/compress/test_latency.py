"""What a run of a graph takes, by the clock that is given."""

from __future__ import annotations

import itertools

from radserve.models.compress.latency import latencies, timings_of
from radserve.models.pack import ModelPack


def test_times_of_every_graph_are_milliseconds_of_one_run_by_the_clock(pack: ModelPack) -> None:
    seconds = itertools.count()
    taken = latencies({"one": pack, "other": pack}, rounds=3, runs=4, clock=lambda: next(seconds))
    assert taken == {name: dict.fromkeys(timings_of(pack), 250.0) for name in ("one", "other")}
    assert next(seconds) == 2 * 3 * 2 * len(timings_of(pack))


def test_packs_take_turns_within_a_round(pack: ModelPack) -> None:
    lengths = itertools.cycle([1.0, 3.0])  # seconds of the first pack's turn and of the second's
    moments = (moment for start in itertools.count(0, 10) for moment in (start, start + next(lengths)))
    taken = latencies({"one": pack, "other": pack}, rounds=2, runs=1, clock=lambda: next(moments))
    assert set(taken["one"].values()) == {1000.0} and set(taken["other"].values()) == {3000.0}
