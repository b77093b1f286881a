"""The commands `mrmc` and `froc`: keys others script against, the same bytes twice, errors that name the cell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from radserve.errors import RadserveError
from radserve.evaluation.commands import froc, mrmc
from radserve.evaluation.mrmc import analyse_auc
from radserve.evaluation.mrmc_covariance import CovarianceMethod
from radserve.evaluation.or_result import Analysis

from .test_froc import simulated as simulated_marks
from .test_mrmc import rows, simulated

COLUMNS = ["--reader", "reader", "--treatment", "treatment", "--case", "case", "--truth", "truth", "--rating", "rating"]


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    mrmc.register(made)
    froc.register(made)
    return made


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    columns = rows(simulated(20, t=2))
    columns["truth"] = [int(value) for value in columns["truth"]]
    path = tmp_path / "ratings.csv"
    lines = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    return path


@pytest.fixture
def free_response(tmp_path: Path) -> list[str]:
    cases, lesions, marks = simulated_marks(11)
    files = {
        "cases": ["case", *cases],
        "lesions": ["case,lesion,weight", *(f"{each.case},{each.lesion},{each.weight}" for each in lesions)],
        "marks": [
            "modality,reader,case,type,lesion,rating",
            *(
                f"{m.treatment},{m.reader},{m.case},{'LL' if m.lesion else 'NL'},{m.lesion or ''},{m.rating}"
                for m in marks
            ),
        ],
    }
    options = []
    for name, lines in files.items():
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join(lines) + "\n")
        options += [f"--{name}", str(path)]
    return options


@pytest.mark.parametrize("analysis", list(Analysis))
@pytest.mark.parametrize("covariance", list(CovarianceMethod))
def test_mrmc_writes_the_documented_keys_in_full_precision(app, ratings, analysis, covariance):
    options = ["--covariance", covariance.value, "--analysis", analysis.value, "--json", "-"]
    outcome = CliRunner().invoke(app, ["mrmc", str(ratings), *COLUMNS, *options], catch_exceptions=False)
    written = json.loads(outcome.stdout)
    result = analyse_auc(simulated(20, t=2), covariance=covariance, analysis=analysis)
    assert written["auc"]["a"]["b"] == result.estimates[0, 1]
    assert written["means"] == {"a": pytest.approx(result.estimates[0].mean()), "b": result.treatment_means[1].estimate}
    assert set(written["components"]) == {"var_reader", "var_treatment_reader", "cov1", "cov2", "cov3", "var_error"}
    assert written["components"]["cov2"] == result.components.cov2
    assert (written["statistic"], written["df1"], written["p"]) == (result.statistic, 1, result.p)
    assert written["df2"] == (None if analysis is Analysis.FIXED_READERS else result.df2)
    assert written["difference"] == result.comparisons[0].difference
    assert written["interval"] == list(result.comparisons[0].interval)
    assert (written["covariance"], written["analysis"], written["n_diseased"]) == (covariance, analysis, 9)
    assert any("df2" in warning for warning in written["warnings"]) == (analysis is Analysis.FIXED_READERS)


def test_mrmc_writes_the_same_bytes_twice(app, ratings, tmp_path):
    targets = [tmp_path / "one.json", tmp_path / "two.json"]
    for target in targets:
        outcome = CliRunner().invoke(app, ["mrmc", str(ratings), *COLUMNS, "--json", str(target)])
        assert outcome.exit_code == 0
    assert targets[0].read_bytes() == targets[1].read_bytes()


def test_mrmc_names_the_reading_that_is_missing(app, ratings):
    lines = ratings.read_text().splitlines()
    ratings.write_text("\n".join(lines[:30] + lines[31:]) + "\n")
    with pytest.raises(RadserveError, match="reader 'b' has no rating of case '9' under treatment 'a'"):
        CliRunner().invoke(app, ["mrmc", str(ratings), *COLUMNS, "--json", "-"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a,a,0,1,", "a,a,0,1,high", "column 'rating', row 1: got 'high"),
        ("a,a,0,1,", "a,a,0,2,", "column 'truth', row 1: got '2'"),
        ("rating", "score", "column 'rating' is not in ratings.csv"),
    ],
)
def test_mrmc_names_column_row_and_value(app, ratings, old, new, message):
    ratings.write_text(ratings.read_text().replace(old, new, 1))
    with pytest.raises(RadserveError, match=message):
        CliRunner().invoke(app, ["mrmc", str(ratings), *COLUMNS, "--json", "-"], catch_exceptions=False)


@pytest.mark.parametrize("fom", ["wafroc", "wAFROC", "HrAuc", "MaxLLF"])
def test_froc_takes_the_usual_names_of_the_figures(app, free_response, fom):
    outcome = CliRunner().invoke(app, ["froc", *free_response, "--fom", fom, "--json", "-"], catch_exceptions=False)
    written = json.loads(outcome.stdout)
    assert written["figure_of_merit"] == fom.lower()
    assert set(written["fom"]) == {"A", "B"}
    assert written["n_cases"] == (6 if fom == "MaxLLF" else 12)
    assert written["n_true_marks"] + written["n_false_marks"] == len(simulated_marks(11)[2])
    points = written["curves"]["A"]["x"]
    assert set(points) == {"threshold", "nlf", "llf", "weighted_llf", "fpf", "tpf"}
    assert (np.diff(points["llf"]) >= 0).all()


def test_froc_without_healthy_cases_gives_null_fpf_with_its_reason(app, tmp_path):
    (tmp_path / "cases.csv").write_text("case\n1\n2\n3\n")
    (tmp_path / "lesions.csv").write_text("case,lesion\n1,1\n2,1\n3,1\n")
    marks = [
        f"{t},{r},{c},{kind}" for t in "AB" for r in "xy" for c, kind in ((1, "LL,1,3"), (2, "NL,,2"), (3, "LL,1,1"))
    ]
    (tmp_path / "marks.csv").write_text("modality,reader,case,type,lesion,rating\n" + "\n".join(marks) + "\n")
    options = [f"--{name}={tmp_path / name}.csv" for name in ("cases", "lesions", "marks")]
    outcome = CliRunner().invoke(app, ["froc", *options, "--fom", "wafroc1", "--json", "-"], catch_exceptions=False)
    written = json.loads(outcome.stdout)
    assert written["curves"]["A"]["x"]["fpf"] == [None] * 3
    assert any("fpf" in warning for warning in written["warnings"])
