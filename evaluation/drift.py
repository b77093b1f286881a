"""Has the cohort changed? Kolmogorov-Smirnov, population stability index and maximum mean discrepancy, with p-values.

Every alarm is at a stated false-alarm rate: with no change, a run alarms with at most that probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.spatial.distance import cdist

from radserve.evaluation.multiplicity import Correction, adjust
from radserve.evaluation.tables import FloatArray, refusal

PSI_BINS = 10
PSI_FLOOR = 0.5  # counts; keeps an empty bin from making the index infinite
LARGEST_KERNEL = 2000  # rows of each cohort in the MMD kernel; more are thinned by the seed


@dataclass(frozen=True)
class FeatureDrift:
    """Drift of one number per study. `p` is of the KS test, `p_adjusted` Holm's over all features."""

    n_reference: int
    n_current: int
    ks_statistic: float
    p: float
    p_adjusted: float
    psi: float
    psi_p: float
    alarm: bool


@dataclass(frozen=True)
class JointDrift:
    """Drift of all features together: squared MMD (unbiased) with its permutation p-value."""

    mmd_squared: float
    p: float
    n_permutations: int
    n_reference: int
    n_current: int
    bandwidth: float
    alarm: bool


@dataclass(frozen=True)
class Drift:
    """`alarm` is true when any feature or the joint test alarms; the false-alarm rate of the whole is at most `alpha`.

    Half of `alpha` goes to the features (Holm), half to the joint test.
    """

    alpha: float
    features: Mapping[str, FeatureDrift]
    joint: JointDrift
    alarm: bool


@dataclass(frozen=True)
class Monitoring:
    """Consecutive windows of a stream against a reference; `first_alarm_study` counts studies from 1."""

    alpha: float
    window: int
    p_values: tuple[float, ...]
    first_alarm_window: int | None
    first_alarm_study: int | None


def psi(reference: FloatArray, current: FloatArray, n_bins: int = PSI_BINS) -> tuple[float, float]:
    """Return the population stability index and its p-value.

    Bins are quantiles of the reference (equal ones merged). PSI = sum (q - r) ln(q / r). With no change PSI divided by
    1/n + 1/m follows about a chi-square of bins - 1 degrees of freedom (Yurdakul, 2018). The reading of credit scoring:
    under 0.1 stable, over 0.25 changed; with small cohorts look at the p-value instead.
    """
    edges = np.unique(np.quantile(reference, np.arange(1, n_bins) / n_bins))
    counts = [
        np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1).astype(np.float64)
        for values in (reference, current)
    ]
    before, after = (np.maximum(each, PSI_FLOOR) / each.sum() for each in counts)
    index = float(np.sum((after - before) * np.log(after / before)))
    scale = 1 / len(reference) + 1 / len(current)
    return index, float(stats.chi2.sf(index / scale, len(edges)))


def mmd(
    reference: FloatArray, current: FloatArray, *, n_permutations: int = 500, seed: int = 0
) -> tuple[float, float, float]:
    """Return (squared MMD, p-value, bandwidth) of two cohorts of shape (n, features) and (m, features).

    Gretton et al. (2012): unbiased estimate, Gaussian kernel of the median distance of the pooled cohorts; the p-value
    (1 + permutations at least as large) / (1 + permutations) is exact for any sample size.
    """
    pooled = np.concatenate([reference, current])
    squared = cdist(pooled, pooled, "sqeuclidean")
    positive = squared[squared > 0]
    bandwidth = float(np.sqrt(np.median(positive) / 2)) if len(positive) else 1.0
    kernel = np.exp(-squared / (2 * bandwidth**2))
    np.fill_diagonal(kernel, 0.0)
    n, m = len(reference), len(current)
    rng = np.random.default_rng(seed)
    members = np.zeros((n + m, n_permutations + 1))
    members[:n, 0] = 1
    for column in range(1, n_permutations + 1):
        members[rng.permutation(n + m)[:n], column] = 1
    statistics = _mmd_squared(kernel, members, n, m)
    as_large = int(np.sum(statistics[1:] >= statistics[0] - 1e-12))
    return float(statistics[0]), (1 + as_large) / (1 + n_permutations), bandwidth


