"""Images that stand in two splits: one patient under two names would make any figure of `val` and `test` too good."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.duplicates import Duplicates, check_splits
from radserve.evaluation.fingerprints import fingerprint
from radserve.models.adapt.dataset import SPLITS, LabelledImages
from radserve.models.adapt.manifest import Overlapping


def without_overlap(images: LabelledImages, overlap: Overlapping) -> LabelledImages:
    """The images with what the manifest says of exact and near duplicates between splits.

    "refuse": INVALID_ARGUMENT with the counts where there are any. "leave-out": an image of train with a duplicate in
    val or test is left out, and one of val with a duplicate in test. "allow": they stay, with a warning.
    """
    found = check_splits([fingerprint(each) for each in images.images], images.splits.tolist())
    if not found.overlaps:
        return images
    said = "; ".join(
        f"{each.splits[0]} and {each.splits[1]} share {each.exact} exact and {each.near} near duplicate pairs of images"
        for each in found.overlaps
    )
    if overlap == "refuse":
        message = f'adaptation data: {said} ([data] overlap = "leave-out" leaves the earlier split\'s out)'
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)
    if overlap == "allow":
        return replace(images, warnings=(*images.warnings, f"{said}, and were allowed to"))
    return _left_out(images, found, said)


def _left_out(images: LabelledImages, found: Duplicates, said: str) -> LabelledImages:
    out = set()
    for pair in found.pairs:
        if pair.splits[0] != pair.splits[1]:
            first, second = (SPLITS.index(split) for split in pair.splits)
            out.add(pair.rows[0] - 1 if first < second else pair.rows[1] - 1)
    kept = np.array([row for row in range(len(images.images)) if row not in out], dtype=np.intp)
    counts = [f"{sum(str(images.splits[row]) == split for row in out)} of {split}" for split in SPLITS[:2]]
    return LabelledImages(
        [images.images[row] for row in kept],
        images.positive[kept],
        images.patients[kept],
        images.splits[kept],
        (*images.warnings, f"{said}: {' and '.join(counts)} were left out"),
        tuple(images.rows[row] for row in kept),
    )
