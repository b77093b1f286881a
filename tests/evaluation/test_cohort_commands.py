"""The commands sites, prevalence, fairness with several scores, and fairness-trend, from file to JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.evaluating import invoke, refused, run, write_csv


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = rng.random(400) < 0.4
    days = rng.integers(0, 12, 400)
    columns = {
        "y": labels.astype(int).tolist(),
        "nodule": [("", 0, 1)[each] for each in rng.integers(0, 3, 400)],
        "rare": [0] * 400,
        "small": rng.normal(labels * 1.0, 1).tolist(),
        "large": rng.normal(labels * 2.0, 1).tolist(),
        "site": rng.choice(["north", "south"], 400).tolist(),
        "sex": rng.choice(["F", "M"], 400).tolist(),
        "patient": [f"p{number // 2}" for number in range(400)],
        "split": ["train" if number < 201 else "test" for number in range(400)],
        "date": [f"2026-{month + 1:02}-15" for month in days],
    }
    return write_csv(tmp_path / "scores.csv", columns)


def test_sites_gives_the_table_by_patient_and_the_same_bytes_again(scores: Path) -> None:
    command = ("sites", scores, "--label", "y", "--score", "large", "--site", "site", "--bootstrap", 50)
    result = run(*command, "--cluster", "patient")
    assert [each["site"] for each in result["sites"]] == ["north", "south"]
    assert result["method"] == "cluster-bootstrap"
    assert result["pooled"]["n_clusters"] == 200
    assert set(result["sites"][0]) == {"site", "on", "without", "difference"}
    assert result["sites"][0]["on"]["auroc"] == result["sites"][1]["without"]["auroc"]  # with two sites
    assert invoke(*command).stdout == invoke(*command).stdout


def test_sites_refuses_a_patient_in_two_splits(scores: Path) -> None:
    command = ("sites", scores, "--label", "y", "--score", "large", "--site", "site", "--split", "split")
    assert refused(*command, "--cluster", "patient") == "splits overlap: train and test share 1 patients"
    assert "needs --cluster" in refused(*command)


def test_prevalence_gives_support_and_the_shift_of_each_label(scores: Path) -> None:
    result = run(
        *("prevalence", scores, "--label", "y", "--label", "nodule", "--label", "rare", "--group", "site"),
        *("--score", "large", "--score", "small", "--score", "small", "--at", 0.01, "--at", 0.2, "--draws", 20),
        *("--threshold", 1.0, "--threshold", 0.5, "--threshold", 0.5),
    )
    by_key = {(each["label"], each["group"]): each for each in result["support"]}
    assert len(by_key) == 9
    nodule = by_key["nodule", "(all)"]
    assert nodule["n"] + nodule["n_missing"] == 400
    assert nodule["n_missing"] > 0
    assert by_key["rare", "north"]["prevalence"]["value"] == 0
    shift = result["shift"]["y"]
    assert (shift["score"], shift["threshold"]) == ("large", 1.0)
    se, sp = shift["sensitivity"]["value"], shift["specificity"]["value"]
    assert [each["prevalence"] for each in shift["grid"]] == [0.01, 0.2]
    assert shift["grid"][0]["ppv"] == pytest.approx(se * 0.01 / (se * 0.01 + (1 - sp) * 0.99), abs=1e-14)
    assert result["shift"]["nodule"]["threshold"] == 0.5
    assert result["shift"]["nodule"]["sensitivity"]["of"] == nodule["n_positive"]
    assert result["shift"]["rare"] is None
    assert "rare: its known rows are of one class, the shift is null" in result["warnings"]


def test_prevalence_refuses_options_that_do_not_match(scores: Path) -> None:
    command = ("prevalence", scores, "--label", "y", "--label", "nodule")
    assert "got 1 for 2 --label" in refused(*command, "--score", "small")
    assert "--threshold: got 3" in refused(*command, *(("--threshold", 0.5) * 3))
    assert "column 'site', row 1: got " in refused("prevalence", scores, "--label", "site")


def gaps(result: Any, score: str) -> dict[tuple[str, str], float]:
    return {(each["attribute"], each["measure"]): each["difference"] for each in result["scores"][score]["gaps"]}


def test_fairness_of_two_scores_has_both_gaps_and_their_difference(scores: Path) -> None:
    command = ("fairness", scores, "--label", "y", "--score", "small", "--score", "large", "--group", "sex")
    options = ("--threshold", 0.5, "--threshold", 1.0, "--bootstrap", 50, "--cluster", "patient")
    result = run(*command, *options)
    assert result["bootstrap"] == {"replicates": 50, "seed": 0, "clustered": True}
    assert [result["scores"][name]["threshold"] for name in ("small", "large")] == [0.5, 1.0]
    assert {each["measure"] for each in result["comparisons"]} == {"auroc", "tpr", "fpr"}
    for each in result["comparisons"]:
        for side in ("a", "b"):
            key = each["attribute"], each["measure"]
            assert each[side]["gap"] == gaps(result, each[side]["score"])[key]
            assert each[side]["ci"][0] < each[side]["ci"][1]
        assert each["difference"] == each["a"]["gap"] - each["b"]["gap"]
        assert each["difference_ci"][0] < each["difference"] < each["difference_ci"][1]
    assert invoke(*command, *options).stdout == invoke(*command, *options).stdout
    assert "--threshold: got 3 for 2 --score" in refused(*command, *(("--threshold", 0.5) * 3))
    assert "two or more different ones" in refused(*command[:4], *(("--score", "small") * 2), "--group", "sex")


def test_fairness_of_one_score_has_no_comparison_to_cluster(scores: Path) -> None:
    command = ("fairness", scores, "--label", "y", "--score", "small", "--group", "sex")
    assert "gaps" in run(*command)
    assert "several --score columns" in refused(*command, "--cluster", "patient")


@pytest.mark.parametrize(
    ("every", "names"),
    [("quarter", [f"2026-Q{q}" for q in (1, 2, 3, 4)]), ("year", ["2026"]), ("month", None)],
)
def test_the_trend_cuts_a_table_by_its_dates(scores: Path, every: str, names: list[str] | None) -> None:
    result = run(
        *("fairness-trend", scores, "--label", "y", "--score", "large", "--group", "sex", "--threshold", 1),
        *("--date", "date", "--every", every),
    )
    assert [each["period"] for each in result["reviews"]] == (names or [f"2026-{m:02}" for m in range(1, 13)])
    assert sum(each["n"] for each in result["reviews"]) == 400
    assert result["alarm"] is (result["first_alarm"] is not None)


def test_the_trend_takes_one_table_for_each_period(scores: Path) -> None:
    options = ("--label", "y", "--score", "large", "--group", "sex", "--planned-reviews", 4)
    result = run("fairness-trend", f"may={scores}", f"june={scores}", scores, *options)
    assert [each["period"] for each in result["reviews"]] == ["may", "june", "scores"]
    assert result["planned"] == 4
    assert result["reviews"][2]["slopes"][0]["slope"] == pytest.approx(0, abs=1e-12)
    assert "expected one with all periods" in refused("fairness-trend", scores, scores, "--date", "date", *options)
    assert "column 'sex', row 1" in refused("fairness-trend", scores, "--date", "sex", *options)
