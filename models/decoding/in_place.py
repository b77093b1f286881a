"""Several reports decoded side by side in one process, their keys and values in memory that never moves.

Needs numpy only and imports nothing of radserve: this file is copied into the Triton model repository.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_TOLD = ("token", "position")
_MOST_LEAPING = 2  # rows side by side; more of them gain as much by sharing the runs of single steps


class Progress(NamedTuple):
    """What a step brought one report: tokens that are certain now, and whether it is at its end."""

    key: Any
    tokens: tuple[int, ...]
    finished: bool


@dataclass
class _Job:
    """A report in work: `text` are its tokens with the one it starts from, of one that is written in a single row."""

    key: Any
    search: Any
    image_tokens: Array
    most_rows: int
    text: list[int]
    rows: int = 1
    position: int = 0


class _Run(NamedTuple):
    """A run of so many rows: `token` and `position` (rows, tokens) are read, `logits` (rows, tokens, V) written."""

    token: Array
    position: Array
    logits: Array
    calls: list[Callable[[], None]]


class InPlaceBatch:
    """The reports in work, over the graphs of LoopGraphs (each an OnnxGraph).

    A report holds a row for each text that is written side by side; those that would come to more than `max_rows` wait
    until others have ended. Rows lie one behind the other in pools, one for each input and output of the graphs,
    that grow with what is in work; the graphs read and write them in place.

    With the graph `leap` a text of one row that `guesses` (a guesses.Guesses) knows a continuation of takes several
    tokens a run: all are run, and the search, which chooses as it would without, goes on while it chooses what was
    guessed. What was written of the others lies behind the text's end and is written over before it is read.
    """

    def __init__(self, start: Any, step: Any, max_rows: int, leap: Any = None, guesses: Any = None) -> None:
        self._start, self._step, self._max_rows = start, step, max_rows
        self._leap, self._guesses = leap, guesses
        self._waiting: deque[_Job] = deque()
        self._jobs: list[_Job] = []
        self._pools: dict[str, Array] = {}
        self._runs: dict[tuple[bool, int], _Run] = {}

    def __len__(self) -> int:
        return len(self._jobs) + len(self._waiting)

    def add(self, key: Any, search: Any, image_tokens: Array, rows: int = 1) -> None:
        """Take a report in: `image_tokens` (P, C) float32, and the most texts that its search writes side by side."""
        self._waiting.append(_Job(key, search, image_tokens, rows, search.tokens.tolist()))

    def remove(self, key: Any) -> None:
        """Drop a report that is no longer wanted; nothing where it has ended."""
        self._waiting = deque(job for job in self._waiting if job.key != key)
        kept, row = [], 0
        for job in self._jobs:
            if job.key != key:
                kept.append((job, list(range(row, row + job.rows))))
            row += job.rows
        self._keep(kept)

    def step(self) -> list[Progress]:
        """Write the next tokens of the reports in work. Raises ValueError where a logit is not a number."""
        if self._waiting:
            self._admit()
        rows = sum([job.rows for job in self._jobs])
        guesses = self._guessed(rows)
        leaps = any(guesses)
        run = self._runs.get((leaps, rows)) or self._bind(leaps, rows)
        self._tell(run, guesses)
        for call in run.calls:
            call()
        if not math.isfinite(np.add.reduce(run.logits, axis=None)):  # the sum is no number where a value is none
            raise ValueError("the decoder returned values that are not numbers")
        progress, kept, row, moved = [], [], 0, False
        for job, guess in zip(self._jobs, guesses, strict=True):
            parents, tokens = self._advanced(job, run.logits[row : row + job.rows], guess)
            finished = job.search.finished
            progress.append(Progress(job.key, tokens, finished))
            if not finished:
                kept.append((job, [row] if job.most_rows == 1 else (parents + row).tolist()))
            moved = moved or finished or job.most_rows > 1
            row += job.rows
        if moved:
            self._keep(kept)
        return progress

    def _guessed(self, rows: int) -> list[Sequence[int]]:
        """What each report is guessed to go on with, less than a leap; nothing where many share the run anyway."""
        if self._leap is None or rows > _MOST_LEAPING:
            return [()] * len(self._jobs)
        most = self._leap.inputs["token"][1][0] - 1
        return [self._guesses.after(job.text, most) if job.most_rows == 1 else () for job in self._jobs]

    def _advanced(self, job: _Job, logits: Array, guess: Sequence[int]) -> tuple[Array, tuple[int, ...]]:
        """Let the search take the logits (rows, tokens, V) of the last token, and of those guessed while they come."""
        parents, tokens = job.search.advance(logits[:, 0])
        job.position += 1
        if job.most_rows > 1:
            return parents, tokens
        for place, guessed in enumerate(guess, 1):
            if job.search.finished or tokens[-1] != guessed:
                break
            tokens += job.search.advance(logits[:, place]).tokens
            job.position += 1
        if self._leap is not None:
            for token in tokens:
                job.text.append(token)
                self._guesses.learn(job.text)
        return parents, tokens

    def _admit(self) -> None:
        """Take in what waits, in its order, while there is room for all rows it may come to hold."""
        most = sum(job.most_rows for job in self._jobs)
        while self._waiting and (not self._jobs or most + self._waiting[0].most_rows <= self._max_rows):
            job = self._waiting.popleft()
            row = sum(each.rows for each in self._jobs)
            most += job.most_rows
            self._grow(most)
            seen = self._start.run({"image_tokens": job.image_tokens[np.newaxis]})
            for name, found in seen.items():  # of a slot no more is read than this report has written
                self._pools[name][row] = found[0]
            self._jobs.append(job)

    def _grow(self, rows: int) -> None:
        """Make room for rows; what lies in the pools stays."""
        size = len(next(iter(self._pools.values()))) if self._pools else 0
        if rows <= size:
            return
        size = max(rows, min(2 * size, self._max_rows))
        self._runs.clear()
        for name, (_, shape) in self._step.inputs.items():
            if name in _TOLD:
                continue
            pool = np.zeros((size, *shape), dtype=np.float32)
            if name in self._pools:
                pool[: len(self._pools[name])] = self._pools[name]
            self._pools[name] = pool

    def _bind(self, leaps: bool, rows: int) -> _Run:
        """A run of so many rows: one of the graph, or one a row where a batch would give other bits."""
        graph = self._leap if leaps else self._step
        told = {name: np.zeros((rows, *graph.inputs[name][1]), dtype=np.int32) for name in _TOLD}
        logits = np.zeros((rows, *graph.outputs["logits"][1]), dtype=np.float32)
        arrays = {**{name: pool[:rows] for name, pool in self._pools.items()}, **told, "logits": logits}
        calls = []
        for start, end in [(0, rows)] if graph.joint else [(row, row + 1) for row in range(rows)]:
            views = {name: each[start:end] for name, each in arrays.items()}
            outputs = {name: views[name.replace("kept_", "slot_")] for name in graph.outputs}
            calls.append(graph.bound({name: views[name] for name in graph.inputs}, outputs))
        token, position = (told[name].reshape(rows, -1) for name in _TOLD)
        run = self._runs[leaps, rows] = _Run(token, position, logits.reshape(rows, -1, logits.shape[-1]), calls)
        return run

    def _keep(self, kept: list[tuple[_Job, list[int]]]) -> None:
        """Go on with these reports, each with the rows that it takes from those there are."""
        sources = [row for _, rows in kept for row in rows]
        for job, rows in kept:
            job.rows = len(rows)
        self._jobs = [job for job, _ in kept]
        if sources != list(range(len(sources))):
            for pool in self._pools.values():
                pool[: len(sources)] = pool[sources]

    def _tell(self, run: _Run, guesses: list[Sequence[int]]) -> None:
        """Write the tokens and positions of a run; a leap that is guessed in part ends in tokens that nobody reads."""
        order, last, row = np.arange(run.token.shape[1]), self._step.inputs["slot_0"][1][1] - 1, 0
        for job, guess in zip(self._jobs, guesses, strict=True):
            end = row + job.rows
            run.token[row:end, 0] = job.search.tokens
            run.token[row, 1 : 1 + len(guess)] = guess
            run.position[row:end] = np.minimum(job.position + order, last)
            row = end