def cohort_drift(
    reference: Mapping[str, FloatArray],
    current: Mapping[str, FloatArray],
    *,
    alpha: float = 0.01,
    n_permutations: int = 999,
    seed: int = 0,
) -> Drift:
    """Compare two cohorts, given as features of shape (n,) and (m,) under the same names.

    Raises INVALID_ARGUMENT for different names or lengths, fewer than 5 rows, and too few permutations for `alpha`.
    """
    _check(reference, current, alpha)
    if 1 / (1 + n_permutations) > alpha / 2:
        raise refusal(
            f"permutations: got {n_permutations}, expected at least {int(np.ceil(2 / alpha)) - 1} for alpha {alpha}"
        )
    tests = {name: stats.ks_2samp(reference[name], current[name]) for name in reference}
    adjusted = dict(zip(tests, adjust([float(test.pvalue) for test in tests.values()], Correction.HOLM), strict=True))
    features = {}
    for name, test in tests.items():
        index, index_p = psi(reference[name], current[name])
        features[name] = FeatureDrift(
            n_reference=len(reference[name]),
            n_current=len(current[name]),
            ks_statistic=float(test.statistic),
            p=float(test.pvalue),
            p_adjusted=adjusted[name],
            psi=index,
            psi_p=index_p,
            alarm=adjusted[name] <= alpha / 2,
        )
    joint = _joint(reference, current, alpha / 2, n_permutations, seed)
    return Drift(alpha, features, joint, joint.alarm or any(each.alarm for each in features.values()))


def monitor(reference: FloatArray, stream: FloatArray, *, window: int, alpha: float = 0.01) -> Monitoring:
    """Test consecutive windows of `window` studies against the reference with KS, at alpha / windows each (Bonferroni).

    The whole run alarms falsely with probability at most `alpha`. A last window that is not full is left out.
    """
    n_windows = len(stream) // window if window > 0 else 0
    if window < 5 or n_windows < 1:
        raise refusal(f"window: got {window} for {len(stream)} studies, expected from 5 to the length of the stream")
    windows = stream[: n_windows * window].reshape(n_windows, window)
    p_values = tuple(float(stats.ks_2samp(reference, each).pvalue) for each in windows)
    alarms = [number for number, p in enumerate(p_values) if p <= alpha / n_windows]
    first = alarms[0] if alarms else None
    return Monitoring(alpha, window, p_values, first, None if first is None else (first + 1) * window)


def _mmd_squared(kernel: FloatArray, members: FloatArray, n: int, m: int) -> FloatArray:
    """One statistic for each column of `members` (1 for the n rows of the first cohort, 0 for the m of the second)."""
    product = kernel @ members
    within_first = np.sum(members * product, axis=0)
    across = np.sum((1 - members) * product, axis=0)
    within_second = kernel.sum() - within_first - 2 * across
    return np.asarray(
        within_first / (n * (n - 1)) + within_second / (m * (m - 1)) - 2 * across / (n * m), dtype=np.float64
    )


def _joint(
    reference: Mapping[str, FloatArray], current: Mapping[str, FloatArray], alpha: float, n_permutations: int, seed: int
) -> JointDrift:
    """MMD on the pooled ranks of each feature, scaled to [0, 1]: no unit and no outlier outweighs the others."""
    rng = np.random.default_rng([seed, 1])
    n = len(next(iter(reference.values())))
    ranks = np.column_stack([stats.rankdata(np.concatenate([reference[name], current[name]])) for name in reference])
    scaled = ranks / len(ranks)
    before, after = _thinned(scaled[:n], rng), _thinned(scaled[n:], rng)
    squared, p, bandwidth = mmd(before, after, n_permutations=n_permutations, seed=seed)
    return JointDrift(squared, p, n_permutations, len(before), len(after), bandwidth, p <= alpha)


def _thinned(rows: FloatArray, rng: np.random.Generator) -> FloatArray:
    if len(rows) <= LARGEST_KERNEL:
        return rows
    return rows[np.sort(rng.choice(len(rows), LARGEST_KERNEL, replace=False))]


def _check(reference: Mapping[str, FloatArray], current: Mapping[str, FloatArray], alpha: float) -> None:
    if set(reference) != set(current) or not reference:
        raise refusal(f"drift: got features {sorted(current)}, expected those of the reference, {sorted(reference)}")
    if not 0 < alpha < 1:
        raise refusal(f"alpha: got {alpha}, expected a number between 0 and 1")
    for cohort in (reference, current):
        lengths = {len(values) for values in cohort.values()}
        if len(lengths) > 1 or min(lengths) < 5:
            raise refusal(f"drift: got features of {sorted(lengths)} rows, expected one length of at least 5")
