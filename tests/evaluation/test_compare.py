"""`radserve evaluate compare A B`: paired by id or by row, Holm, the sign, two results without cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.cli import evaluate_app
from radserve.evaluation.delong import clustered_delong
from tests.evaluation.published import asah


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(evaluate_app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def compare(*arguments: object) -> Any:
    return json.loads(invoke("compare", *arguments, "--json", "-"))


def refused(*arguments: object) -> str:
    with pytest.raises(RadserveError) as caught:
        compare(*arguments)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    return caught.value.client_message


@pytest.fixture
def two_models(tmp_path: Path) -> tuple[Path, Path]:
    """Model A holds wfns and ndka, model B s100b and ndka + noise, under the names x and y; B's rows are reversed."""
    scores, positive, table = asah()
    noise = np.random.default_rng(0).normal(size=len(positive))
    columns = {"a": (scores[0], scores[2]), "b": (scores[1], scores[2] + 5 * noise)}
    paths = []
    for name, (x, y) in columns.items():
        order = range(len(positive)) if name == "a" else range(len(positive) - 1, -1, -1)
        rows = [f"c{i},{table.text('outcome')[i]},{x[i].item()!r},{y[i].item()!r},text\n" for i in order]
        path = tmp_path / f"{name}.csv"
        path.write_text("case,outcome,x,y,note\n" + "".join(rows))
        paths.append(path)
    return paths[0], paths[1]


COMMON = ("--label", "outcome", "--positive", "Poor")


def test_cases_are_joined_by_their_id_and_the_difference_is_a_minus_b(two_models: tuple[Path, Path]) -> None:
    result = compare(*two_models, *COMMON, "--id", "case")
    x, y = result["comparisons"]
    assert (x["score"], y["score"]) == ("x", "y")  # the column of text is no score
    assert x["statistic"] == pytest.approx(2.20898359144091, abs=1e-12)  # pROC: roc.test(wfns, s100b)
    assert x["p_two_sided"] == pytest.approx(0.0271757822291882, abs=1e-14)
    assert x["difference"] == pytest.approx(0.823678861788618 - 0.73136856368563685, abs=1e-14)
    assert x["difference_ci"] == pytest.approx([0.0104061769564846, 0.174214419249478], abs=1e-14)
    assert (result["paired"], x["n_a"], x["n_b"]) == (True, 113, 113)
    expected = multipletests([x["p_two_sided"], y["p_two_sided"]], method="holm")[1]
    assert [x["p_holm"], y["p_holm"]] == pytest.approx(expected.tolist(), rel=1e-12)
    backwards = compare(*reversed(two_models), *COMMON, "--id", "case", "--score", "x")["comparisons"][0]
    assert backwards["difference"] == -x["difference"]
    assert backwards["p_greater"] == x["p_less"]


def test_rows_that_are_not_the_same_cases_are_refused(two_models: tuple[Path, Path]) -> None:
    assert "column 'outcome', row 4: A has 'Good', B has 'Poor': the cases are not the same" in refused(
        *two_models, *COMMON
    )


def test_unpaired_models_may_hold_different_cases(two_models: tuple[Path, Path]) -> None:
    x = compare(*two_models, *COMMON, "--unpaired", "--score", "x")["comparisons"][0]
    assert x["statistic"] == pytest.approx(1.43490640926908, abs=1e-12)  # pROC: paired = FALSE
    assert x["df"] is not None


def test_two_results_are_compared_without_their_cases(two_models: tuple[Path, Path], tmp_path: Path) -> None:
    results = []
    for path in two_models:
        out = tmp_path / f"{path.stem}.json"
        invoke("roc", path, *COMMON, "--score", "x", "--json", out)
        results.append(out)
    result = compare(*results)
    assert result["comparisons"][0]["statistic"] == pytest.approx(1.43490640926908, abs=1e-12)
    assert result["comparisons"][0]["p_two_sided"] == pytest.approx(0.152825378808796, abs=1e-14)
    assert (result["paired"], result["comparisons"][0]["p_holm"]) == (False, result["comparisons"][0]["p_two_sided"])
    assert "the tests are unpaired" in result["warnings"][0]
    assert refused(results[0], two_models[1]) == "got a.json and b.csv, expected two CSV files or two JSON results"


