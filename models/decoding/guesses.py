"""Guesses of how a text goes on, from how texts went on before: several tokens are then checked in one run.

A guess costs work where it is wrong and never changes a text: the search chooses every token from the logits that it
would have had alone (Leviathan et al., Fast Inference from Transformers via Speculative Decoding, 2023, for the idea).
Needs numpy only and imports nothing of radserve: this file is copied into the Triton model repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_MEMORY = 4  # tokens before one that tell it
_MOST_KNOWN = 1 << 16


class Guesses:
    """Which token came most often after the last few: learnt from every text as it is written, kept in memory."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, ...], dict[int, int]] = {}
        self._likeliest: dict[tuple[int, ...], int] = {}

    def learn(self, text: Sequence[int]) -> None:
        """Take in that a text came to its last token; the first is where it starts."""
        if len(self._counts) >= _MOST_KNOWN:
            self._counts.clear()
            self._likeliest.clear()
        recent, token = tuple(text[-_MEMORY - 1 : -1]), text[-1]
        counts = self._counts.setdefault(recent, {})
        counts[token] = counts.get(token, 0) + 1
        if counts[token] >= counts[self._likeliest.setdefault(recent, token)]:
            self._likeliest[recent] = token

    def after(self, text: Sequence[int], most: int) -> list[int]:
        """The next tokens of a text, at most so many, as far as there is a guess."""
        recent, found = tuple(text[-_MEMORY:]), list[int]()
        while len(found) < most and (token := self._likeliest.get(recent)) is not None:
            found.append(token)
            recent = (*recent, token)[-_MEMORY:]
        return found


def leaps_as_steps(step: Any, leap: Any) -> bool:
    """Whether leaps give every bit that steps give, with these two graphs on this machine; two texts side by side."""
    rng, tokens = np.random.default_rng(0), leap.inputs["token"][1][0]
    inputs = {
        name: rng.standard_normal((2, *shape), dtype=np.float32)
        for name, (_, shape) in step.inputs.items()
        if name.startswith(("seen_", "slot_"))
    }
    leapt, stepped = dict(inputs), dict(inputs)
    for start in (0, tokens):
        token = rng.integers(0, 2, (2, tokens)).astype(np.int32)
        position = np.tile(np.arange(start, start + tokens, dtype=np.int32), (2, 1))
        found = leap.run({"token": token, "position": position, **leapt})
        for place in range(tokens):
            expected = step.run({"token": token[:, place], "position": position[:, place], **stepped})
            stepped |= _slots(expected)
            if found["logits"][:, place].tobytes() != expected["logits"].tobytes():
                return False
        leapt |= _slots(found)
    return True


def _slots(outputs: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("kept_", "slot_"): each for name, each in outputs.items() if name != "logits"}
