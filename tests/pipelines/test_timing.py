"""When a study is complete, and how long is waited before a next attempt."""

from __future__ import annotations

import pytest

from radserve.errors import RadserveError
from radserve.pipelines.timing import CompletionPolicy, RetryPolicy
from radserve.work import OpenStudy, Signal


@pytest.mark.parametrize(
    ("opened", "last", "stored", "signal", "expected", "incomplete"),
    [
        (0, 0, 3, Signal.NONE, None, None),
        (-59, -59, 3, Signal.NONE, None, None),
        (-60, -60, 3, Signal.NONE, None, False),
        (-599, -1, 3, Signal.NONE, None, None),
        (-600, -1, 3, Signal.NONE, None, True),
        (-600, -60, 3, Signal.NONE, None, False),
        (0, 0, 3, Signal.COMPLETE, None, False),
        (0, 0, 3, Signal.COMPLETE, 3, False),
        (0, 0, 3, Signal.COMPLETE, 4, None),
        (-60, -60, 3, Signal.COMPLETE, 4, True),
        (-60, -60, 3, Signal.INTERRUPTED, None, True),
        (-30, -30, 3, Signal.INTERRUPTED, None, None),
    ],
)
def test_a_study_is_closed_by_quiet_by_signal_or_by_the_cap(
    opened: float, last: float, stored: int, signal: Signal, expected: int | None, incomplete: bool | None
) -> None:
    study = OpenStudy("1.2", 1000.0 + opened, 1000.0 + last, stored, signal, expected)
    assert CompletionPolicy(60, 600).incomplete(study, 1000.0) is incomplete


@pytest.mark.parametrize("bad", [(-1, 5), (10, 5)])
def test_a_policy_that_makes_no_sense_is_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(RadserveError, match="quiet_s <= cap_s"):
        CompletionPolicy(*bad)


def test_waits_grow_up_to_a_bound_and_are_cut_at_random() -> None:
    full = RetryPolicy(first_s=2, factor=4, most_s=100, random=lambda: 0.0)
    assert [full.wait_s(attempt) for attempt in (1, 2, 3, 4, 5000)] == [2, 8, 32, 100, 100]
    cut = RetryPolicy(first_s=2, factor=4, most_s=100, jitter=0.5, random=lambda: 1.0)
    assert cut.wait_s(2) == 4
    assert len({RetryPolicy().wait_s(1) for _ in range(20)}) > 1
