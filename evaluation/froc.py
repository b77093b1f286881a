"""Lesion-level figures of merit of free-response studies, compared by the Obuchowski-Rockette analysis.

Sources: Chakraborty and Berbaum, Med Phys 31:2313, 2004 (AFROC); Chakraborty, Observer Performance Methods for
Diagnostic Imaging, 2017 (weighted AFROC; the names are those of its software); Popescu, Med Phys 38:5690, 2011.

A rating is compared by the kernel 1, 1/2 (equal) or 0. An unmarked lesion, and a case without a mark, rate -inf; two
such are equal. Covariances are jackknifed over the cases that a figure uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve.evaluation.froc_study import FrocStudy
from radserve.evaluation.mrmc_covariance import jackknife_covariance
from radserve.evaluation.obuchowski_rockette import obuchowski_rockette
from radserve.evaluation.or_result import Analysis, OrResult
from radserve.evaluation.tables import BoolArray, FloatArray, refusal


class FigureOfMerit(StrEnum):
    """What is measured for each reader and treatment; the values are those of `--fom`.

    Areas: a false mark against a lesion. AFROC: highest NL rating of each non-diseased case against every lesion.
    wAFROC: the same, each lesion with its weight, so that every diseased case counts alike. AFROC1, wAFROC1: the NL
    marks on diseased cases count too (for studies without non-diseased cases). FROC: every NL mark of every case
    against every lesion, per case and lesion; not bounded by 1. HrAuc: ROC from the highest rating of each case.

    End points of the curves, all marks counted: MaxLLF (share of lesions marked), MaxNLF (NL marks per non-diseased
    case), MaxNLFAllCases (per case), HrSe (share of diseased cases with a mark), HrSp (share of non-diseased cases
    without one), ExpTrnsfmSp (exp(-MaxNLF)).
    """

    WAFROC = "wafroc"
    AFROC = "afroc"
    WAFROC1 = "wafroc1"
    AFROC1 = "afroc1"
    FROC = "froc"
    HR_AUC = "hrauc"
    HR_SE = "hrse"
    HR_SP = "hrsp"
    MAX_LLF = "maxllf"
    MAX_NLF = "maxnlf"
    MAX_NLF_ALL_CASES = "maxnlfallcases"
    EXP_TRNSFM_SP = "exptrnsfmsp"


def figures_of_merit(study: FrocStudy, fom: FigureOfMerit = FigureOfMerit.WAFROC) -> tuple[FloatArray, FloatArray]:
    """Figures of merit, shape (treatment, reader), and their leave-one-case-out values, shape (treatment * reader, n).

    n counts the cases that the figure uses: all, or only the diseased or the non-diseased ones for an end point.
    Time O(cases x lesions) for each reader and treatment.

    Raises:
        RadserveError: INVALID_ARGUMENT when the study has fewer than two cases of a kind that the figure needs.
    """
    pieces = _ENDPOINTS[fom](study) if fom in _ENDPOINTS else _areas(study, fom)
    values, left_out = zip(*pieces, strict=True)
    return np.array(values).reshape(len(study.treatments), len(study.readers)), np.array(left_out)


def analyse_froc(
    study: FrocStudy,
    *,
    fom: FigureOfMerit = FigureOfMerit.WAFROC,
    analysis: Analysis = Analysis.RANDOM,
    level: float = 0.95,
) -> OrResult:
    """Compare the treatments of a free-response study; see `figures_of_merit` and `obuchowski_rockette`."""
    values, left_out = figures_of_merit(study, fom)
    return obuchowski_rockette(
        values,
        jackknife_covariance(left_out),
        treatments=study.treatments,
        readers=study.readers,
        n_cases=left_out.shape[1],
        analysis=analysis,
        level=level,
    )


def _areas(study: FrocStudy, fom: FigureOfMerit) -> Iterator[tuple[float, FloatArray]]:
    """Figures of the form sum Q[a, b] / (sum of p[a] x sum of q[b]) over pairs of cases, a false and b true.

    Leaving out a case takes its row and its column from Q, so that no figure is computed anew.
    """
    n_cases, diseased = len(study.cases), study.diseased
    all_false = fom in {FigureOfMerit.WAFROC1, FigureOfMerit.AFROC1, FigureOfMerit.FROC}
    used = np.ones(n_cases, dtype=bool) if all_false else ~diseased
    _require_two(used, "non-diseased cases (without any, use afroc1 or wafroc1)")
    _require_two(diseased, "diseased cases")
    by_case = fom in {FigureOfMerit.WAFROC, FigureOfMerit.WAFROC1, FigureOfMerit.HR_AUC}
    p, q = used.astype(np.float64), (diseased if by_case else study.n_lesions).astype(np.float64)
    for rows, row_case, columns, column_case, weights in _comparisons(study, fom, used):
        kernel = ((rows[:, None] < columns) + 0.5 * (rows[:, None] == columns)) * weights
        by_row = np.bincount(row_case, weights=kernel.sum(axis=1), minlength=n_cases)
        by_column = np.bincount(column_case, weights=kernel.sum(axis=0), minlength=n_cases)
        same_case = (kernel * (row_case[:, None] == column_case)).sum(axis=1)
        both = np.bincount(row_case, weights=same_case, minlength=n_cases)
        total = kernel.sum()
        yield float(total / (p.sum() * q.sum())), (total - by_row - by_column + both) / ((p.sum() - p) * (q.sum() - q))


def _comparisons(study: FrocStudy, fom: FigureOfMerit, used: BoolArray) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """For each treatment and reader: false ratings, their cases, true ratings, their cases and their weights."""
    highest, highest_any = study.highest_false(), study.highest_any()
    used_cases = np.flatnonzero(used)
    weighted = fom in {FigureOfMerit.WAFROC, FigureOfMerit.WAFROC1}
    weights = study.lesion_weights if weighted else np.ones(len(study.lesion_case))
    diseased_cases = np.flatnonzero(study.diseased)
    for i in range(len(study.treatments)):
        for j in range(len(study.readers)):
            if fom is FigureOfMerit.HR_AUC:
                true, true_case = highest_any[i, j, diseased_cases], diseased_cases
                weight = np.ones(len(diseased_cases))
            else:
                true, true_case, weight = study.lesion_ratings[i, j], study.lesion_case, weights
            if fom is FigureOfMerit.FROC:
                here = (study.false_at[:, 0] == i) & (study.false_at[:, 1] == j)
                yield study.false_ratings[here], study.false_at[here, 2], true, true_case, weight
            else:
                yield highest[i, j, used_cases], used_cases, true, true_case, weight


def _ratios(
    counts: npt.NDArray[Any], sizes: npt.NDArray[Any], cases: BoolArray, kind: str
) -> Iterator[tuple[float, FloatArray]]:
    """Sum of counts, shape (treatment, reader, case), per sum of sizes, shape (case,), over some of the cases."""
    _require_two(cases, kind)
    size = sizes[cases].astype(np.float64)
    for count in counts[..., cases].reshape(-1, size.size).astype(np.float64):
        yield float(count.sum() / size.sum()), (count.sum() - count) / (size.sum() - size)


def _max_llf(study: FrocStudy) -> Iterator[tuple[float, FloatArray]]:
    return _ratios(study.true_counts(), study.n_lesions, study.diseased, "diseased cases")


def _max_nlf(study: FrocStudy) -> Iterator[tuple[float, FloatArray]]:
    return _ratios(study.false_counts(), np.ones(len(study.cases)), ~study.diseased, "non-diseased cases")


def _max_nlf_all(study: FrocStudy) -> Iterator[tuple[float, FloatArray]]:
    everything = np.ones(len(study.cases), dtype=bool)
    return _ratios(study.false_counts(), np.ones(len(study.cases)), everything, "cases")


def _hr_se(study: FrocStudy) -> Iterator[tuple[float, FloatArray]]:
    marked = np.isfinite(study.highest_any())
    return _ratios(marked, np.ones(len(study.cases)), study.diseased, "diseased cases")


def _hr_sp(study: FrocStudy) -> Iterator[tuple[float, FloatArray]]:
    return _ratios(study.false_counts() == 0, np.ones(len(study.cases)), ~study.diseased, "non-diseased cases")


def _exp_transformed(study: FrocStudy) -> Iterator[tuple[float, FloatArray]]:
    for value, left_out in _max_nlf(study):
        yield float(np.exp(-value)), np.exp(-left_out)


_ENDPOINTS: Mapping[FigureOfMerit, Callable[[FrocStudy], Iterator[tuple[float, FloatArray]]]] = MappingProxyType(
    {
        FigureOfMerit.MAX_LLF: _max_llf,
        FigureOfMerit.MAX_NLF: _max_nlf,
        FigureOfMerit.MAX_NLF_ALL_CASES: _max_nlf_all,
        FigureOfMerit.HR_SE: _hr_se,
        FigureOfMerit.HR_SP: _hr_sp,
        FigureOfMerit.EXP_TRNSFM_SP: _exp_transformed,
    }
)


def _require_two(cases: BoolArray, kind: str) -> None:
    if cases.sum() < 2:
        raise refusal(f"the figure of merit and its jackknife need at least 2 {kind}, got {int(cases.sum())}")
