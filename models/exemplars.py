"""The examples of a label that a pack carries: their embeddings and labels, and which of them an image is like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.models.pack_files import invalid

EMBEDDINGS, POSITIVE, IDS = "exemplar_embeddings", "exemplar_positive", "exemplar_ids"


@dataclass(frozen=True, slots=True, eq=False)
class ExemplarIndex:
    """`embeddings` (M, E) float32 unit vectors with `positive` (M,) bool and `ids`, which name no patient.

    `alpha` weighs them against the base's logit, `beta` says how fast likeness fades. Valid on construction
    (PACK_INVALID).
    """

    embeddings: npt.NDArray[np.float32] = field(repr=False)
    positive: npt.NDArray[np.bool_] = field(repr=False)
    ids: tuple[str, ...] = field(repr=False)
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        count = len(self.ids)
        if self.embeddings.ndim != 2 or not count == len(self.embeddings) == len(self.positive) or not count:
            got = f"embeddings {self.embeddings.shape}, {len(self.positive)} labels, {count} ids"
            raise invalid(f"exemplars: got {got}, expected as many of each, at least one")
        if not np.allclose(np.linalg.norm(self.embeddings, axis=1), 1, atol=1e-3):
            raise invalid("exemplars: an embedding is not a finite unit vector")
        for name in ("embeddings", "positive"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def cosines(self, embeddings: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """(N, M) for unit vectors (N, E)."""
        return np.asarray(embeddings.astype(np.float64) @ self.embeddings.T.astype(np.float64))

    def evidence(self, embeddings: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """What the examples add to the logits of images (N, E): (N,)."""
        likeness = np.exp(-self.beta * (1 - self.cosines(embeddings)))
        return np.asarray(self.alpha * (likeness @ np.where(self.positive, 1.0, -1.0)))

    def nearest(self, embedding: npt.NDArray[Any], count: int) -> list[tuple[str, bool, float]]:
        """The `count` examples most like an image (E,): id, label and cosine, the most alike first."""
        cosines = self.cosines(embedding[None])[0]
        chosen = np.argsort(-cosines, kind="stable")[:count].tolist()
        return [(self.ids[row], bool(self.positive[row]), float(cosines[row])) for row in chosen]

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """As a safetensors file holds them."""
        ids = np.frombuffer(json.dumps(self.ids).encode(), dtype=np.uint8)
        return {EMBEDDINGS: self.embeddings, POSITIVE: self.positive.astype(np.uint8), IDS: ids}


def exemplars_of(
    tensors: Mapping[str, npt.NDArray[Any]], alpha: float, beta: float, width: int, where: str
) -> ExemplarIndex:
    """The index in the tensors of a file, for an image encoder of `width`. Raises PACK_INVALID naming `where`."""
    missing = sorted({EMBEDDINGS, POSITIVE, IDS} - tensors.keys())
    if missing:
        raise invalid(f"{where}: has no tensors {missing}")
    embeddings = tensors[EMBEDDINGS]
    if embeddings.dtype != np.float32 or embeddings.ndim != 2 or embeddings.shape[1] != width:
        got = f"{embeddings.dtype} {embeddings.shape}"
        raise invalid(f"{where}: {EMBEDDINGS}: got {got}, expected float32 (examples, {width}), as the image encoder")
    if tensors[POSITIVE].ndim != 1:
        raise invalid(f"{where}: {POSITIVE}: got {tensors[POSITIVE].shape}, expected (examples,)")
    try:
        ids = json.loads(tensors[IDS].tobytes())
    except (ValueError, RecursionError):
        ids = None
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise invalid(f"{where}: {IDS} is not a list of names")
    return ExemplarIndex(embeddings, tensors[POSITIVE].astype(np.bool_), tuple(ids), alpha, beta)
