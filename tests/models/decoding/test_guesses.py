"""Guesses follow what texts did before, are bounded, and leaps are used only where they give the bits of steps."""

from __future__ import annotations

import numpy as np
import pytest

from radserve.models.decoding import guesses as module
from radserve.models.decoding.guesses import Guesses, leaps_as_steps


def learnt(*texts: list[int]) -> Guesses:
    guesses = Guesses()
    for text in texts:
        for end in range(2, len(text) + 1):
            guesses.learn(text[:end])
    return guesses


def test_a_text_that_was_written_is_guessed_from_its_start() -> None:
    assert learnt([1, 5, 6, 7, 8, 9, 5, 4]).after([1], 20) == [5, 6, 7, 8, 9, 5, 4]


def test_a_guess_is_as_long_as_is_asked_for_and_no_longer_than_is_known() -> None:
    guesses = learnt([1, 5, 6, 7])
    assert guesses.after([1], 2) == [5, 6]
    assert guesses.after([1, 5, 6], 4) == [7]
    assert guesses.after([1, 5, 6, 7], 4) == []
    assert guesses.after([2], 4) == []


def test_what_came_most_often_is_guessed_and_of_equals_the_last() -> None:
    assert learnt([1, 5], [1, 5], [1, 6]).after([1], 1) == [5]
    assert learnt([1, 5], [1, 6]).after([1], 1) == [6]


def test_only_the_last_tokens_count() -> None:
    assert learnt([1, 9, 2, 3, 4, 5, 6]).after([8, 8, 8, 2, 3, 4, 5], 1) == [6]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_KNOWN", 3)
    guesses = learnt([1, 5, 6, 7])
    guesses.learn([2, 5])
    assert guesses.after([1], 3) == []
    assert guesses.after([2], 3) == [5]


class Adding:
    """A graph whose logit is the sum of the tokens so far; as a leap with another last bit where `off`."""

    def __init__(self, tokens: int, off: float = 0.0) -> None:
        self.tokens, self.off = tokens, np.float32(off)
        self.inputs = {"token": ("tensor(int32)", [tokens] if tokens > 1 else []), "slot_0": ("tensor(float)", [1])}

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        sums = inputs["slot_0"] + np.cumsum(inputs["token"].reshape(2, self.tokens), axis=1, dtype=np.float32)
        logits = (sums + self.off if self.tokens > 1 else sums[:, :1])[..., np.newaxis]
        return {"logits": logits if self.tokens > 1 else logits[:, 0], "kept_0": sums[:, -1:]}


def test_leaps_are_told_from_steps_by_any_bit() -> None:
    assert leaps_as_steps(Adding(1), Adding(5))
    assert not leaps_as_steps(Adding(1), Adding(5, off=1e-6))
