"""Correction of p-values for many tests: Holm (family-wise error) or Benjamini-Hochberg (false discovery rate)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from radserve.evaluation.auc_tests import holm


class Correction(StrEnum):
    """The ways to correct."""

    HOLM = "holm"
    BENJAMINI_HOCHBERG = "bh"


def benjamini_hochberg(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return Benjamini and Hochberg's (1995) step-up adjusted p-values, shape (m,), in the order given, at most 1.

    NaN stays and does not count.
    """
    p = np.asarray(p_values, np.float64)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def adjust(p_values: Sequence[float], correction: Correction) -> tuple[float, ...]:
    """Return the p-values adjusted by this correction, in the order given."""
    p = np.asarray(p_values, np.float64)
    adjusted = holm(p) if correction is Correction.HOLM else benjamini_hochberg(p)
    return tuple(float(each) for each in adjusted)
