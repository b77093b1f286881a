"""How the next token is chosen: greedy, beam search or seeded sampling, over whatever gives logits.

Pure state machines: they are fed logits and say which rows of the cache to keep. Needs numpy only and imports nothing
of radserve: this file is copied into the Triton model repository, so the loop inside Triton and the loop in this
process choose the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NONE, _SAME = np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64)


class Constraint(Protocol):
    """Which tokens may follow; states are immutable, so that hypotheses can share them."""

    def start(self) -> Any:
        """The state before the first token."""
        ...

    def allowed(self, state: Any) -> npt.NDArray[np.bool_]:
        """For each token (V,) whether it may come next."""
        ...

    def step(self, state: Any, token: int) -> Any:
        """The state after `token`."""
        ...


class Advance(NamedTuple):
    """What a step came to: the cache rows that the new hypotheses go on from, and tokens that are certain now."""

    parents: Ints
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Frame:
    """What every search is told: where texts start and end, how long they may get, and what they may say."""

    start_id: int
    end_id: int
    max_tokens: int
    constraint: Constraint | None = None

    def state(self) -> Any:
        return self.constraint.start() if self.constraint else None

    def after(self, state: Any, token: int) -> Any:
        return self.constraint.step(state, token) if self.constraint else None

    def masked(self, scores: npt.NDArray[Any], state: Any) -> npt.NDArray[Any]:
        """The scores (V,) with what may not come next at minus infinity; where nothing may, the text ends."""
        if self.constraint is None:
            return scores
        allowed = self.constraint.allowed(state)
        if allowed.any():
            return np.where(allowed, scores, -np.inf)
        only_end = np.full_like(scores, -np.inf)
        only_end[self.end_id] = 0.0
        return only_end


def log_softmax(logits: npt.NDArray[Any]) -> Floats:
    """Log-probabilities along the last axis, in double precision."""
    wide = np.asarray(logits, dtype=np.float64)
    wide = wide - wide.max(axis=-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True)))


class SingleSearch:
    """One hypothesis, one token a step: the most likely one, or one drawn with `draw`."""

    def __init__(self, frame: Frame, draw: Sampler | None = None) -> None:
        self._frame, self._draw, self._state = frame, draw, frame.state()
        self._taken = 0
        self.tokens: Ints = np.array([frame.start_id], dtype=np.int64)
        self.finished = False

    def advance(self, logits: npt.NDArray[Any]) -> Advance:
        """Take the logits (1, V) of the last token."""
        scores = self._frame.masked(logits[0], self._state)
        token = self._draw(scores) if self._draw else int(scores.argmax())
        if token == self._frame.end_id:
            self.finished = True
            return Advance(_NONE, ())
        self._state = self._frame.after(self._state, token)
        self._taken += 1
        self.finished = self._taken >= self._frame.max_tokens
        self.tokens[0] = token
        return Advance(_SAME, (token,))


class Sampler:
    """Draws a token: softmax at `temperature` over the `top_k` likeliest (0: all) within the mass `top_p`.

    The same seed draws the same tokens from the same scores.
    """

    def __init__(self, temperature: float, top_k: int, top_p: float, seed: int) -> None:
        self._temperature, self._top_k, self._top_p = temperature, top_k, top_p
        self._random = np.random.Generator(np.random.PCG64(seed))

    def __call__(self, scores: npt.NDArray[Any]) -> int:
        """`scores` (V,): logits, minus infinity for what may not come."""
        scores = np.asarray(scores, dtype=np.float64)
        order = np.argsort(-scores, kind="stable")
        if self._top_k:
            order = order[: self._top_k]
        ranked = scores[order] - scores[order[0]]  # before the division: a small temperature must not overflow
        probabilities = np.exp(log_softmax(ranked / self._temperature))
        before = np.cumsum(probabilities) - probabilities
        kept = before < self._top_p  # the likeliest always is
        kept[0] = True
        mass = np.cumsum(probabilities[kept])
        place = int(np.searchsorted(mass, self._random.random() * mass[-1], side="right"))
        return int(order[min(place, len(mass) - 1)])


@dataclass(frozen=True)
class _Hypothesis:
    tokens: tuple[int, ...]
    score: float
    state: Any = field(repr=False)


class BeamSearch:
    """The `beams` best texts side by side; a text's score is its log-probability over (tokens ** length_penalty).

    A token is certain once all texts that may still win share it. A text that was cut at `max_tokens` wins only where
    none came to its end.
    """

    def __init__(self, frame: Frame, beams: int, length_penalty: float) -> None:
        self._frame, self._beams, self._penalty = frame, beams, length_penalty
        self._live = [_Hypothesis((), 0.0, frame.state())]
        self._best: tuple[float, tuple[int, ...]] | None = None
        self._sent = 0
        self.tokens: Ints = np.array([frame.start_id], dtype=np.int64)
        self.finished = False

    def advance(self, logits: npt.NDArray[Any]) -> Advance:
        """Take the logits (rows, V), a row for each live text."""
        rows = log_softmax(logits)
        scores = np.stack(
            [each.score + self._frame.masked(row, each.state) for each, row in zip(self._live, rows, strict=True)]
        )
        live, parents = self._extended(scores)
        length = len(self._live[0].tokens) + 1
        best_live = live[0] if live else None
        self._live = live
        self.tokens = np.array([each.tokens[-1] for each in live], dtype=np.int64)
        if best_live is None or self._decided(best_live.score, length) or length >= self._frame.max_tokens:
            self.finished = True
            if self._best is None and best_live is not None:
                self._best = (0.0, best_live.tokens)
        return Advance(np.array(parents, dtype=np.int64), self._certain())

    def _extended(self, scores: Floats) -> tuple[list[_Hypothesis], list[int]]:
        """The best continuations; those that end are weighed against the best text so far."""
        flat = scores.ravel()
        width = scores.shape[1]
        live: list[_Hypothesis] = []
        parents: list[int] = []
        for index in np.argsort(-flat, kind="stable")[: 2 * self._beams]:
            row, token = divmod(int(index), width)
            score, parent = float(flat[index]), self._live[row]
            if score == -np.inf or len(live) == self._beams:
                break
            if token == self._frame.end_id:
                normalised = self._normalised(score, len(parent.tokens) + 1)
                if self._best is None or normalised > self._best[0]:
                    self._best = (normalised, parent.tokens)
                continue
            live.append(_Hypothesis((*parent.tokens, token), score, self._frame.after(parent.state, token)))
            parents.append(row)
        return live, parents

    def _normalised(self, score: float, length: int) -> float:
        return float(score / length**self._penalty)

    def _decided(self, best_live: float, length: int) -> bool:
        """Whether no live text can still win: scores only fall, so the kindest length bounds what is to come."""
        if self._best is None:
            return False
        kindest = self._frame.max_tokens + 1 if self._penalty > 0 else length + 1
        return self._best[0] >= self._normalised(best_live, kindest)

    def _certain(self) -> tuple[int, ...]:
        if self.finished:
            agreed: Sequence[int] = self._best[1] if self._best else ()
        else:
            texts = [each.tokens for each in self._live] + ([self._best[1]] if self._best else [])
            agreed = _common_prefix(texts)
        new = tuple(agreed[self._sent :])
        self._sent += len(new)
        return new


Search = SingleSearch | BeamSearch


def make_search(
    frame: Frame,
    strategy: str = "greedy",
    *,
    beams: int = 1,
    length_penalty: float = 1.0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Search:
    """The search of a strategy: "greedy", "beam" or "sample"; raises ValueError for another."""
    if strategy == "greedy":
        return SingleSearch(frame)
    if strategy == "beam":
        return BeamSearch(frame, beams, length_penalty)
    if strategy == "sample":
        return SingleSearch(frame, Sampler(temperature, top_k, top_p, seed))
    raise ValueError(f"strategy: got {strategy!r}, expected greedy, beam or sample")


def _common_prefix(texts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    shortest, longest = min(texts), max(texts)
    for place, token in enumerate(shortest):
        if token != longest[place]:
            return shortest[:place]
    return shortest
