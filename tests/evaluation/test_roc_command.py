"""`radserve evaluate roc` from file to JSON: the keys of the contract, the numbers, the refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.cli import evaluate_app
from tests.evaluation.published import published

ASAH = ["--label", "outcome", "--positive", "Poor"]


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(evaluate_app, ["roc", *map(str, arguments), "--json", "-"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments: object) -> str:
    with pytest.raises(RadserveError) as caught:
        run(*arguments)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    return caught.value.client_message


def csv_file(folder: Path, text: str) -> Path:
    path = folder / "scores.csv"
    path.write_text(text)
    return path


def null_paths(value: Any, path: str = "") -> Iterator[str]:
    if value is None:
        yield path
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from null_paths(each, f"{path}/{key}")


def test_the_result_has_the_keys_of_the_contract_and_procs_numbers() -> None:
    file = published("asah.csv")
    result = run(
        *(file, *ASAH, "--score", "wfns", "--score", "s100b", "--score", "ndka", "--partial-auc", "1,0.9"),
        *("--compare", "wfns:s100b", "--compare", "wfns:ndka", "--threshold", "0.205", "--group", "gender"),
    )
    assert {"n", "n_positive", "n_negative", "scores", "comparisons", "groups", "warnings"} <= set(result)
    assert (result["n"], result["n_positive"], result["n_negative"]) == (113, 41, 72)
    wfns, s100b = result["scores"]["wfns"], result["scores"]["s100b"]
    keys = {"auc", "variance", "se", "ci", "ci_level", "partial_auc", "operating_points", "points"}
    assert keys <= set(wfns)
    assert wfns["auc"] == pytest.approx(0.823678861788618, abs=1e-14)  # pROC, as cited in test_auc_tests.py
    assert wfns["variance"] == pytest.approx(0.00146991470882363, abs=1e-16)
    assert wfns["se"] ** 2 == pytest.approx(wfns["variance"], abs=1e-16)
    assert wfns["partial_auc"]["raw"] == pytest.approx(0.0334417344173442, abs=1e-14)
    assert wfns["partial_auc"]["corrected"] == pytest.approx(0.649693339038653, abs=1e-14)
    assert s100b["operating_points"]["youden"] == pytest.approx([0.205, 0.634146341463415, 0.805555555555556])
    assert s100b["operating_points"]["threshold"]["confusion"] == {"tp": 26, "fp": 14, "tn": 58, "fn": 15}
    assert s100b["points"][1] == pytest.approx([0.035, 0.975609756097561, 0.0])
    first, second = result["comparisons"]
    assert (first["a"], first["b"], first["paired"], first["df"]) == ("wfns", "s100b", True, None)
    assert first["statistic"] == pytest.approx(2.20898359144091, abs=1e-12)
    assert first["difference_ci"] == pytest.approx([0.0104061769564846, 0.174214419249478], abs=1e-14)
    assert second["p_two_sided"] == pytest.approx(0.00514557970691098, abs=1e-14)
    women = result["groups"]["Female"]["scores"]["ndka"]
    assert women["ci"] == pytest.approx([0.5261398281, 0.8081458862], abs=1e-10)
    assert set(result["groups"]) == {"Female", "Male"}


def test_every_null_has_its_reason_in_the_warnings(tmp_path: Path) -> None:
    file = csv_file(tmp_path, "y,s,g\n0,1,a\n0,2,a\n1,3,a\n1,3,b\n")
    result = run(
        *(file, "--label", "y", "--score", "s", "--partial-auc", "0.9,1", "--threshold", "9"),
        *("--compare", "s:s", "--group", "g", "--prevalence", "0.1"),
    )
    nulls = set(null_paths(result))
    expected = {
        "/scores/s/points/0/0": "JSON cannot hold",
        "/scores/s/points/3/0": "JSON cannot hold",
        "/scores/s/operating_points/threshold/rates/ppv/value": "ppv is null",
        "/overall": None,  # not asked for: there is one score
        "/comparisons/0/df": "df is null",
        "/groups/b": "group 'b': null, its 1 rows are of one class",
        "/groups/a/scores/s/ci/0": "the interval is null",
    }
    for path, reason in expected.items():
        assert path in nulls
        assert reason is None or any(reason in warning for warning in result["warnings"])
    assert result["groups"]["a"]["scores"]["s"]["variance"] is None


def test_without_a_request_partial_area_and_threshold_are_null(tmp_path: Path) -> None:
    block = run(csv_file(tmp_path, "y,s\n0,1\n1,2\n0,2\n1,3\n"), "--label", "y", "--score", "s")["scores"]["s"]
    assert block["partial_auc"] is None
    assert block["operating_points"]["threshold"] is None


def test_perfect_separation_is_stated_not_invented(tmp_path: Path) -> None:
    file = csv_file(tmp_path, "y,s\n" + "".join(f"{int(i >= 30)},{i}\n" for i in range(50)))
    result = run(file, "--label", "y", "--score", "s")
    block = result["scores"]["s"]
    assert (block["auc"], block["variance"], block["ci"]) == (1.0, 0.0, [1.0, 1.0])
    assert any("DeLong gives no interval there" in text for text in result["warnings"])
    assert any("lower bound from 20 disjoint pairs is 0.831567" in text for text in result["warnings"])
    logit = run(file, "--label", "y", "--score", "s", "--interval", "logit")
    assert logit["scores"]["s"]["ci"] == [None, None]


def test_a_score_below_chance_is_kept_and_remarked(tmp_path: Path) -> None:
    result = run(csv_file(tmp_path, "y,s\n1,1\n0,2\n1,2\n0,3\n"), "--label", "y", "--score", "s")
    assert result["scores"]["s"]["auc"] == 0.125
    assert any("nothing was turned round" in text for text in result["warnings"])


def test_unpaired_comparisons_have_welchs_degrees_of_freedom() -> None:
    columns = ("--score", "wfns", "--score", "s100b", "--compare", "wfns:s100b", "--unpaired")
    (comparison,) = run(published("asah.csv"), *ASAH, *columns)["comparisons"]
    assert comparison["paired"] is False
    assert comparison["statistic"] == pytest.approx(1.43490640926908, abs=1e-12)
    a, b, n = 0.00146991470882363, 0.00266868245717244, 113
    assert comparison["df"] == pytest.approx((a + b) ** 2 / (a**2 / (n - 1) + b**2 / (n - 1)), rel=1e-12)


def test_bootstrap_and_cluster_intervals_are_seeded_and_say_what_they_are(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    rows = [f"{i % 2},{generator.normal() + i % 2!r},p{i}\n" * 4 for i in range(40)]
    file = csv_file(tmp_path, "y,s,patient\n" + "".join(rows))
    common = (file, "--label", "y", "--score", "s", "--partial-auc", "1,0.8")
    plain = run(*common)["scores"]["s"]
    boot = run(*common, "--bootstrap", 200, "--seed", 5)["scores"]["s"]
    cluster = run(*common, "--bootstrap", 200, "--seed", 5, "--cluster", "patient")["scores"]["s"]
    width = {name: block["ci"][1] - block["ci"][0] for name, block in (("boot", boot), ("cluster", cluster))}
    assert [block["ci_method"] for block in (plain, boot, cluster)] == ["delong", "bootstrap", "cluster-bootstrap"]
    assert width["cluster"] > 1.6 * width["boot"]
    assert cluster["se"] > 1.6 * plain["se"]  # Obuchowski's
    assert boot["variance"] == plain["variance"]
    low, high = boot["partial_auc"]["raw_ci"]
    assert low < plain["partial_auc"]["raw"] < high
    assert run(*common, "--bootstrap", 200, "--seed", 6)["scores"]["s"]["ci"] != boot["ci"]


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    file = published("asah.csv")
    written = []
    for name in ("a.json", "b.json"):
        out = tmp_path / name
        arguments = ["roc", str(file), *ASAH, "--score", "s100b", "--bootstrap", "50", "--json", str(out)]
        assert CliRunner().invoke(evaluate_app, arguments).exit_code == 0
        written.append(out.read_bytes())
    assert written[0] == written[1]
    assert json.loads(written[0])["scores"]["s100b"]["auc"] == 0.7313685636856369  # all digits of the double


def test_fixed_sensitivity_and_specificity_can_be_asked_for() -> None:
    columns = ("--score", "s100b", "--at-sensitivity", "0.9", "--at-specificity", "0.9")
    points = run(published("asah.csv"), *ASAH, *columns)["scores"]["s100b"]["operating_points"]
    assert points["at_sensitivity"] == pytest.approx([0.075, 0.902439024390244, 0.222222222222222])  # pROC's row
    assert points["at_specificity"] == pytest.approx([0.435, 0.390243902439024, 0.902777777777778])


def test_a_bootstrapped_comparison_has_the_interval_of_the_difference_too() -> None:
    columns = ("--score", "wfns", "--score", "s100b", "--compare", "wfns:s100b", "--bootstrap", 500, "--seed", 2)
    (comparison,) = run(published("asah.csv"), *ASAH, *columns)["comparisons"]
    assert comparison["difference_ci"] == pytest.approx([0.0104061769564846, 0.174214419249478], abs=1e-14)
    assert comparison["difference_bootstrap_ci"] == pytest.approx(comparison["difference_ci"], abs=0.03)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("y,s\n0,1\n1,high\n", [], "column 's', row 2: got 'high', expected a finite number"),
        ("y,s\n0,1\n1,inf\n", [], "column 's', row 2: got 'inf', expected a finite number"),
        ("y,s\n0,1\n2,1\n", [], "column 'y', row 2: got '2', expected 0 or 1"),
        ("y,s\n1,1\n1,2\n", [], "column 'y' has one class only, '1', in all 2 rows"),
        ("y,s\n", [], "scores.csv has a header but no data row"),
        ("", [], "scores.csv is empty"),
        ("y,t\n0,1\n1,2\n", [], "column 's' is not in scores.csv, which has 'y', 't'"),
        ("y,s\n0,1\n1\n", [], "scores.csv, row 2: got 1 fields, expected 2"),
        ("y,s\n0,1\n1,2\n", ["--compare", "s:t"], "--compare: column 't' is not among the --score columns ['s']"),
        ("y,s\n0,1\n1,2\n", ["--compare", "s"], "--compare: got 's', expected COL:COL"),
        ("y,s\n0,1\n1,2\n", ["--partial-auc", "1"], "--partial-auc: got '1', expected two numbers"),
        ("y,s\n0,1\n1,2\n", ["--partial-auc", "1,2"], "partial AUC bounds: got 1.0 and 2.0"),
        ("y,s\n0,1\n1,2\n", ["--focus", "x"], "--focus: got 'x', expected specificity or sensitivity"),
        ("y,s\n0,1\n1,2\n", ["--ci", "95"], "confidence level: got 95.0"),
        ("y,s\n0,1\n1,2\n", ["--bootstrap", "-1"], "--bootstrap: got -1"),
        ("y,s\n0,1\n1,2\n", ["--seed", "-1"], "--seed: got -1, expected 0 or more"),
        ("y,s\n0,1\n1,2\n", ["--threshold", "nan"], "threshold: got nan"),
        ("y,s\n0,1\n1,2\n", ["--group", "site"], "column 'site' is not in scores.csv"),
        ("y,s\n0,1\n1,2\n", ["--score", "s"], "--score: got ['s', 's'], expected one or more different columns"),
    ],
)
def test_bad_input_is_refused_with_its_place(text: str, options: list[str], message: str, tmp_path: Path) -> None:
    assert refused(csv_file(tmp_path, text), "--label", "y", "--score", "s", *options).startswith(message)


def test_columns_with_a_colon_in_their_names_can_be_compared(tmp_path: Path) -> None:
    file = csv_file(tmp_path, "y,m:1,m:2\n0,1,4\n1,2,3\n0,3,2\n1,4,5\n")
    columns = ("--label", "y", "--score", "m:1", "--score", "m:2", "--compare", "m:1:m:2")
    (comparison,) = run(file, *columns)["comparisons"]
    assert (comparison["a"], comparison["b"]) == ("m:1", "m:2")


def test_the_program_ends_an_error_in_one_line_and_exit_code_1(tmp_path: Path) -> None:
    file = csv_file(tmp_path, "y,s\n0,1\n1,nan\n")
    command = [sys.executable, "-m", "radserve.evaluation", "roc", str(file), "--label", "y", "--score", "s"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "INVALID_ARGUMENT: column 's', row 2: got 'nan', expected a finite number\n"
