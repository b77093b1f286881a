"""Values of an Obuchowski-Rockette analysis (see `obuchowski_rockette`) and their plain form for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from radserve.evaluation.tables import FloatArray


class Analysis(StrEnum):
    """To which populations the conclusion applies; the values are those of `--analysis`."""

    RANDOM = "random"  # readers and cases
    FIXED_READERS = "fixed-readers"  # cases, for these readers
    FIXED_CASES = "fixed-cases"  # readers, for these cases


@dataclass(frozen=True)
class MeanSquares:
    """Of the treatment x reader table of figures of merit."""

    treatment: float
    reader: float
    treatment_reader: float


@dataclass(frozen=True)
class Components:
    """Obuchowski-Rockette variance components and error covariances; unclamped, NaN where the design has none."""

    var_reader: float
    var_treatment_reader: float
    cov1: float
    cov2: float
    cov3: float
    var_error: float


@dataclass(frozen=True)
class DbmComponents:
    """Dorfman-Berbaum-Metz components that correspond to `Components` with N cases; equal to the ANOVA of jackknife
    pseudovalues where the covariance is the jackknife's. `var_error` holds the three-way interaction and the error."""

    var_reader: float
    var_case: float
    var_treatment_reader: float
    var_treatment_case: float
    var_reader_case: float
    var_error: float


@dataclass(frozen=True)
class Comparison:
    """First treatment minus second. `df` is infinite for a normal interval; `reader` is None for the reader average."""

    a: str
    b: str
    reader: str | None
    difference: float
    se: float
    df: float
    statistic: float
    p: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class TreatmentMean:
    """Mean over the readers, with an interval from the data of this treatment alone (never clipped to [0, 1])."""

    treatment: str
    estimate: float
    se: float
    df: float
    interval: tuple[float, float]
    ms_reader: float
    var_error: float
    cov2: float


@dataclass(frozen=True)
class OrResult:
    """An Obuchowski-Rockette analysis. `estimates` has shape (treatment, reader) and is not writeable.

    `statistic` tests that all treatments are equal: F on (df1, df2), or with fixed readers chi-square on df1 (df2
    infinite). p values of pairwise comparisons are two-sided and not adjusted for multiplicity.
    """

    treatments: tuple[str, ...]
    readers: tuple[str, ...]
    n_cases: int
    analysis: Analysis
    level: float
    estimates: FloatArray
    mean_squares: MeanSquares
    components: Components
    dbm: DbmComponents
    statistic_name: str
    statistic: float
    df1: int
    df2: float
    p: float
    comparisons: tuple[Comparison, ...]
    treatment_means: tuple[TreatmentMean, ...]
    reader_comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]


def or_summary(result: OrResult, figure_of_merit: str) -> dict[str, object]:
    """Return a result as the plain mapping that the commands `mrmc` and `froc` write; the schema stands in theirs.

    `figure_of_merit` is the key of the treatment x reader table.
    """
    estimates = {
        treatment: dict(zip(result.readers, row, strict=True))
        for treatment, row in zip(result.treatments, result.estimates.tolist(), strict=True)
    }
    single = result.comparisons[0] if len(result.comparisons) == 1 else None
    warnings = list(result.warnings)
    if len(result.comparisons) > 1:
        warnings.append("difference and interval are null: there are more than two treatments, see comparisons")
    return {
        "n_treatments": len(result.treatments),
        "n_readers": len(result.readers),
        "n_cases": result.n_cases,
        "analysis": result.analysis,
        "ci_level": result.level,
        figure_of_merit: estimates,
        "means": {mean.treatment: mean.estimate for mean in result.treatment_means},
        "components": result.components,
        "dbm_components": result.dbm,
        "mean_squares": result.mean_squares,
        "statistic_name": result.statistic_name,
        "statistic": result.statistic,
        "df1": result.df1,
        "df2": result.df2,
        "p": result.p,
        "difference": single.difference if single else None,
        "interval": single.interval if single else None,
        "comparisons": result.comparisons,
        "treatment_means": result.treatment_means,
        "reader_comparisons": result.reader_comparisons,
        "warnings": warnings,
    }
