"""`radserve evaluate mrmc`: compare treatments (with and without AI, two modalities) read by the same readers.

The input has one row per reading: reader, treatment, case, truth and rating, fully crossed. The JSON object:

- `n_treatments`, `n_readers`, `n_cases`, `n_diseased`; `covariance`, `analysis`, `ci_level`: the request
- `auc`: {treatment: {reader: AUC}}; `means`: {treatment: mean over the readers}
- `components`: `var_reader`, `var_treatment_reader`, `cov1`, `cov2`, `cov3`, `var_error` (Obuchowski-Rockette; can be
  negative); `dbm_components`: `var_reader`, `var_case`, `var_treatment_reader`, `var_treatment_case`,
  `var_reader_case`, `var_error`; `mean_squares`: `treatment`, `reader`, `treatment_reader`
- `statistic_name` (`F`, or `chi2` with fixed readers), `statistic`, `df1`, `df2`, `p`: are all treatments equal?
- `difference`, `interval`: first minus second treatment, where there are two
- `comparisons`: every pair, [{`a`, `b`, `reader` (null), `difference` (a - b), `se`, `df`, `statistic`, `p`,
  `interval`}], two-sided, not adjusted for multiplicity
- `treatment_means`: [{`treatment`, `estimate`, `se`, `df`, `interval`, `ms_reader`, `var_error`, `cov2`}], each from
  the data of that treatment alone
- `reader_comparisons`: as `comparisons`, for each reader alone (fixed readers only)
- `warnings`: why a value is null (an infinite `df` is null), and which terms were set to 0

Treatments and readers are in the order of their names (as numbers where all are numbers).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radserve.evaluation.mrmc import analyse_auc
from radserve.evaluation.mrmc_covariance import CovarianceMethod
from radserve.evaluation.mrmc_study import reader_study
from radserve.evaluation.or_result import Analysis, or_summary
from radserve.evaluation.output import write_json
from radserve.evaluation.tables import read_table


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("mrmc")(mrmc)


def mrmc(
    ratings: Annotated[Path, typer.Argument(help="CSV with one row per reading.")],
    reader: Annotated[str, typer.Option(help="Column of the reader.")],
    treatment: Annotated[str, typer.Option(help="Column of the treatment or modality.")],
    case: Annotated[str, typer.Option(help="Column of the case.")],
    truth: Annotated[str, typer.Option(help="Column of the truth: 1 is diseased, 0 is not.")],
    rating: Annotated[str, typer.Option(help="Column of the rating; higher means more suspicious.")],
    json: Annotated[str, typer.Option("--json", help="Where to write the result; - is the standard output.")],
    positive: Annotated[str | None, typer.Option(help="Value of the truth column that means diseased.")] = None,
    covariance: Annotated[
        CovarianceMethod, typer.Option(help="Estimator of the error covariances.")
    ] = CovarianceMethod.JACKKNIFE,
    analysis: Annotated[
        Analysis, typer.Option(help="Random readers and cases, or one of them fixed.")
    ] = Analysis.RANDOM,
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
) -> None:
    """Compare treatments read by several readers on the same cases (Obuchowski-Rockette, empirical AUC)."""
    table = read_table(ratings)
    study = reader_study(
        reader=table.categories(reader),
        treatment=table.categories(treatment),
        case=table.categories(case),
        truth=table.labels(truth, positive),
        rating=table.numbers(rating),
    )
    result = analyse_auc(study, covariance=covariance, analysis=analysis, level=ci)
    request = {"n_diseased": int(study.truth.sum()), "covariance": covariance}
    write_json(request | or_summary(result, "auc"), json)
