"""Several reports decoded side by side: their rows share the runs of the step graph, each at its own position.

`DecodeBatch` does no input or output: `next_inputs` says what to run, `accept` takes what came of it. Needs numpy only
and imports nothing of radserve: this file is copied into the Triton model repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Progress:
    """What a step brought one report: tokens that are certain now, and whether it is at its end."""

    key: Any
    tokens: tuple[int, ...]
    finished: bool


@dataclass
class _Job:
    search: Any
    image_tokens: Array
    cache: Array
    position: int = 0


class DecodeBatch:
    """The reports in work. A run takes at most `max_rows` rows; those that had to wait come first in the next."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._jobs: dict[Any, _Job] = {}
        self._round: list[Any] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, key: Any, search: Any, image_tokens: Array, cache_shape: tuple[int, ...]) -> None:
        """Take a report in: `image_tokens` (P, C) float32; the cache starts as zeros of `cache_shape` (2 L, T, W)."""
        self._jobs[key] = _Job(search, image_tokens[np.newaxis], np.zeros((1, *cache_shape), dtype=np.float32))

    def remove(self, key: Any) -> None:
        """Drop a report that is no longer wanted; nothing where it has ended. Not while a run is under way."""
        self._jobs.pop(key, None)

    def next_inputs(self) -> dict[str, Array]:
        """The inputs of the next run of the step graph. Call it only while reports are in work."""
        self._round, rows = [], 0
        for key, job in self._jobs.items():
            rows += len(job.search.tokens)
            if rows > self._max_rows and self._round:
                break
            self._round.append(key)
        jobs = [self._jobs[key] for key in self._round]
        positions = [np.full(len(job.search.tokens), job.position, dtype=np.int64) for job in jobs]
        image_tokens = [np.repeat(job.image_tokens, len(job.search.tokens), axis=0) for job in jobs]
        return {
            "token": np.concatenate([job.search.tokens for job in jobs])[:, np.newaxis],
            "position": np.concatenate(positions)[:, np.newaxis],
            "image_tokens": _joined(image_tokens),
            "cache": _joined([job.cache for job in jobs]),
        }

    def accept(self, outputs: Mapping[str, Array]) -> list[Progress]:
        """Take the run's `logits` (rows, V) and `cache_out`. Raises ValueError where a logit is not a number."""
        logits, caches = outputs["logits"], outputs["cache_out"]
        if not np.isfinite(logits).all():
            raise ValueError("the decoder returned values that are not numbers")
        progress, start = [], 0
        for key in self._round:
            job = self._jobs.pop(key)
            end = start + len(job.search.tokens)
            step = job.search.advance(logits[start:end])
            if not job.search.finished:
                job.cache = np.ascontiguousarray(caches[start:end][step.parents])
                job.position += 1
                self._jobs[key] = job  # at the end of the queue
            progress.append(Progress(key, step.tokens, job.search.finished))
            start = end
        self._round = []
        return progress


def _joined(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


class GraphBatch:
    """A `DecodeBatch` over the step graph in this process (an OnnxGraph)."""

    def __init__(self, graph: Any, max_rows: int) -> None:
        self._graph, self._batch = graph, DecodeBatch(max_rows)

    def __len__(self) -> int:
        return len(self._batch)

    def add(self, key: Any, search: Any, image_tokens: Array, rows: int = 1) -> None:
        """Take a report in: `image_tokens` (P, C) float32."""
        self._batch.add(key, search, image_tokens, tuple(self._graph.inputs["cache"][1]))

    def remove(self, key: Any) -> None:
        """Drop a report that is no longer wanted."""
        self._batch.remove(key)

    def step(self) -> list[Progress]:
        """Write the next token of the reports in work. Raises ValueError where a logit is not a number."""
        return self._batch.accept(self._graph.run(self._batch.next_inputs()))
