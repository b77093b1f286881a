"""`radserve evaluate froc`: compare treatments in which readers mark and rate lesions.

The input tables are described in `froc_tables`; the figures of merit in `froc.FigureOfMerit`. The JSON object has the
keys of `mrmc` (see its module), with `fom` {treatment: {reader: value}} in place of `auc`, and besides:

- `figure_of_merit`: its name; `covariance`: always `jackknife`; `n_cases`: cases that the figure uses (an end point
  uses the diseased or the non-diseased alone); `n_cases_total`, `n_diseased`, `n_lesions`, `n_true_marks`,
  `n_false_marks`: of the study
- `curves`: {treatment: {reader: {`threshold`, `nlf`, `llf`, `weighted_llf`, `fpf`, `tpf`}}}, lists of one length
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from radserve.evaluation.froc import FigureOfMerit, analyse_froc
from radserve.evaluation.froc_curve import operating_points
from radserve.evaluation.froc_study import FrocStudy
from radserve.evaluation.froc_tables import Matching, study_from_tables
from radserve.evaluation.lesion_matching import DuplicateRule, MatchMethod
from radserve.evaluation.mrmc_covariance import CovarianceMethod
from radserve.evaluation.or_result import Analysis, or_summary
from radserve.evaluation.output import without_repeats, write_json
from radserve.evaluation.tables import read_table


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("froc")(froc)


def froc(
    marks: Annotated[Path, typer.Option(help="CSV with one row per mark.")],
    lesions: Annotated[Path, typer.Option(help="CSV with one row per true lesion.")],
    cases: Annotated[Path, typer.Option(help="CSV with one row per case.")],
    json: Annotated[str, typer.Option("--json", help="Where to write the result; - is the standard output.")],
    fom: Annotated[FigureOfMerit, typer.Option(case_sensitive=False, help="Figure of merit.")] = FigureOfMerit.WAFROC,
    reader: Annotated[str, typer.Option(help="Column of the reader in the marks.")] = "reader",
    treatment: Annotated[str, typer.Option(help="Column of the treatment in the marks.")] = "modality",
    analysis: Annotated[
        Analysis, typer.Option(help="Random readers and cases, or one of them fixed.")
    ] = Analysis.RANDOM,
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    match_distance: Annotated[
        float | None, typer.Option(help="Match marks to lesions by position, at most this far apart.")
    ] = None,
    match: Annotated[MatchMethod, typer.Option(help="With --match-distance: how.")] = MatchMethod.GREEDY,
    duplicates: Annotated[
        DuplicateRule, typer.Option(help="With --match-distance: a further mark on a lesion already hit.")
    ] = DuplicateRule.IGNORE,
) -> None:
    """Compare treatments in which readers mark and rate lesions (AFROC and its relatives)."""
    matching = None if match_distance is None else Matching(match_distance, match, duplicates)
    study = study_from_tables(
        read_table(cases),
        read_table(lesions),
        read_table(marks),
        reader=reader,
        treatment=treatment,
        matching=matching,
    )
    result = analyse_froc(study, fom=fom, analysis=analysis, level=ci)
    summary = {
        "figure_of_merit": fom,
        "covariance": CovarianceMethod.JACKKNIFE,
        "n_cases_total": len(study.cases),
        "n_diseased": int(study.diseased.sum()),
        "n_lesions": len(study.lesion_case),
        "n_true_marks": int(np.isfinite(study.lesion_ratings).sum()),
        "n_false_marks": len(study.false_ratings),
    } | or_summary(result, "fom")
    without_healthy = () if not study.diseased.all() else ("fpf of the curves is null: no case is without a lesion",)
    summary["curves"] = _curves(study)
    summary["warnings"] = without_repeats([*study.warnings, *without_healthy, *_texts(summary["warnings"])])
    write_json(summary, json)


def _curves(study: FrocStudy) -> dict[str, dict[str, object]]:
    return {
        treatment: {reader: operating_points(study, i, j) for j, reader in enumerate(study.readers)}
        for i, treatment in enumerate(study.treatments)
    }


def _texts(warnings: object) -> list[str]:
    return [str(each) for each in warnings] if isinstance(warnings, list) else []
