"""A decoder whose answers depend on every token before: what searches are tried on, with and without a cache."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from radserve.models.decoding.batch import DecodeBatch
from radserve.models.decoding.search import Search

VOCABULARY, START, END, LENGTH = 7, 0, 1, 8


class PrefixModel:
    """Logits (V,) drawn from a seed and the whole prefix. `spread` makes them more or less even."""

    def __init__(self, seed: int, spread: float = 2.0) -> None:
        self.seed, self.spread, self.runs = seed, spread, 0

    def logits(self, prefix: Sequence[int]) -> np.ndarray:
        key = zlib.crc32(bytes([*prefix]) + self.seed.to_bytes(8, "big"))
        return (np.random.default_rng(key).standard_normal(VOCABULARY) * self.spread).astype(np.float32)

    def step(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As the step graph: the cache keeps the tokens of its row, and the logits are made of the cache alone."""
        self.runs += 1
        cache = inputs["cache"].copy()
        logits = []
        for row, (token, position) in enumerate(zip(inputs["token"][:, 0], inputs["position"][:, 0], strict=True)):
            cache[row, 0, position, 0] = token + 1
            kept = cache[row, 0, : position + 1, 0]
            assert (kept > 0).all(), "a row of the cache was lost"
            logits.append(self.logits([int(each) - 1 for each in kept]))
        return {"logits": np.stack(logits), "cache_out": cache}


def run(model: PrefixModel, searches: Mapping[str, Search], max_rows: int = 64) -> Iterator[tuple[str, int]]:
    """Decode all searches side by side; yield (name, token) as they become certain."""
    batch = DecodeBatch(max_rows)
    for name, search in searches.items():
        batch.add(name, search, np.zeros((2, 3), dtype=np.float32), (2, LENGTH + 2, 1))
    while len(batch):
        for progress in batch.accept(model.step(batch.next_inputs())):
            for token in progress.tokens:
                yield progress.key, token


def decoded(model: PrefixModel, search: Search) -> list[int]:
    """The tokens of one search alone."""
    return [token for _, token in run(model, {"only": search})]
