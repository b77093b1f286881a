"""`radserve evaluate calibration`: do the probabilities mean what they say, before and after calibrating?

The input has one row per case: a label and one or more probabilities (or logits, with --logits). The JSON object:

- `n`, `n_positive`, `bins`, `binning`, `ci_level`: the request
- `scores`: {COL: {`auroc`, `calibration`, `sites`, `calibrated`}}; `calibration`: `bins` (the reliability curve with
  Wilson intervals), `brier` (`score` = `reliability` - `resolution` + `uncertainty` + `within_bin`), `errors` (`l1`,
  the ECE; `l2`; `max`; `l2_debiased`: `l2` less what chance adds), `observed_to_expected`, `slope`, `intercept`;
  `sites`: the same for each value of --site; `calibrated`: {METHOD: {`parameters`, `auroc`, `calibration`, `sites`}}
  for each --fit
- `fitted_on`: `rows` and `positives` that the calibrators were fitted on, null without --fit
- `warnings`: why a value is null, and what to be careful about
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.special import expit

from radserve.evaluation.calibration import (
    DEFAULT_BINS,
    Binning,
    Calibration,
    assess_calibration,
    check_probabilities,
)
from radserve.evaluation.calibrators import Method, fit, scores_for
from radserve.evaluation.output import STDOUT, without_repeats, write_json
from radserve.evaluation.roc import auc
from radserve.evaluation.tables import BoolArray, FloatArray, Table, read_table


@dataclass(frozen=True)
class _Request:
    bins: int
    binning: Binning
    ci_level: float
    sites: tuple[str, ...] | None
    labels: BoolArray
    warnings: list[str]

    def block(self, title: str, probabilities: FloatArray) -> dict[str, object]:
        """Everything about one column of probabilities, whole and by site; collects the warnings."""
        result: dict[str, object] = {
            "auroc": auc(probabilities, self.labels),
            "calibration": self._assess(title, self.labels, probabilities),
        }
        if self.sites is not None:
            members = np.array(self.sites)
            result["sites"] = {
                site: self._assess(f"{title}, {site}", self.labels[members == site], probabilities[members == site])
                for site in sorted(set(self.sites))
            }
        return result

    def _assess(self, title: str, labels: BoolArray, probabilities: FloatArray) -> Calibration:
        found = assess_calibration(
            labels, probabilities, n_bins=self.bins, binning=self.binning, ci_level=self.ci_level
        )
        self.warnings.extend(f"{title}: {note}" for note in found.warnings)
        return replace(found, warnings=())


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("calibration")(calibration)


def calibration(
    scores_csv: Annotated[Path, typer.Argument(metavar="SCORES.CSV", help="One row for each case, with a header.")],
    label: Annotated[str, typer.Option(help="Column of the truth: 0 and 1, or any two values with --positive.")],
    score: Annotated[list[str], typer.Option(help="Column of a probability of the positive class; repeatable.")],
    positive: Annotated[str | None, typer.Option(help="The value of --label that means positive.")] = None,
    logits: Annotated[bool, typer.Option("--logits", help="The scores are logits, not probabilities.")] = False,
    bins: Annotated[int, typer.Option(help="Number of bins.")] = DEFAULT_BINS,
    binning: Annotated[Binning, typer.Option(help="Bins of equal width or of equal mass.")] = Binning.EQUAL_WIDTH,
    site: Annotated[str | None, typer.Option(help="Column: the same for each of its values.")] = None,
    fit_methods: Annotated[list[Method] | None, typer.Option("--fit", help="Calibrate too; repeatable.")] = None,
    fit_on: Annotated[Path | None, typer.Option(help="CSV with the same columns to fit on.")] = None,
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    json_out: Annotated[str, typer.Option("--json", metavar="OUT|-", help="File of the result.")] = STDOUT,
) -> None:
    """Brier score, calibration errors and reliability curve; temperature, Platt and isotonic calibration."""
    table = read_table(scores_csv)
    labels = table.labels(label, positive)
    sites = None if site is None else table.categories(site)
    warnings: list[str] = []
    request = _Request(bins, binning, ci, sites, labels, warnings)
    source = table if fit_on is None else read_table(fit_on)
    source_labels = source.labels(label, positive)
    if fit_methods and fit_on is None:
        warnings.append("calibrators were fitted and assessed on the same rows: too good to be true (see --fit-on)")
    scores: dict[str, Mapping[str, object]] = {}
    for column in score:
        values = _values(table, column, are_logits=logits)
        block = request.block(column, _sigmoid(values) if logits else values)
        calibrated: dict[str, Mapping[str, object]] = {}
        for method in fit_methods or ():
            fit_values = _values(source, column, are_logits=logits)
            fitted = fit(method, source_labels, scores_for(method, fit_values, are_logits=logits))
            warnings.extend(f"{column}, {method.value}: {note}" for note in fitted.warnings)
            probabilities = fitted.apply(scores_for(method, values, are_logits=logits))
            parameters = replace(fitted, warnings=())
            calibrated[method.value] = {"parameters": parameters} | request.block(f"{column}, {method}", probabilities)
        scores[column] = block | {"calibrated": calibrated}
    fitted_on = {"rows": source.n_rows, "positives": int(source_labels.sum())} if fit_methods else None
    request_block = {"n": table.n_rows, "n_positive": int(labels.sum()), "bins": bins, "binning": binning}
    result = request_block | {"ci_level": ci, "fitted_on": fitted_on, "scores": scores}
    write_json(result | {"warnings": without_repeats(warnings)}, json_out)


def _values(table: Table, column: str, *, are_logits: bool) -> FloatArray:
    values = table.numbers(column)
    return values if are_logits else check_probabilities(column, values)


def _sigmoid(values: FloatArray) -> FloatArray:
    return np.asarray(expit(values), np.float64)
