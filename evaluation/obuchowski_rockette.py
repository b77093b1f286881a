"""The Obuchowski-Rockette analysis of any figure of merit: treatments compared by readers who read the same cases.

The model is theta_ij = mu + tau_i + R_j + (tau R)_ij + e_ij for treatment i and reader j, with errors correlated
because the cases are shared: cov1 (same reader, other treatment), cov2 (other reader, same treatment) and cov3 (both
differ). Sources: Obuchowski and Rockette, Commun Stat Simul Comput 24:285, 1995; Hillis et al., Stat Med 24:1579,
2005 (equivalence with Dorfman-Berbaum-Metz); Hillis, Stat Med 26:596, 2007 (denominator degrees of freedom).

Variance components are ANOVA estimates and can be negative; they are reported as they are. Where a formula needs
max(0, .), the clamp is applied there and reported in `warnings`. What is undefined is NaN, with its reason there.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from scipy import stats

from radserve.evaluation.or_result import (
    Analysis,
    Comparison,
    Components,
    DbmComponents,
    MeanSquares,
    OrResult,
    TreatmentMean,
)
from radserve.evaluation.tables import BoolArray, FloatArray, refusal

ROUNDING = 1e-12  # differences below this share of their terms are rounding, not variance


def obuchowski_rockette(
    estimates: FloatArray,
    covariance: FloatArray,
    *,
    treatments: tuple[str, ...],
    readers: tuple[str, ...],
    n_cases: int,
    analysis: Analysis = Analysis.RANDOM,
    level: float = 0.95,
) -> OrResult:
    """Analyse figures of merit, shape (treatment, reader), with their error covariance.

    Args:
        estimates: float64, shape (t, r).
        covariance: shape (t * r, t * r), in the row-major order of `estimates`.
        treatments, readers: labels of the axes.
        n_cases: number of cases that the covariance was estimated over; it scales the DBM components.
        analysis: which factors are random.
        level: of the intervals, between 0 and 1.

    Raises:
        RadserveError: INVALID_ARGUMENT when shapes or the level do not fit.
    """
    theta = np.array(estimates, dtype=np.float64)
    t, r = len(treatments), len(readers)
    if theta.shape != (t, r) or covariance.shape != (t * r, t * r):
        raise refusal(f"estimates {theta.shape} and covariance {covariance.shape}, expected {t} x {r} and its square")
    if not 0 < level < 1:
        raise refusal(f"confidence level {level}, expected a number between 0 and 1")
    theta.setflags(write=False)
    squares = _mean_squares(theta)
    components = _components(squares, covariance.reshape(t, r, t, r))
    warnings: list[str] = []
    error, df2 = _error_term(analysis, squares, components, t, r, warnings)
    statistic, p = _global_test(squares, error, t - 1, df2, warnings)
    if analysis is Analysis.FIXED_READERS:
        warnings.append("df2 is infinite (null): with fixed readers the test is a chi-square test on df1")
    elif math.isinf(df2):
        warnings.append("df2 is infinite (null): MS(treatment x reader) is 0")
    return OrResult(
        treatments,
        readers,
        n_cases,
        analysis,
        level,
        theta,
        squares,
        components,
        _dbm(components, n_cases),
        "chi2" if analysis is Analysis.FIXED_READERS else "F",
        statistic,
        t - 1,
        df2,
        p,
        _comparisons(theta.mean(axis=1), treatments, None, 2 / r * error, df2, level),
        _treatment_means(theta, covariance.reshape(t, r, t, r), treatments, analysis, level, warnings),
        _reader_comparisons(theta, covariance.reshape(t, r, t, r), treatments, readers, analysis, level, warnings),
        tuple(warnings),
    )


def _mean_squares(theta: FloatArray) -> MeanSquares:
    t, r = theta.shape
    grand, by_treatment, by_reader = theta.mean(), theta.mean(axis=1), theta.mean(axis=0)
    residual = theta - by_treatment[:, None] - by_reader[None, :] + grand
    scale = float(np.abs(theta).max())
    return MeanSquares(
        treatment=_ratio(r * _sum_of_squares(by_treatment - grand, scale), t - 1),
        reader=_ratio(t * _sum_of_squares(by_reader - grand, scale), r - 1),
        treatment_reader=_ratio(_sum_of_squares(residual, scale), (t - 1) * (r - 1)),
    )


def _components(squares: MeanSquares, covariance: FloatArray) -> Components:
    t, r = covariance.shape[:2]
    same_treatment, same_reader = np.eye(t, dtype=bool)[:, None, :, None], np.eye(r, dtype=bool)[None, :, None, :]
    var_error, cov1, cov2, cov3 = (
        _mean_where(covariance, mask)
        for mask in (
            same_treatment & same_reader,
            ~same_treatment & same_reader,
            same_treatment & ~same_reader,
            ~same_treatment & ~same_reader,
        )
    )
    return Components(
        var_reader=(squares.reader - squares.treatment_reader) / t - cov1 + cov3,
        var_treatment_reader=squares.treatment_reader - var_error + cov1 + (cov2 - cov3),
        cov1=cov1,
        cov2=cov2,
        cov3=cov3,
        var_error=var_error,
    )


def _dbm(c: Components, n_cases: int) -> DbmComponents:
    return DbmComponents(
        var_reader=c.var_reader,
        var_case=n_cases * c.cov3,
        var_treatment_reader=c.var_treatment_reader,
        var_treatment_case=n_cases * (c.cov2 - c.cov3),
        var_reader_case=n_cases * (c.cov1 - c.cov3),
        var_error=n_cases * (c.var_error - c.cov1 - c.cov2 + c.cov3),
    )


def _error_term(
    analysis: Analysis, squares: MeanSquares, c: Components, t: int, r: int, warnings: list[str]
) -> tuple[float, float]:
    """Denominator of the test of the treatments, and its degrees of freedom (ddf_H of Hillis 2007 when random)."""
    interaction, interaction_df = squares.treatment_reader, (t - 1) * (r - 1)
    if analysis is Analysis.FIXED_CASES:
        return interaction, interaction_df if interaction_df else math.nan
    shared = _clamped(c.cov2 - c.cov3, "cov2 - cov3 in the error term", warnings) if r > 1 else 0.0
    if analysis is Analysis.FIXED_READERS:
        return _difference(c.var_error, c.cov1) + (r - 1) * shared, math.inf
    return interaction + r * shared, _hillis_df(interaction, r * shared, interaction_df)


def _global_test(squares: MeanSquares, error: float, df1: int, df2: float, warnings: list[str]) -> tuple[float, float]:
    if df1 == 0:
        warnings.append("statistic, p and difference are undefined (null): there is one treatment")
        return math.nan, math.nan
    if math.isnan(error):
        warnings.append("statistic, p and interval are undefined (null): random readers need at least two readers")
        return math.nan, math.nan
    if error <= 0:
        warnings.append(f"statistic, p and interval are undefined (null): the error term is {error:.6g}, not above 0")
        return math.nan, math.nan
    f = squares.treatment / error
    if math.isinf(df2):
        return df1 * f, float(stats.chi2.sf(df1 * f, df1))
    return f, float(stats.f.sf(f, df1, df2))


def _treatment_means(
    theta: FloatArray,
    covariance: FloatArray,
    treatments: tuple[str, ...],
    analysis: Analysis,
    level: float,
    warnings: list[str],
) -> tuple[TreatmentMean, ...]:
    r = theta.shape[1]
    means = []
    for i, treatment in enumerate(treatments):
        block = covariance[i, :, i, :]
        var_error, cov2 = float(np.trace(block)) / r, _mean_where(block, ~np.eye(r, dtype=bool))
        ms_reader = _ratio(_sum_of_squares(theta[i] - theta[i].mean(), float(np.abs(theta[i]).max())), r - 1)
        shared = 0.0
        if analysis is not Analysis.FIXED_CASES and r > 1:
            shared = _clamped(cov2, f"cov2 of treatment {treatment!r}, in its interval", warnings)
        variance, df = {
            Analysis.RANDOM: (ms_reader + r * shared, _hillis_df(ms_reader, r * shared, r - 1)),
            Analysis.FIXED_READERS: (var_error + (r - 1) * shared, math.inf),
            Analysis.FIXED_CASES: (ms_reader, float(r - 1)),
        }[analysis]
        if math.isnan(variance):
            warnings.append(f"the interval of treatment {treatment!r} is undefined (null): there is one reader")
        if math.isinf(df) and analysis is Analysis.RANDOM:
            warnings.append(
                f"the df of treatment {treatment!r} are infinite (null): its readers have the same estimate"
            )
        estimate, se = float(theta[i].mean()), math.sqrt(variance / r)
        interval = _interval(estimate, se, df, level)
        means.append(TreatmentMean(treatment, estimate, se, df, interval, ms_reader, var_error, cov2))
    return tuple(means)


def _reader_comparisons(
    theta: FloatArray,
    covariance: FloatArray,
    treatments: tuple[str, ...],
    readers: tuple[str, ...],
    analysis: Analysis,
    level: float,
    warnings: list[str],
) -> tuple[Comparison, ...]:
    """Each reader alone, from the data of that reader: only where the readers are the population of interest."""
    if analysis is not Analysis.FIXED_READERS:
        return ()
    found: list[Comparison] = []
    off_diagonal = ~np.eye(len(treatments), dtype=bool)
    for j, reader in enumerate(readers):
        block = covariance[:, j, :, j]
        variance = 2 * _difference(float(np.trace(block)) / len(treatments), _mean_where(block, off_diagonal))
        if variance <= 0:
            warnings.append(f"the comparisons of reader {reader!r} have no variance: interval and p are null")
        found.extend(_comparisons(theta[:, j], treatments, reader, variance, math.inf, level))
    return tuple(found)


def _comparisons(
    means: FloatArray, treatments: tuple[str, ...], reader: str | None, variance: float, df: float, level: float
) -> tuple[Comparison, ...]:
    se = math.sqrt(variance) if variance > 0 else math.nan
    found = []
    for (i, a), (k, b) in combinations(enumerate(treatments), 2):
        difference = float(means[i] - means[k])
        statistic = difference / se
        p = float(2 * stats.t.sf(abs(statistic), df))
        interval = _interval(difference, se, df, level)
        found.append(Comparison(a, b, reader, difference, se, df, statistic, p, interval))
    return tuple(found)


def _interval(estimate: float, se: float, df: float, level: float) -> tuple[float, float]:
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
    return estimate - half, estimate + half


def _hillis_df(mean_square: float, shared: float, df: int) -> float:
    """(MS + shared)^2 / (MS^2 / df); infinite where the mean square is 0, NaN where there is none."""
    if math.isnan(mean_square):
        return math.nan
    return df * (1 + shared / mean_square) ** 2 if mean_square > 0 else math.inf


def _clamped(value: float, what: str, warnings: list[str]) -> float:
    if value < 0:
        warnings.append(f"{what} is {value:.6g} and was set to 0")
        return 0.0
    return 0.0 if math.isnan(value) else value


def _mean_where(values: FloatArray, mask: BoolArray) -> float:
    chosen = values[np.broadcast_to(mask, values.shape)]
    return float(chosen.mean()) if chosen.size else math.nan


def _sum_of_squares(deviation: FloatArray, scale: float) -> float:
    return float((np.where(np.abs(deviation) > ROUNDING * scale, deviation, 0.0) ** 2).sum())


def _difference(variance: float, covariance: float) -> float:
    left = variance - covariance
    return left if abs(left) > ROUNDING * variance else 0.0


def _ratio(value: float, by: int) -> float:
    return value / by if by else math.nan