def test_cases_of_one_side_alone_are_left_out_and_counted(two_models: tuple[Path, Path], tmp_path: Path) -> None:
    lines = two_models[1].read_text().splitlines(keepends=True)
    fewer = tmp_path / "fewer.csv"
    fewer.write_text("".join(lines[:-13]))
    result = compare(two_models[0], fewer, *COMMON, "--id", "case")
    assert result["comparisons"][0]["n_a"] == result["comparisons"][0]["n_b"] == 100
    assert "13 of 113 cases of A are not in the other: left out" in result["warnings"]
    assert "A has 113 rows and B 100" in refused(two_models[0], fewer, *COMMON)


def test_images_of_one_patient_are_compared_with_the_clustered_variance(tmp_path: Path) -> None:
    scores, positive, table = asah()
    for name, score in (("a", scores[0]), ("b", scores[1])):
        rows = [f"{table.text('outcome')[i]},{score[i].item()!r},p{i}\n" * 3 for i in range(113)]
        (tmp_path / f"{name}.csv").write_text("outcome,s,patient\n" + "".join(rows))
    files = (tmp_path / "a.csv", tmp_path / "b.csv")
    clustered = compare(*files, *COMMON, "--cluster", "patient")["comparisons"][0]
    naive = compare(*files, *COMMON, "--score", "s")["comparisons"][0]
    patients = np.repeat(np.arange(113), 3)
    both = np.array([np.repeat(scores[0], 3), np.repeat(scores[1], 3)])
    variance = clustered_delong(both, np.repeat(positive, 3), patients).difference_variance[0, 1]
    assert clustered["statistic"] == pytest.approx(clustered["difference"] / variance**0.5, rel=1e-12)
    assert clustered["p_two_sided"] > 5 * naive["p_two_sided"]


def test_without_json_a_table_is_printed(two_models: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ("compare", *two_models, *COMMON, "--id", "case", "--score", "x")
    printed = invoke(*arguments)
    assert " ".join(printed.splitlines()[0].split()) == "score AUC A AUC B A - B interval statistic p p (Holm)"
    assert printed.splitlines()[1].split()[:4] == ["x", "0.8237", "0.7314", "0.0923"]
    assert invoke(*arguments, "--json", tmp_path / "out.json") == printed
    assert json.loads((tmp_path / "out.json").read_text())["correction"] == "holm"


def test_a_repeated_id_is_refused_by_row_and_not_by_value(two_models: tuple[Path, Path], tmp_path: Path) -> None:
    twice = tmp_path / "twice.csv"
    twice.write_text(two_models[0].read_text() + "c0,Good,1,1,text\n")
    message = refused(twice, two_models[1], *COMMON, "--id", "case")
    assert "column 'case', row 114: the same value as in row 1" in message
    assert "c0" not in message  # it may name a patient


def test_what_cannot_be_compared_is_refused(two_models: tuple[Path, Path], tmp_path: Path) -> None:
    assert "--label: got none" in refused(*two_models)
    other = tmp_path / "other.csv"
    other.write_text("case,outcome,z\nq1,Good,1\nq2,Poor,2\n")
    assert "no common value" in refused(two_models[0], other, *COMMON, "--id", "case")
    assert "no common score column" in refused(two_models[0], other, *COMMON, "--unpaired", "--id", "case")
    empty = tmp_path / "empty.json"
    empty.write_text("{}")
    assert "it has no object 'scores'" in refused(empty, empty)
    empty.write_text('{"n": 3, "scores": {"x": {"auc": 0.5}}}')
    assert "lacks n, or a score's auc or variance" in refused(empty, empty)
