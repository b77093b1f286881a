"""Agreement of segmentations over cases: means of each structure with bootstrap intervals over the patients.

Cases of one patient are drawn together. With one patient there is nothing to draw from: no interval is stated, and a
warning says so. Intervals are percentile intervals of the mean; the same resamples serve all structures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from radserve.errors import RadserveError
from radserve.evaluation.auc_tests import check_level
from radserve.evaluation.segmentation import Agreement, agreement, on_grid_of
from radserve.evaluation.tables import FloatArray, refusal
from radserve.segments import MaskBlock, SegmentedVolume

METRICS = ("dice", "surface_dice", "hd95_mm", "assd_mm")
FEW = 10  # patients below which a percentile interval is too narrow to lean on


@dataclass(frozen=True)
class CaseAgreement:
    """One structure of one case of a patient."""

    case: str
    patient: str
    structure: str
    found: Agreement


@dataclass(frozen=True)
class Resampling:
    """How intervals are made."""

    replicates: int = 2000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        check_level(self.level)
        if self.replicates < 1:
            raise refusal(f"bootstrap replicates: got {self.replicates}, expected 1 or more")


def compare_case(
    case: str, patient: str, reference: SegmentedVolume, predicted: SegmentedVolume, tolerance_mm: float
) -> list[CaseAgreement]:
    """The agreement in every structure of the reference; one that the prediction does not have was not found there.

    Raises RadserveError INVALID_ARGUMENT naming the case, where the two do not lie on the same voxels.
    """
    try:
        found = on_grid_of(reference, predicted)
    except RadserveError as error:
        raise refusal(f"case {case!r}: {error.client_message}") from error
    empty = MaskBlock((0, 0, 0), np.zeros((0, 0, 0), np.bool_))
    spacing = reference.geometry.spacing_mm
    return [
        CaseAgreement(case, patient, name, agreement(mask, found.masks.get(name, empty), spacing, tolerance_mm))
        for name, mask in reference.masks.items()
    ]


def summarise(cases: Sequence[CaseAgreement], resampling: Resampling, tolerance_mm: float) -> dict[str, Any]:
    """The result of `radserve evaluate segmentation`; its keys stand in docs/evaluation-reference.md."""
    if not cases:
        raise refusal("segmentation: there is no case, or no reference has a structure")
    patients = sorted({each.patient for each in cases})
    weights = _resamples(len(patients), resampling)
    warnings = _warnings(len(patients))
    structures: dict[str, Any] = {}
    drawn: dict[str, list[FloatArray]] = {metric: [] for metric in METRICS}
    for name in dict.fromkeys(each.structure for each in cases):
        of_structure = [each for each in cases if each.structure == name]
        present = [each for each in of_structure if each.found.reference_ml > 0]
        structures[name] = _counts(of_structure, present)
        for metric in METRICS:
            value, replicates = _mean(present, metric, patients, weights)
            drawn[metric].append(np.concatenate([[value], replicates]))
            structures[name][metric] = {"value": value, "ci": _interval(replicates, resampling.level)}
        if missed := structures[name]["missed"]:
            warnings.append(f"{name}: not found in {missed} of {len(present)} cases, which have no distance")
    overall = {metric: _overall(rows, resampling.level) for metric, rows in drawn.items()}
    return {
        "n_cases": len({each.case for each in cases}),
        "n_patients": len(patients),
        "ci_level": resampling.level,
        "bootstrap": resampling.replicates if len(patients) > 1 else None,
        "seed": resampling.seed,
        "tolerance_mm": tolerance_mm,
        "structures": structures,
        "mean": overall,
        "cases": [{"case": each.case, "structure": each.structure, **vars(each.found)} for each in cases],
        "warnings": warnings,
    }


def _counts(cases: Sequence[CaseAgreement], present: Sequence[CaseAgreement]) -> dict[str, Any]:
    absent = [each for each in cases if each.found.reference_ml == 0]
    return {
        "n": len(present),
        "n_absent": len(absent),
        "missed": sum(each.found.predicted_ml == 0 for each in present),
        "made_up": sum(each.found.predicted_ml > 0 for each in absent),
        "reference_ml": _plain_mean([each.found.reference_ml for each in present]),
        "predicted_ml": _plain_mean([each.found.predicted_ml for each in present]),
    }


def _mean(
    cases: Sequence[CaseAgreement], metric: str, patients: Sequence[str], weights: FloatArray | None
) -> tuple[float, FloatArray]:
    """The mean of a metric where it is defined, and that of each resample: NaN where none is."""
    sums, counts = np.zeros(len(patients)), np.zeros(len(patients))
    for each in cases:
        value = float(getattr(each.found, metric))
        if math.isfinite(value):
            sums[patients.index(each.patient)] += value
            counts[patients.index(each.patient)] += 1
    value = float(sums.sum() / counts.sum()) if counts.any() else math.nan
    if weights is None:
        return value, np.zeros(0)
    with np.errstate(invalid="ignore"):
        return value, np.asarray((weights @ sums) / (weights @ counts))


def _overall(rows: Sequence[FloatArray], level: float) -> Mapping[str, Any]:
    """The mean over the structures that have the metric, of the estimate and of each resample."""
    defined = [row for row in rows if math.isfinite(row[0])]
    if not defined:
        return {"value": math.nan, "ci": None}
    means = np.nanmean(np.array(defined), axis=0)
    return {"value": float(means[0]), "ci": _interval(means[1:], level)}


def _interval(replicates: FloatArray, level: float) -> list[float] | None:
    defined = replicates[np.isfinite(replicates)]
    if not len(defined):
        return None
    return [float(each) for each in np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])]


def _resamples(patients: int, resampling: Resampling) -> FloatArray | None:
    """How often each patient is in each resample (replicates, patients); None where there is but one."""
    if patients < 2:
        return None
    generator = np.random.default_rng(resampling.seed)
    return generator.multinomial(patients, np.full(patients, 1 / patients), resampling.replicates).astype(np.float64)


def _warnings(patients: int) -> list[str]:
    if patients == 1:
        return ["one patient: no interval is stated, for nothing is known of how figures vary between patients"]
    if patients < FEW:
        return [f"{patients} patients: percentile intervals of so few are too narrow"]
    return []


def _plain_mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
