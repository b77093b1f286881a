"""The labelled images that decide whether a compressed pack is as good: what `radserve models compress` reads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from radserve.errors import ErrorCode, RadserveError
from radserve.models.adapt.dataset import LabelledImages, read_images
from radserve.models.adapt.manifest import read_manifest
from radserve.models.adapt.overlap import without_overlap
from radserve.models.compress.samples import Reader, Samples, Split
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackInput
from radserve.pipelines.embedding import prepare_images


def reader_of(pack: ModelPack, data: Sequence[Path], signing_key: Path | None = None) -> Reader:
    """Reads the manifests `data`, one for each label, or the folder of the default pack's data sets.

    Images of a manifest go through the pack's own preprocessing. Raises INVALID_ARGUMENT for a manifest or data that
    are not fit, for a label that is not the pack's or comes twice, and what `read_manifest` does with a `signing_key`.
    """
    if len(data) == 1 and data[0].is_dir():
        from radserve.models.compress.default_samples import (
            read_samples,  # torch, which no module asks for when imported
        )

        return partial(read_samples, pack, data[0])
    sets: dict[str, tuple[PackInput, LabelledImages]] = {}
    for path in data:
        manifest = read_manifest(path, signing_key)
        use, label = pack.input(manifest.task.input), manifest.task.label
        if label not in use.labels or label in sets:
            what = "has a manifest already" if label in sets else f"is not answered on the input {use.name!r}"
            raise _refused(path, f"task.label: {label!r} {what}; its labels: {', '.join(use.labels)}")
        if use.kind != "image":
            raise _refused(path, f"task.input: {use.name!r} takes volumes, expected an input that takes images")
        images = read_images(manifest)
        if manifest.data.overlap != "allow":  # looking for twins takes a minute for some thousand images
            images = without_overlap(images, manifest.data.overlap)
        sets[label] = use, images

    def read(split: Split) -> Sequence[Samples]:
        found = []
        for label, (use, images) in sets.items():
            rows = images.of(split)
            pixels = prepare_images(pack, use, [images.images[row] for row in rows])
            found.append(Samples(label, use, pixels, images.positive[rows], images.patients[rows]))
        return found

    return read


def _refused(path: Path, cause: str) -> RadserveError:
    return RadserveError(ErrorCode.INVALID_ARGUMENT, f"manifest {path.name!r}: {cause}")
