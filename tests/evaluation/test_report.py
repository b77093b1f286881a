"""The evaluation report: all rows, the right numbers, the same bytes, one page that needs nothing."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score
from typer.testing import CliRunner

from radserve.errors import RadserveError
from radserve.evaluation.cli import evaluate_app
from radserve.evaluation.report.indicators import INDICATORS, Capability
from radserve.evaluation.report.json_form import by_axes, report_to_json
from radserve.evaluation.report.plan import read_plan
from radserve.evaluation.report.rows import make_report

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "evaluation-report.schema.json").read_text())
PLAN = """
title = "Planted"
model = "a model"
data = "made for a test"
scores = "scores.csv"
bootstrap = 200
groups = ["site"]

[measured]
robustness = "robustness.json"
user_acceptance = "sus.json"

[not_measured]
knowledge_qa = "it answers no questions"
"""


def planted(seed: int = 0) -> list[dict[str, Any]]:
    """Two findings, 400 studies each, with scores that know something of the label."""
    rng = np.random.default_rng(seed)
    rows = []
    for finding, shift in (("Pneumonia", 2.0), ("Nodule", 1.0)):
        for number in range(400):
            label = int(rng.random() < 0.4)
            probability = 1 / (1 + np.exp(-(rng.normal() + shift * (label - 0.5))))
            says = "present" if probability >= 0.5 else "absent"
            rows.append(
                {
                    "study_instance_uid": f"1.2.{number}",
                    "finding": finding,
                    "label": label,
                    "score": repr(float(probability**2)),
                    "probability": repr(float(probability)),
                    "threshold": "0.5",
                    "report_says": "withheld" if number % 100 == 0 else says,
                    "total_ms": repr(float(100 + number % 7)),
                    "site": "north" if number % 2 else "south",
                }
            )
    return rows


def write_case(folder: Path, rows: list[dict[str, Any]], plan: str = PLAN) -> Path:
    with (folder / "scores.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    conditions = [
        {"corruption": "blur", "severity": s, "auroc": 0.9 - s / 50, "auroc_drop": s / 50, "flip_rate": s / 100}
        for s in range(1, 6)
    ]
    robustness = {"Pneumonia": {"value": 0.06, "n": 400, "conditions": conditions}}
    (folder / "robustness.json").write_text(json.dumps(robustness))
    (folder / "sus.json").write_text(json.dumps({"value": 71.5, "interval": [60.0, 80.0], "n": 12}))
    (folder / "plan.toml").write_text(plan)
    return folder / "plan.toml"


def columns(rows: list[dict[str, Any]], finding: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chosen = [row for row in rows if row["finding"] == finding]
    return tuple(np.array([float(row[name]) for row in chosen]) for name in ("label", "score", "probability"))  # type: ignore[return-value]


@pytest.fixture
def report(tmp_path: Path) -> dict[str, Any]:
    return json.loads(json.dumps(run(write_case(tmp_path, planted()))))


def run(plan: Path) -> dict[str, Any]:
    out = plan.parent / "report.json"
    command = ["report", str(plan), "--json", str(out), "--html", str(plan.parent / "report.html")]
    outcome = CliRunner().invoke(evaluate_app, command, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return dict(json.loads(out.read_text()))


def row(report: dict[str, Any], key: str) -> dict[str, Any]:
    (found,) = [each for each in report["indicators"] if each["key"] == key]
    return dict(found)


def test_all_seventeen_rows_are_there_each_measured_or_with_its_reason(report: dict[str, Any]) -> None:
    jsonschema.validate(report, SCHEMA)
    assert [each["key"] for each in report["indicators"]] == [each.key for each in INDICATORS]
    assert len(INDICATORS) == 17
    for each in report["indicators"]:
        assert bool(each["values"]) is not bool(each["not_measured"])
    assert row(report, "knowledge_qa")["not_measured"] == "it answers no questions"
    assert row(report, "explainability")["not_measured"] == "the plan names no measurement of it"


def test_the_groups_of_table_2_have_six_five_four_and_two_rows() -> None:
    sizes = [sum(each.capability is capability for each in INDICATORS) for capability in Capability]
    assert sizes == [6, 5, 4, 2]


def test_every_metric_stands_in_one_cell_of_the_coverage_matrix(report: dict[str, Any]) -> None:
    metrics = [key for cell in report["coverage"] for key in cell["metrics"]]
    assert sorted(metrics) == sorted(each.key for each in INDICATORS)
    assert any(not cell["metrics"] for cell in report["coverage"])  # empty cells are visible


def test_indicators_can_be_chosen_by_each_axis_and_a_wrong_place_is_refused(report: dict[str, Any]) -> None:
    rows = report["indicators"]
    assert by_axes(rows) == rows
    for axis in ("capability", "task", "metric"):
        places = {row[axis] for row in rows}
        parts = [by_axes(rows, **{axis: place}) for place in places]
        assert sorted(row["key"] for part in parts for row in part) == sorted(row["key"] for row in rows)
        assert all(len({row[axis] for row in part}) == 1 for part in parts)
    both = by_axes(rows, capability="advanced performance", task="medical language")
    assert {row["key"] for row in both} == {"language_understanding", "knowledge_qa", "complex_reasoning"}
    with pytest.raises(RadserveError, match="task: got 'cooking', expected one of lesion classification"):
        by_axes(rows, task="cooking")


@pytest.mark.parametrize(("finding", "at"), [("Pneumonia", 0), ("Nodule", 1)])
def test_the_numbers_are_those_of_scikit_learn(report: dict[str, Any], finding: str, at: int) -> None:
    labels, scores, probabilities = columns(planted(), finding)
    called = probabilities >= 0.5
    assert row(report, "auroc")["values"][at]["value"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert row(report, "f1")["values"][at]["value"] == pytest.approx(f1_score(labels, called), abs=1e-12)
    assert row(report, "accuracy")["values"][at]["value"] == pytest.approx((called == labels).mean(), abs=1e-12)
    low, high = row(report, "f1")["values"][at]["interval"]
    assert low < row(report, "f1")["values"][at]["value"] < high


def test_withheld_text_counts_as_wrong(report: dict[str, Any]) -> None:
    labels, _, probabilities = columns(planted(), "Pneumonia")
    right = ((probabilities >= 0.5) == labels) & (np.arange(400) % 100 != 0)
    value = row(report, "language_generation")["values"][0]
    assert value["value"] == pytest.approx(1 + 9 * right.mean())
    assert "4 withheld" in value["note"]


def test_net_benefit_is_that_of_the_definition(report: dict[str, Any]) -> None:
    labels, _, probabilities = columns(planted(), "Pneumonia")
    called = probabilities >= 0.5
    model = (called & (labels == 1)).mean() - (called & (labels == 0)).mean()
    everybody = labels.mean() - (1 - labels.mean())
    assert row(report, "cost_effectiveness")["values"][0]["value"] == pytest.approx(model - max(everybody, 0.0))


def test_the_band_holds_the_curve_and_ends_at_the_corners(report: dict[str, Any]) -> None:
    finding = report["findings"][0]
    low, high = (np.array(finding["roc_band"][side]) for side in ("low", "high"))
    assert (low <= high).all()
    assert high[0] == 1.0
    points = np.array([point[1:] for point in finding["roc_points"]], dtype=float)
    inside = 0
    for specificity, bound_low, bound_high in zip(finding["roc_band"]["specificity"], low, high, strict=True):
        best = points[points[:, 1] >= specificity - 1e-12, 0].max()
        inside += bound_low <= best <= bound_high
    assert inside >= 95


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    plan = write_case(tmp_path, planted())
    run(plan)
    first = [(tmp_path / name).read_bytes() for name in ("report.json", "report.html")]
    run(plan)
    assert [(tmp_path / name).read_bytes() for name in ("report.json", "report.html")] == first


def test_the_page_needs_nothing_and_holds_the_numbers_of_its_plots(tmp_path: Path) -> None:
    report = run(write_case(tmp_path, planted()))
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert page.count("<svg") == 2 * 5 + 1  # five plots for each finding, robustness for one
    for value in (row(report, "auroc")["values"][0]["value"], row(report, "f1")["values"][1]["value"]):
        assert f"{value:.4f}" in page
    for indicator in INDICATORS:
        assert indicator.name.replace("(", "(") in page
    assert "not measured: it answers no questions" in page
    assert "blur" in page


def test_a_table_of_labels_and_scores_alone_gives_all_rows_and_says_what_is_missing(tmp_path: Path) -> None:
    rows = [
        {"label": ("healthy", "ill")[each["label"]], "score": each["probability"]}
        for each in planted()
        if each["finding"] == "Nodule"
    ]
    plan = 'title = "T"\nmodel = "M"\ndata = "D"\nscores = "scores.csv"\nbootstrap = 100\n'
    plan += 'positive = "ill"\nthreshold = 0.4\n'
    report = run(write_case(tmp_path, rows, plan))
    jsonschema.validate(report, SCHEMA)
    assert len(report["indicators"]) == 17
    truth = [each["label"] == "ill" for each in rows]
    scores = [float(each["score"]) for each in rows]
    assert row(report, "auroc")["values"][0]["value"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    called = [score >= 0.4 for score in scores]
    assert row(report, "f1")["values"][0]["value"] == pytest.approx(f1_score(truth, called), abs=1e-12)
    assert row(report, "resource_use")["not_measured"] == "the table of scores has no column total_ms"
    assert row(report, "language_generation")["not_measured"] == "no reports were written"


def test_scores_that_are_no_probabilities_are_refused_by_row_where_there_are_no_others(tmp_path: Path) -> None:
    plan = write_case(
        tmp_path, [{"label": 1, "score": "0.7"}, {"label": 0, "score": "1.5"}], PLAN.replace('["site"]', "[]")
    )
    with pytest.raises(RadserveError, match=r"column 'score', row 2: got 1\.5, expected a probability"):
        make_report(read_plan(plan))


def test_text_of_the_input_cannot_break_the_page(tmp_path: Path) -> None:
    plan = write_case(tmp_path, planted(), PLAN.replace('"Planted"', '"<b>bold</b> & \\"quoted\\""'))
    run(plan)
    page = (tmp_path / "report.html").read_text()
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold" in page


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ('title = "Planted"', "", "'title'"),
        ("bootstrap = 200", "bootstrap = 3", "'bootstrap'"),
        ("bootstrap = 200", "boots = 200", "'boots'"),
        ("knowledge_qa", "wisdom", "'wisdom'"),
        ("robustness = ", "accuracy = ", "'accuracy'"),
        ('"scores.csv"', '"absent.csv"', "absent.csv"),
        ('["site"]', '["scanner"]', "'scanner'"),
        ("title = ", "title == ", "not TOML"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_its_key(tmp_path: Path, old: str, new: str, cause: str) -> None:
    plan = write_case(tmp_path, planted(), PLAN.replace(old, new))
    with pytest.raises(RadserveError, match=re.escape(cause)):
        report_to_json(make_report(read_plan(plan)))


def test_two_thresholds_of_one_finding_are_refused(tmp_path: Path) -> None:
    rows = planted()
    rows[5]["threshold"] = "0.6"
    with pytest.raises(RadserveError, match="was the pack changed"):
        make_report(read_plan(write_case(tmp_path, rows)))
