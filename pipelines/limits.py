"""Volumes unlike what a pack states that it learned from: voxel sizes, field of view, composition of the values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from radserve.errors import ErrorCode, RequestError
from radserve.image import Volume
from radserve.models.pack_types import PackInput, Range
from radserve.pipelines.intended_use import IntendedUsePolicy
from radserve.results import ResultWarning, WarningCode

STRIDE = 4
"""Of rows and columns, every so many are looked at for the composition: a share of millions of voxels needs no more."""

AXES = ("slices", "rows", "columns")


def check_limits(use: PackInput, volume: Volume, policy: IntendedUsePolicy) -> tuple[ResultWarning, ...]:
    """A warning with every limit of the input that a volume is beyond.

    Raises RequestError OUTSIDE_INTENDED_USE with the same reasons when the policy is strict.
    """
    reasons = "; ".join(_reasons(use, volume))
    if not reasons:
        return ()
    message = f"A volume is unlike what this model learned from, so what it says of it may mean nothing: {reasons}."
    if policy.strict:
        raise RequestError(ErrorCode.OUTSIDE_INTENDED_USE, f"the site's policy is strict: {message}")
    return (ResultWarning(WarningCode.OUT_OF_DISTRIBUTION, message),)


def _reasons(use: PackInput, volume: Volume) -> Iterator[str]:
    if use.limits is None:
        return
    spacing_mm = volume.geometry.spacing_mm
    extent_mm = tuple(size * step for size, step in zip(volume.geometry.shape, spacing_mm, strict=True))
    for what, got, allowed, digits in (
        ("a spacing", spacing_mm, use.limits.spacing_mm, 2),
        ("a field of view", extent_mm, use.limits.extent_mm, 0),
    ):
        for axis, value, limits in zip(AXES, got, allowed or (), strict=False):
            if not limits[0] <= value <= limits[1]:
                yield f"{what} of {value:.{digits}f} mm along its {axis}, expected {_span(limits)} mm"
    if use.limits.shares:
        values = volume.array[:, ::STRIDE, ::STRIDE]
        counted = values[values >= use.limits.floor]
        for each in use.limits.shares:
            low, high = each.values
            share = float(np.mean((counted >= low) & (counted < high))) if counted.size else 0.0
            if not each.share[0] <= share <= each.share[1]:
                expected = f"{100 * each.share[0]:g} to {100 * each.share[1]:g} %"
                yield f"{100 * share:.1f} % of its values ({_span(each.values)}) are {each.name}, expected {expected}"


def _span(limits: Range) -> str:
    return f"{limits[0]:g} to {limits[1]:g}"
