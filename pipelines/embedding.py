"""Embeddings and scores of plain grey images, by the chain and the graphs that serve a study."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve.image import PixelProperties
from radserve.models.pack import IMAGE_ENCODER, ModelPack
from radserve.models.pack_types import PackInput
from radserve.models.tokenizer import pack_tokenizer
from radserve.pipelines.classify import run_graphs
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.preprocess.adapter import Task, run_task
from radserve.pipelines.preprocess.chain import input_chain
from radserve.pipelines.prompts import embed_prompts
from radserve.pipelines.scoring import score_label
from radserve.ports import ModelRunner

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """`embeddings` (N, E) of images, and the pack's uncalibrated `logits` (N,) of one label; zeros for no label."""

    embeddings: FloatArray
    logits: FloatArray


async def embed_images(
    pack: ModelPack,
    use: PackInput,
    label: str,
    images: Sequence[npt.NDArray[Any]],
    runner: ModelRunner,
    cache: Path | None = None,
) -> Embedded:
    """Embed `images`, each (rows, columns) uint8 or uint16, as the input `use` of a pack.

    Of a pack without an image encoder the embeddings have no columns. `label` may be unknown to the pack. `cache` is a
    folder: what is there for the same pack, input, label and pixels is read and not computed. Raises as the model
    runner and the preprocessing do.
    """
    kept = cache / f"{_key(pack, use, label, images)}.npz" if cache else None
    if kept and (found := _read(kept, len(images))):
        return found
    asked = next((each for each in pack.labels if each.name == label), None)
    directions = (await embed_prompts(pack, pack_tokenizer(pack), runner)).directions if asked else {}
    prepared = prepare_images(pack, use, images)
    outputs = await run_graphs(pack, runner, use, prepared, Deadline.after(None), embeds=True)
    nothing = np.zeros(0)
    embeddings = np.stack([each[IMAGE_ENCODER]["embedding"] if pack.encodes(use) else nothing for each in outputs])
    examples = pack.exemplars.get(label)
    logits = [score_label(asked, directions.get(label), each, examples).logit if asked else 0.0 for each in outputs]
    embedded = Embedded(embeddings.astype(np.float64), np.array(logits, dtype=np.float64))
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part.npz")
        np.savez(part, embeddings=embedded.embeddings, logits=embedded.logits)
        part.replace(kept)
    return embedded


def prepare_images(pack: ModelPack, use: PackInput, images: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """(N, channels, rows, columns): grey images, each (rows, columns), through the input's chain."""
    chain = input_chain(pack, use)
    return np.concatenate([_prepared(chain, image) for image in images])


def _prepared(chain: tuple[Any, ...], image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(1, channels, rows, columns): the image through the chain, as grey values of all its bits, no window stated."""
    bits = 8 * image.dtype.itemsize
    properties = PixelProperties("MONOCHROME2", bits, (0.0, float(2**bits - 1)))
    ((tensor, _),) = run_task(Task(chain, (image,), properties, np.eye(3)))
    return np.asarray(tensor[None])


def _key(pack: ModelPack, use: PackInput, label: str, images: Sequence[npt.NDArray[Any]]) -> str:
    digest = hashlib.sha256(f"{pack.digest}\0{use.name}\0{use.preprocess}\0{label}\0".encode())
    for image in images:
        digest.update(f"{image.shape} {image.dtype}\0".encode() + np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def _read(path: Path, count: int) -> Embedded | None:
    """What was kept; None where nothing was, or the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            found = Embedded(kept["embeddings"], kept["logits"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return found if len(found.embeddings) == len(found.logits) == count else None
