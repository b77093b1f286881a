"""What is found in a study: coded findings with a place in the image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from radserve._checks import check_uid, check_unit_interval, invalid, read_only
from radserve.geometry import SpatialTransform
from radserve.references import InstanceRef


@dataclass(frozen=True, slots=True)
class CodedConcept:
    """A code with its scheme designator (SCT, RADLEX, DCM ...) and meaning (PS3.3 section 8.8)."""

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        if not (self.value and self.scheme and self.meaning):
            raise invalid("CodedConcept", (self.value, self.scheme, self.meaning), "value, scheme and meaning")


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """How much each place spoke for a finding: `values` (rows, columns) float32 on a coarse grid.

    `grid_to_source` maps grid indices (row, column) to those of the source frame. The values add up to what the score
    is made of: for prompts, the difference of the image's similarity to the positive and to the negative ones; for a
    classifier, its logit less the bias.
    """

    values: npt.NDArray[np.float32] = field(repr=False)
    grid_to_source: SpatialTransform

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape != self.grid_to_source.prepared_shape:
            raise invalid("HeatMap.values", self.values.shape, f"{self.grid_to_source.prepared_shape}")
        object.__setattr__(self, "values", read_only(self.values.astype(np.float32)))


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The frame a finding stands on and, where the model tells it, the place in that frame.

    `outline` (points, 2) float64 is a closed polygon of (column, row) pixel coordinates as SCOORD has them (PS3.3
    C.18.6.1.1): the top left corner of the top left pixel is (0, 0), its centre (0.5, 0.5). The first point is repeated
    as the last. None: the model does not tell where. `heat_map` is there where one was measured. `frame` counts from 1.
    """

    instance: InstanceRef
    frame: int
    outline: npt.NDArray[np.float64] | None = None
    heat_map: HeatMap | None = None

    def __post_init__(self) -> None:
        if self.frame < 1:
            raise invalid("Region.frame", self.frame, "at least 1")
        if self.outline is None:
            return
        outline = np.array(self.outline, dtype=np.float64)
        if outline.ndim != 2 or outline.shape[1] != 2 or len(outline) < 4 or (outline[0] != outline[-1]).any():
            raise invalid("Region.outline", outline.shape, "a closed polygon of at least 3 (column, row) points")
        object.__setattr__(self, "outline", read_only(outline))


@dataclass(frozen=True, slots=True, eq=False)
class SegmentMask:
    """The pixels of a segmented finding: `array` (frames, rows, columns) bool, a part of each of the `frames`.

    `frames` names the source frames as (instance, frame counted from 1), along the normal of a volume, those with a
    pixel alone. The part begins at the pixel (`top`, `left`) of frames of `shape` (rows, columns). `key_probabilities`,
    where they were kept, are those of the whole frame with the most pixels (the first, when equal): `shape` float32.
    """

    frames: tuple[tuple[InstanceRef, int], ...]
    array: npt.NDArray[np.bool_] = field(repr=False)
    top: int
    left: int
    shape: tuple[int, int]
    key_probabilities: npt.NDArray[np.float32] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.array.dtype != np.bool_ or self.array.ndim != 3 or len(self.array) != len(self.frames):
            got = (str(self.array.dtype), self.array.shape)
            raise invalid("SegmentMask.array", got, f"bool ({len(self.frames)}, rows, columns)")
        ends = (self.top + self.array.shape[1], self.left + self.array.shape[2])
        if not self.frames or min(self.top, self.left) < 0 or any(np.array(ends) > self.shape):
            raise invalid("SegmentMask", (self.top, self.left, self.array.shape), f"a part of {self.shape}")
        if self.key_probabilities is not None:
            if self.key_probabilities.shape != self.shape:
                raise invalid("SegmentMask.key_probabilities", self.key_probabilities.shape, f"{self.shape}")
            object.__setattr__(self, "key_probabilities", read_only(self.key_probabilities.astype(np.float32)))
        object.__setattr__(self, "array", read_only(self.array))

    @property
    def key_frame(self) -> int:
        """The index of the frame with the most pixels (the first, when equal)."""
        return int(np.count_nonzero(self.array, axis=(1, 2)).argmax())

    def frame(self, index: int) -> npt.NDArray[np.bool_]:
        """The whole mask (rows, columns) of the frame `self.frames[index]`."""
        whole = np.zeros(self.shape, dtype=np.bool_)
        rows, columns = self.array.shape[1:]
        whole[self.top : self.top + rows, self.left : self.left + columns] = self.array[index]
        return whole


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured quantity of a finding: what (a code), how much, in which unit (UCUM)."""

    name: CodedConcept
    value: float
    unit: CodedConcept

    def __post_init__(self) -> None:
        if not np.isfinite(self.value):
            raise invalid("Measurement.value", self.value, "a finite number")


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A labelled example that the image is like: its name in the pack (nothing of a patient), whether the finding is
    there in it, and the cosine of the two embeddings.
    """

    id: str
    positive: bool
    cosine: float


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One question a pack answers about one series, answered on the frame that speaks most for it.

    `score` is uncalibrated, `probability` calibrated; higher means more likely. `positive` is `probability >=
    threshold`. `region` is the frame and, where known, where the model looked; for a negative finding too. `mask` is
    there for a positive segmented finding, with its `measurements`.

    `ood_score` says how unlike the images of training its frame is (out of distribution), on the scale of the pack's
    gate; None for a pack without one. `cannot_assess`: the probability lies where the model was wrong too often on
    validation images, so that neither state is its answer. `exemplars` are the pack's examples most like its frame.
    """

    label: str
    code: CodedConcept
    site: CodedConcept
    score: float
    probability: float
    threshold: float
    region: Region
    tracking_identifier: str
    tracking_uid: str
    mask: SegmentMask | None = None
    measurements: tuple[Measurement, ...] = ()
    ood_score: float | None = None
    cannot_assess: bool = False
    exemplars: tuple[Exemplar, ...] = ()

    def __post_init__(self) -> None:
        if self.ood_score is not None and not np.isfinite(self.ood_score):
            raise invalid(f"{self.label} ood_score", self.ood_score, "a finite number")
        for name in ("score", "probability", "threshold"):
            check_unit_interval(f"{self.label} {name}", getattr(self, name))
        check_uid("tracking_uid", self.tracking_uid)

    @property
    def positive(self) -> bool:
        return self.probability >= self.threshold

    @property
    def verdict(self) -> str:
        """The answer in words for people."""
        return verdict(positive=self.positive, cannot_assess=self.cannot_assess)


def verdict(*, positive: bool, cannot_assess: bool) -> str:
    """The state of a finding in words for people."""
    if cannot_assess:
        return "cannot be assessed"
    return "present" if positive else "absent"
