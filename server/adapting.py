"""From a manifest to an adapted or recalibrated pack: what `radserve adapt` does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from radserve.errors import ErrorCode, PackError
from radserve.evaluation.calibrators import Method
from radserve.models.adapt.adapted_pack import adapter_of, check_task, write_adapted
from radserve.models.adapt.adapter_file import read_adapter
from radserve.models.adapt.dataset import LabelledImages, Pixels, read_images, read_reference
from radserve.models.adapt.manifest import Manifest, MethodName, read_manifest
from radserve.models.adapt.normalise import Values, estimate, place_of_map
from radserve.models.adapt.overlap import without_overlap
from radserve.models.adapt.protocol import Learned, learn
from radserve.models.adapt.recalibrate import (
    MARGIN,
    Normalised,
    Recalibrated,
    check_kept,
    recalibrate,
    write_recalibrated,
)
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import ModelPack
from radserve.pipelines.embedding import Embedded, embed_images, prepare_images
from radserve.server.adapting_learners import learner_of


@dataclass(frozen=True, slots=True)
class Adapted:
    """The written pack, what was learned, and what is to be known of the data."""

    pack: ModelPack
    learned: Learned
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refitted:
    """The written pack, its calibration, and what is to be known of the data."""

    pack: ModelPack
    made: Recalibrated
    warnings: tuple[str, ...]


def adapt(
    base: ModelPack,
    manifest_path: Path,
    out: Path,
    *,
    version: str = "",
    method: MethodName | None = None,
    keep_failed: bool = False,
    test: bool = False,
    cache: Path | None = None,
    signing_key: Path | None = None,
) -> Adapted:
    """Learn the task of a manifest on `base` and write the derived pack when the gate passes, or with `keep_failed`.

    `method` takes the place of the manifest's. With `test` the test split is measured for the record; it decides
    nothing. With `signing_key` the manifest's folder has to be signed (read_manifest). Raises INVALID_ARGUMENT for a
    manifest or data that are not fit, PACK_INVALID naming the numbers when the gate does not pass.
    """
    manifest = with_method(read_manifest(manifest_path, signing_key), method)
    data, embedded = embed_manifest(base, manifest, cache)
    learner = learner_of(base, manifest, data, embedded)
    learned = learn(manifest.task, data, embedded.embeddings, embedded.logits, learner=learner, test=test)
    if not (learned.passed or keep_failed):
        val = learned.val
        message = (
            f"gate: AUROC on val {val.auroc_before:.4f} before, {val.auroc_after:.4f} after; the lower bound of the "
            f"gain is {val.gain_lower_bound:+.4f}, not above {learned.least_gain:g}"
        )
        raise PackError(ErrorCode.PACK_INVALID, message)
    adapter = adapter_of(base, manifest, data, learned)
    return Adapted(write_adapted(base, adapter, out, version=version), learned, data.warnings)


def apply(base: ModelPack, adapter_path: Path, out: Path, *, version: str = "") -> ModelPack:
    """Write the pack that is `base` with an adapter file; raises as read_adapter and write_adapted do."""
    return write_adapted(base, read_adapter(adapter_path), out, version=version)


def refit(
    base: ModelPack,
    manifest_path: Path,
    out: Path,
    method: Method,
    *,
    normalise: bool = False,
    version: str = "",
    keep_failed: bool = False,
    cache: Path | None = None,
    signing_key: Path | None = None,
) -> Refitted:
    """Recalibrate a label of `base` on the `train` split of a manifest and write the pack when the calibration error on
    `val` falls, or with `keep_failed`. With `normalise` the site's grey values are mapped before, which may not cost
    AUROC.

    Raises INVALID_ARGUMENT for a manifest, data or method that are not fit, PACK_INVALID when the error does not fall.
    """
    check_kept(method)  # before the images are embedded, which takes long
    manifest = read_manifest(manifest_path, signing_key)
    data, embedded = embed_manifest(base, manifest, cache)
    normalised = _normalised(base, manifest, data, cache) if normalise else None
    least_gain = min(manifest.task.least_gain, 0.0) or -MARGIN
    label = base.label(manifest.task.label)
    made = recalibrate(label, data, embedded.logits, method, normalised, least_gain)
    if not (made.passed or keep_failed):
        errors = ", ".join(f"{each.method} {each.ece:.4f}" for each in made.figures)
        cost = ""
        if made.compared:
            cost = f"; the lower bound of the AUROC gain is {made.compared.gain_lower_bound:+.4f}"
        message = f"recalibration by {method}: the error on val does not fall, or the AUROC does: {errors}{cost}"
        raise PackError(ErrorCode.PACK_INVALID, message)
    return Refitted(write_recalibrated(base, manifest, data, made, out, version=version), made, data.warnings)


def _normalised(base: ModelPack, manifest: Manifest, data: LabelledImages, cache: Path | None) -> Normalised:
    """The map estimated on the `train` images, and what the pack makes of all images through it."""
    use, label = base.input(manifest.task.input), manifest.task.label
    steps = use.preprocess[: place_of_map(use)]

    def values(images: Sequence[Pixels]) -> Values:
        return prepare_images(base, replace(use, preprocess=steps), images)

    reference = read_reference(manifest)
    site = values([data.images[row] for row in data.of("train")])
    intensity = estimate(use, site, None if reference is None else values(reference))
    runner = OnnxRunner([base])
    embedded = asyncio.run(embed_images(base, intensity.within(use), label, data.images, runner, cache))
    return Normalised(intensity, embedded.logits)


def with_method(manifest: Manifest, method: MethodName | None) -> Manifest:
    """The manifest with another method, if one is given."""
    return manifest if method is None else replace(manifest, task=replace(manifest.task, method=method))


def embed_manifest(base: ModelPack, manifest: Manifest, cache: Path | None) -> tuple[LabelledImages, Embedded]:
    """The images of a manifest, and what `base` makes of them; raises as `adapt` does for what is not fit."""
    use = check_task(base, manifest)
    data = without_overlap(read_images(manifest), manifest.data.overlap)
    embedding = embed_images(base, use, manifest.task.label, data.images, OnnxRunner([base]), cache)
    return data, asyncio.run(embedding)
