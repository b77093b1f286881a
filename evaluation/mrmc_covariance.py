"""Covariances between the empirical AUCs of readers and treatments who read the same cases: three estimators.

K is the number of AUCs (treatment x reader), m the number of diseased and n of non-diseased cases. All three need at
least two cases of each class and run on float64. The success kernel is 1, 1/2 or 0 (Mann-Whitney).
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from radserve.evaluation.delong import Placements, delong, placements
from radserve.evaluation.tables import BoolArray, FloatArray, refusal


class CovarianceMethod(StrEnum):
    """How the error covariances are estimated; the values are those of `--covariance`."""

    JACKKNIFE = "jackknife"
    DELONG = "delong"
    UNBIASED = "unbiased"


def auc_covariance(
    ratings: FloatArray, diseased: BoolArray, method: CovarianceMethod = CovarianceMethod.JACKKNIFE
) -> tuple[FloatArray, FloatArray]:
    """Empirical AUCs, shape (K,), and their covariance, shape (K, K), from ratings (K, case) and truth (case,).

    Jackknife and DeLong take O(K N log N) for N cases, unbiased O(K^2 m n).

    Raises:
        RadserveError: INVALID_ARGUMENT with fewer than two cases of a class.
    """
    m, n = int(diseased.sum()), int((~diseased).sum())
    if min(m, n) < 2:
        raise refusal(f"covariances need at least 2 cases of each class, got {m} diseased and {n} non-diseased")
    if method is CovarianceMethod.DELONG:
        estimates = delong(ratings, diseased)
        return estimates.auc, estimates.covariance
    placed = placements(ratings, diseased)
    if method is CovarianceMethod.UNBIASED:
        return placed.auc, _unbiased(ratings[:, diseased], ratings[:, ~diseased], placed)
    auc = placed.auc[:, None]
    left_out = np.concatenate(
        [(m * auc - placed.of_positives) / (m - 1), (n * auc - placed.of_negatives) / (n - 1)], axis=1
    )
    return placed.auc, jackknife_covariance(left_out)


def jackknife_covariance(left_out: FloatArray) -> FloatArray:
    """Jackknife covariance (K, K) of K figures of merit from their leave-one-case-out values (K, N).

    (N - 1)/N times the sum of products of deviations from the mean of the left-out values.
    """
    cases = left_out.shape[1]
    deviation = left_out - left_out.mean(axis=1, keepdims=True)
    return np.asarray((cases - 1) / cases * deviation @ deviation.T)


def _unbiased(diseased: FloatArray, healthy: FloatArray, placed: Placements) -> FloatArray:
    """U-statistic estimate (Gallas, Acad Radiol 13:353, 2006; Gallas, Pennello and Meyers, JOSA A 24:B70, 2007).

    The product of two AUCs minus the mean product of kernels that share neither a diseased nor a healthy case,
    which is unbiased for the product of the true AUCs. Memory O(n K).
    """
    m, n = diseased.shape[1], healthy.shape[1]
    kernel_products = np.zeros((diseased.shape[0],) * 2)
    for rating in diseased.T:
        kernel = (rating[:, None] > healthy) + 0.5 * (rating[:, None] == healthy)
        kernel_products += kernel @ kernel.T
    product = np.outer(placed.auc, placed.auc)
    rows, columns = n * placed.of_positives, m * placed.of_negatives
    disjoint = m * m * n * n * product - rows @ rows.T - columns @ columns.T + kernel_products
    return np.asarray(product - disjoint / (m * (m - 1) * n * (n - 1)))
