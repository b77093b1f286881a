"""Embedded prompts on disk: a pack's texts go through its text encoder once, not at each start."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radserve.models.pack import TEXT_ENCODER, ModelPack

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PromptCache:
    """A folder of embedded prompt sets, by what they were made from."""

    folder: Path

    def get(self, pack: ModelPack) -> dict[str, FloatArray] | None:
        """The directions of a pack's labels as they were kept; None where they were not, or the file is damaged."""
        try:
            with np.load(self._path(pack), allow_pickle=False) as kept:
                names = [str(name) for name in kept["labels"]]
                return dict(zip(names, np.asarray(kept["directions"], dtype=np.float64), strict=True))
        except Exception:  # zipfile and numpy raise many kinds, and what is damaged is made anew
            return None

    def put(self, pack: ModelPack, directions: Mapping[str, FloatArray]) -> None:
        """Keep directions, whole or not at all. A folder that cannot be written to is no error: it is a cache."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder) as aside:
                part = Path(aside, "kept.npz")
                np.savez(part, labels=np.array(list(directions)), directions=np.stack(list(directions.values())))
                part.replace(self._path(pack))
        except OSError:
            return

    def _path(self, pack: ModelPack) -> Path:
        return self.folder / f"{prompts_key(pack)}.npz"


def prompts_key(pack: ModelPack) -> str:
    """SHA-256 (hex) over all that embedded prompts depend on: prompt set, tokenizer, special tokens, text encoder."""
    digest = hashlib.sha256()
    parts = [repr(pack.prompts), repr(pack.tokenizer), pack.graphs[TEXT_ENCODER].sha256]
    parts.append(pack.tokenizer_sha256)
    parts += [f"{label} {each.direction.tobytes().hex()}" for label, each in sorted(pack.learned.items())]
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()
