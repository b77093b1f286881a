"""Grey values of a site brought to those that a pack learned from: a monotone map estimated on the site's own images.

Where reference images are named, quantiles of the site's values become those of the reference's (as Nyul and Udupa,
Magn Reson Med 42:1072, 1999, do with landmarks); else mean and standard deviation become those that the chain subtracts
and divides by, which are the ones of the training data where a pack states such numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, RadserveError
from radserve.models.pack_types import PackInput, TransformSpec

TRANSFORM = "MapIntensity"
PERCENT = (1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0)
LEAST_STEP = 1e-6  # of the values: nearer knots are one

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class IntensityMap:
    """Values of the site (`source`) and what they become (`target`), both rising; straight lines between and beyond.

    `method` is "quantiles" or "mean and standard deviation"; `place` counts the steps of the chain before it.
    """

    method: str
    place: int
    source: tuple[float, ...]
    target: tuple[float, ...]

    @property
    def step(self) -> dict[str, Any]:
        """The step of pack.toml."""
        return {"transform": TRANSFORM, "source": list(self.source), "target": list(self.target)}

    def within(self, use: PackInput) -> PackInput:
        """The input with the step in its chain."""
        arguments = {name: value for name, value in self.step.items() if name != "transform"}
        step = TransformSpec(TRANSFORM, arguments)
        return replace(use, preprocess=(*use.preprocess[: self.place], step, *use.preprocess[self.place :]))


def place_of_map(use: PackInput) -> int:
    """Where in the chain values are mapped: before the first normalisation, else at the end.

    Raises INVALID_ARGUMENT for a chain that has a map already: adapt the pack that this one was derived from.
    """
    names = [step.transform for step in use.preprocess]
    if TRANSFORM in names:
        raise _refused(f"input {use.name!r} has a site's {TRANSFORM} already: start from the pack without it")
    return names.index("NormalizeIntensity") if "NormalizeIntensity" in names else len(names)


def estimate(use: PackInput, site: Values, reference: Values | None) -> IntensityMap:
    """The map from values at the place in the chain, of the site and, where there is one, of the reference.

    Raises INVALID_ARGUMENT where neither a reference nor a stated mean and standard deviation says what to map to, and
    for values that are all the same.
    """
    place = place_of_map(use)
    if reference is not None:
        return _map("quantiles", place, np.percentile(site, PERCENT), np.percentile(reference, PERCENT))
    stated = use.preprocess[place].arguments if place < len(use.preprocess) else {}
    if "subtrahend" not in stated or "divisor" not in stated:
        raise _refused(f"input {use.name!r} states no mean and deviation: name images to map to (data.reference)")
    mean, deviation = (float(np.mean(stated[name])) for name in ("subtrahend", "divisor"))
    found = np.array([site.mean() - site.std(), site.mean() + site.std()])
    return _map("mean and standard deviation", place, found, np.array([mean - deviation, mean + deviation]))


def _map(method: str, place: int, source: Values, target: Values) -> IntensityMap:
    """With knots that rise in both; of several at one value the first is kept."""
    knots: list[tuple[float, float]] = []
    for one, other in zip(source.tolist(), target.tolist(), strict=True):
        if not knots or (one - knots[-1][0] > LEAST_STEP and other - knots[-1][1] > LEAST_STEP):
            knots.append((float(one), float(other)))
    if len(knots) < 2:
        raise _refused("the images have one grey value only")
    found: Sequence[tuple[float, ...]] = tuple(zip(*knots, strict=True))
    return IntensityMap(method, place, *found)


def _refused(cause: str) -> RadserveError:
    return RadserveError(ErrorCode.INVALID_ARGUMENT, f"normalisation: {cause}")
