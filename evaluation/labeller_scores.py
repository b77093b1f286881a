"""Agreement of two sets of report labels: F1 per label, micro and macro, and F1 of (label, status, side) entities.

Counts per report are kept, so that intervals and paired tests (text_significance) resample reports, not mentions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radserve.evaluation.labeller import LABELS
from radserve.evaluation.labeller_context import Status
from radserve.evaluation.tables import refusal

Labels = Mapping[str, Status | None]


@dataclass(frozen=True)
class F1:
    """Precision, recall and F1 from counts; each is None where its denominator is 0 (never an invented 0 or 1)."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def support(self) -> int:
        """Number of reports (or entities) that have it by the reference."""
        return self.true_positives + self.false_negatives

    @property
    def precision(self) -> float | None:
        """Fraction of what was found that the reference has too."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """Fraction of what the reference has that was found."""
        return _ratio(self.true_positives, self.support)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of the two: 2 TP / (2 TP + FP + FN)."""
        doubled = 2 * self.true_positives
        return _ratio(doubled, doubled + self.false_positives + self.false_negatives)


@dataclass(frozen=True)
class LabelAgreement:
    """F1 of report labels.

    `counts` is int64 of shape (reports, labels, 3): true positives, false positives, false negatives, the labels in
    the order of `per_label`. `macro` is the mean over the labels whose F1 is defined; both are None where none is.
    """

    per_label: Mapping[str, F1]
    micro: float | None
    macro: float | None
    counts: NDArray[np.int64]


def label_f1(
    reference: Sequence[Labels],
    predicted: Sequence[Labels],
    *,
    labels: Sequence[str] = LABELS,
    of: Status = Status.POSITIVE,
    uncertain_is_positive: bool = False,
) -> LabelAgreement:
    """Compare report labels, one mapping per report in the same order.

    `of` is the status that counts as having the label: POSITIVE (with `uncertain_is_positive`, UNCERTAIN too), NEGATIVE
    (for how well negations are found) or UNCERTAIN. A label that a mapping lacks is not mentioned.

    Raises RadserveError INVALID_ARGUMENT when there are no reports or the lengths differ.
    """
    _same_length(reference, predicted)
    wanted = {of, Status.UNCERTAIN} if uncertain_is_positive else {of}
    truth = np.array([[each.get(label) in wanted for label in labels] for each in reference], dtype=bool)
    said = np.array([[each.get(label) in wanted for label in labels] for each in predicted], dtype=bool)
    counts = np.stack([truth & said, ~truth & said, truth & ~said], axis=2).astype(np.int64)
    counts.setflags(write=False)
    per_label = {label: _f1(counts[:, index].sum(axis=0)) for index, label in enumerate(labels)}
    defined = [each.f1 for each in per_label.values() if each.f1 is not None]
    return LabelAgreement(
        per_label, _f1(counts.sum(axis=(0, 1))).f1, sum(defined) / len(defined) if defined else None, counts
    )


def entity_f1(reference: Sequence[Collection[object]], predicted: Sequence[Collection[object]]) -> F1:
    """Compare the distinct entities of each report (`ReportLabels.entities()`), counted over all reports.

    Raises RadserveError INVALID_ARGUMENT when there are no reports or the lengths differ.
    """
    return _f1(entity_counts(reference, predicted).sum(axis=0))


def entity_counts(
    reference: Sequence[Collection[object]], predicted: Sequence[Collection[object]]
) -> NDArray[np.int64]:
    """Return (reports, 3): entities in both, only predicted, only in the reference."""
    _same_length(reference, predicted)
    pairs = [(set(truth), set(said)) for truth, said in zip(reference, predicted, strict=True)]
    return np.array([[len(a & b), len(b - a), len(a - b)] for a, b in pairs], dtype=np.int64)


def f1_from_counts(counts: NDArray[np.int64]) -> float:
    """Return the F1 of summed counts of shape (..., 3), NaN where it is undefined; for resampling."""
    f1 = _f1(counts.reshape(-1, 3).sum(axis=0)).f1
    return float("nan") if f1 is None else f1


def _f1(counts: NDArray[np.int64]) -> F1:
    return F1(*(int(each) for each in counts))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _same_length(reference: Sequence[object], predicted: Sequence[object]) -> None:
    if len(reference) != len(predicted):
        raise refusal(f"reports: got {len(predicted)} predicted, expected {len(reference)} as in the reference")
    if not reference:
        raise refusal("reports: got none, expected at least one")
