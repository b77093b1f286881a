"""The report-text evaluation as a whole, through the library and the command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from radserve.errors import RadserveError
from radserve.evaluation.cli import evaluate_app
from radserve.evaluation.labeller import Labeller
from radserve.evaluation.report_text import TextOptions, evaluate_reports
from radserve.evaluation.text_cider import cider
from radserve.evaluation.text_metrics import bleu

REFERENCE = [
    "Small right pleural effusion. No pneumothorax.",
    "Cardiomegaly. No effusion.",
    "Left lower lobe pneumonia.",
    "No acute finding. Lungs are clear.",
    "Bibasilar atelectasis.",
    "Fracture of the left clavicle.",
]
GOOD = [
    "Small right pleural effusion without pneumothorax.",
    "Enlarged heart. No effusion.",
    "Pneumonia of the left lower lobe.",
    "Lungs are clear.",
    "Atelectasis at both bases.",
    "Left clavicle fracture.",
]
BAD = ["No acute finding. Lungs are clear."] * 6
OPTIONS = TextOptions(bootstrap=200, randomisation=999, seed=1)
REFERENCES = [[each] for each in REFERENCE]


def test_every_metric_stands_in_the_result_with_its_interval() -> None:
    result = evaluate_reports(REFERENCES, {"good": GOOD}, Labeller(), OPTIONS)
    metrics = result["hypotheses"]["good"]
    assert metrics["bleu"]["value"] == pytest.approx(bleu(GOOD, REFERENCES).score)
    assert metrics["cider"]["value"] == pytest.approx(cider(GOOD, REFERENCES).mean())
    assert metrics["label_f1_micro"]["value"] == 1.0
    assert metrics["entity_f1"]["value"] == pytest.approx(1.0)
    for key in ("bleu", "rouge_1", "rouge_2", "rouge_l", "meteor_like", "cider", "entity_f1"):
        low, high = metrics[key]["ci"]
        assert low <= metrics[key]["value"] <= high
    assert metrics["labels"]["Fracture"]["f1"] == 1.0
    assert metrics["labels"]["Edema"]["f1"] is None
    assert result["comparisons"] == []


def test_neural_metrics_are_null_with_weights_missing() -> None:
    heavy = evaluate_reports(REFERENCES, {"good": GOOD}, Labeller(), OPTIONS)["hypotheses"]["good"]["heavy"]
    assert {each["status"] for each in heavy.values()} == {"weights missing"}
    assert {each["value"] for each in heavy.values()} == {None}


def test_text_that_reads_alike_but_says_the_opposite_loses_on_findings_only() -> None:
    opposite = [each.replace("No ", "Moderate ").replace("Small", "No") for each in REFERENCE]
    metrics = evaluate_reports(REFERENCES, {"opposite": opposite}, Labeller(), OPTIONS)["hypotheses"]["opposite"]
    assert metrics["rouge_1"]["value"] > 0.85
    assert metrics["label_f1_micro"]["value"] < metrics["rouge_1"]["value"] - 0.05
    assert metrics["entity_f1"]["value"] < 0.75


def test_the_better_system_is_found_with_the_sign_a_minus_b() -> None:
    result = evaluate_reports(REFERENCES, {"good": GOOD, "bad": BAD}, Labeller(), OPTIONS)
    by_metric = {each["metric"]: each for each in result["comparisons"]}
    assert by_metric["rouge_l"]["difference"] > 0
    assert by_metric["rouge_l"]["p_greater"] < 0.1  # six reports allow no less than 1/64
    assert all(each["p_holm"] >= each["p_two_sided"] for each in result["comparisons"])
    turned = evaluate_reports(REFERENCES, {"bad": BAD, "good": GOOD}, Labeller(), OPTIONS)["comparisons"]
    assert {each["metric"]: each["difference"] for each in turned}["rouge_l"] == pytest.approx(
        -by_metric["rouge_l"]["difference"]
    )


def test_what_is_undefined_is_null_with_a_warning() -> None:
    silent = [["Nothing to add."], ["Nothing to add."]]
    result = evaluate_reports(silent, {"s": ["Pacemaker.", ""]}, Labeller(), OPTIONS)
    assert "s: 1 generated reports have no word" in result["warnings"]
    one = evaluate_reports([["No effusion."]], {"s": ["No effusion."]}, Labeller(), OPTIONS)
    assert "cider is left out: it needs at least 2 reports" in one["warnings"]
    assert "cider" not in one["hypotheses"]["s"]
    (recall,) = [each for each in result["warnings"] if each.startswith("s: recall is null")]
    nulls = {label for label, each in result["hypotheses"]["s"]["labels"].items() if each["recall"] is None}
    assert "Support Devices" in nulls
    assert all(label in recall for label in nulls)


def test_no_system_is_refused() -> None:
    with pytest.raises(RadserveError, match="systems: got none"):
        evaluate_reports(REFERENCES, {}, Labeller(), OPTIONS)


def test_the_command_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    table = tmp_path / "reports.csv"
    with table.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["truth", "good", "bad"])
        writer.writerows(zip(REFERENCE, GOOD, BAD, strict=True))
    options = [
        "--reference",
        "truth",
        "--hypothesis",
        "good",
        "--hypothesis",
        "bad",
        "--bootstrap",
        "100",
        "--seed",
        "2",
    ]
    for name in ("one.json", "two.json"):
        arguments = ["report-text", str(table), *options, "--randomisation", "500", "--json", str(tmp_path / name)]
        done = CliRunner().invoke(evaluate_app, arguments)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    result = json.loads((tmp_path / "one.json").read_text())
    assert set(result["hypotheses"]) == {"good", "bad"}
    assert len(result["comparisons"]) == 9


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    table = tmp_path / "reports.csv"
    table.write_text("truth\nNo effusion.\n")
    arguments = ["report-text", str(table), "--reference", "truth", "--hypothesis", "draft", "--json", "-"]
    done = CliRunner().invoke(evaluate_app, arguments)
    assert isinstance(done.exception, RadserveError)
    assert "column 'draft' is not in reports.csv" in done.exception.client_message
