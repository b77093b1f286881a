"""Acceptance profiles: reading, versions, each operator and statistic, the record and its digest, the command."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.cli import evaluate_app
from radserve.evaluation.gate_measurements import read_measurements
from radserve.evaluation.gates import (
    Gate,
    Measurement,
    Profile,
    Statistic,
    apply_profile,
    check_new_version,
    check_record,
    gate_record,
    read_profile,
)

MEASURED = {("pneumonia", "auroc"): Measurement(0.95, 0.92, 0.97, 624)}
PROFILE = """
name = "chest"
version = "1.0"

[[gate]]
finding = "pneumonia"
metric = "auroc"
statistic = "low"
op = ">="
threshold = 0.90
minimum_n = 100
"""


def result_of(statistic: str, op: str, threshold: float, minimum_n: int = 0) -> bool:
    gate = Gate("pneumonia", "auroc", Statistic(statistic), op, threshold, minimum_n)
    (result,) = apply_profile(Profile("p", "1", (gate,)), MEASURED)
    assert (result.reason is None) == result.passed
    return result.passed


@pytest.mark.parametrize(
    ("statistic", "op", "threshold", "passed"),
    [
        ("value", ">=", 0.95, True),
        ("value", ">", 0.95, False),
        ("value", "<=", 0.95, True),
        ("value", "<", 0.95, False),
        ("low", ">=", 0.93, False),
        ("low", ">=", 0.92, True),
        ("high", "<", 0.98, True),
        ("high", ">=", 0.98, False),
    ],
)
def test_a_gate_compares_its_statistic_with_its_threshold(
    statistic: str, op: str, threshold: float, passed: bool
) -> None:
    assert result_of(statistic, op, threshold) is passed


def test_too_few_cases_fail_whatever_the_value() -> None:
    assert result_of("value", ">=", 0.5, minimum_n=624)
    assert not result_of("value", ">=", 0.5, minimum_n=625)


def test_what_was_not_measured_fails_with_that_reason() -> None:
    gates = tuple(Gate(name, "auroc", Statistic.LOW, ">=", 0.5) for name in ("nodule", "pneumonia"))
    missing, undefined = apply_profile(Profile("p", "1", gates), {("pneumonia", "auroc"): Measurement(0.9)})
    assert (missing.passed, missing.reason) == (False, "not measured")
    assert (undefined.passed, undefined.reason) == (False, "its low is undefined")


def test_a_profile_is_read_and_its_digest_ignores_layout(tmp_path: Path) -> None:
    one, other = tmp_path / "a.toml", tmp_path / "b.toml"
    one.write_text(PROFILE)
    other.write_text("# a comment\n" + PROFILE.replace("0.90", "0.9"))
    assert read_profile(one).gates == (Gate("pneumonia", "auroc", Statistic.LOW, ">=", 0.9, 100),)
    assert read_profile(one).digest == read_profile(other).digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('version = "1.0"', ""), "the entry 'version' is missing"),
        (('op = ">="', 'op = "=="'), "gate 1: op: got '=='"),
        (('statistic = "low"', 'statistic = "median"'), "gate 1: statistic: got 'median'"),
        (("threshold = 0.90", 'threshold = "0.9"'), "gate 1: threshold: got '0.9'"),
        (("threshold = 0.90", "threshold = nan"), "gate 1: threshold: got nan"),
        (("minimum_n = 100", "minimum_n = -1"), "gate 1: minimum_n: got -1"),
        (("minimum_n = 100", "minimun_n = 100"), "gate 1: got the unknown entry 'minimun_n'"),
        (('metric = "auroc"', ""), "gate 1: the entry 'metric' is missing"),
        (("[[gate]]", "[[gates]]"), "the entry 'gate' is missing"),
    ],
)
def test_a_wrong_profile_is_refused_by_gate_and_entry(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(PROFILE.replace(*change))
    with pytest.raises(RadserveError, match=message) as caught:
        read_profile(path)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_the_same_gate_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(PROFILE + PROFILE.partition("[[gate]]")[2].join(["[[gate]]", ""]))
    with pytest.raises(RadserveError, match="gate 2: says again"):
        read_profile(path)


def test_a_change_of_gates_needs_a_new_version() -> None:
    gate = Gate("pneumonia", "auroc", Statistic.LOW, ">=", 0.9)
    old = Profile("chest", "1.0", (gate,))
    with pytest.raises(RadserveError, match=r"its gates changed, but its version is still '1\.0'"):
        check_new_version(old, Profile("chest", "1.0", (gate, gate)))
    check_new_version(old, Profile("chest", "1.1", (gate, gate)))
    check_new_version(old, Profile("chest", "1.0", (gate,)))


def record_for(threshold: float) -> tuple[Profile, dict[str, Any]]:
    profile = Profile("chest", "1.0", (Gate("pneumonia", "auroc", Statistic.LOW, ">=", threshold),))
    results = apply_profile(profile, MEASURED)
    return profile, gate_record(profile, results, model={"name": "m", "version": "2"}, evaluation=b"{}")


def test_a_record_passes_or_fails_and_survives_json() -> None:
    profile, record = record_for(0.9)
    assert check_record(json.loads(json.dumps(record)), profile) is True
    profile, record = record_for(0.93)
    assert check_record(json.loads(json.dumps(record)), profile) is False
    assert record["gates"][0]["reason"] == "low 0.92 is not >= 0.93"


@pytest.mark.parametrize("path", [("passed",), ("gates", 0, "passed"), ("model", "version"), ("profile", "digest")])
def test_a_record_that_was_changed_is_found_out(path: tuple[str | int, ...]) -> None:
    _, record = record_for(0.93)
    target: Any = record
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = True
    with pytest.raises(RadserveError, match="its digest does not fit"):
        check_record(record)


def test_a_record_of_another_profile_or_another_thing_is_refused() -> None:
    profile, _ = record_for(0.5)
    _, record = record_for(0.9)
    with pytest.raises(RadserveError, match="another profile than 'chest'"):
        check_record(record, profile)
    with pytest.raises(RadserveError, match="got schema None"):
        check_record({})


ROC = {"n": 200, "scores": {"model": {"auc": 0.91, "ci": [0.88, 0.94], "average_precision": None}}}
REPORT = {
    "indicators": [
        {"key": "auroc", "values": [{"finding": "pneumonia", "value": 0.95, "interval": [0.92, 0.97], "n": 624}]},
        {"key": "resource_use", "values": [{"finding": "", "value": 12.5, "interval": None, "n": 624}]},
        {"key": "robustness", "values": []},
    ]
}
TEXT = {"n": 40, "hypotheses": {"draft": {"bleu": {"value": 31.0, "ci": [28.0, 34.0]}, "labels": {}, "heavy": {}}}}


def test_measurements_are_read_from_roc_report_and_report_text() -> None:
    roc = read_measurements(json.dumps(ROC).encode())
    assert roc["model", "auc"] == Measurement(0.91, 0.88, 0.94, 200)
    assert roc["model", "average_precision"].value is None
    report = read_measurements(json.dumps(REPORT).encode())
    assert report == {
        ("pneumonia", "auroc"): Measurement(0.95, 0.92, 0.97, 624),
        ("", "resource_use"): Measurement(12.5, None, None, 624),
    }
    text = read_measurements(json.dumps(TEXT).encode())
    assert text == {("draft", "bleu"): Measurement(31.0, 28.0, 34.0, 40)}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"other": 1}'])
def test_an_evaluation_of_no_known_form_is_refused(content: bytes) -> None:
    with pytest.raises(RadserveError, match="evaluation"):
        read_measurements(content)


def test_the_shipped_example_profile_can_be_read() -> None:
    profile = read_profile(Path(str(files("radserve.evaluation").joinpath("data/acceptance_example.toml"))))
    assert {each.finding for each in profile.gates} == {"pneumonia", "malignancy"}


@pytest.mark.parametrize(("threshold", "exit_code"), [(0.9, 0), (0.93, 3)])
def test_the_command_writes_the_record_and_exits_3_when_a_gate_fails(
    tmp_path: Path, threshold: float, exit_code: int
) -> None:
    (tmp_path / "profile.toml").write_text(PROFILE.replace("0.90", str(threshold)))
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    arguments = ["gate", str(tmp_path / "profile.toml"), str(tmp_path / "report.json"), "--model", "name=m"]
    first = CliRunner().invoke(evaluate_app, [*arguments, "--json", str(tmp_path / "one.json")])
    second = CliRunner().invoke(evaluate_app, [*arguments, "--json", str(tmp_path / "two.json")])
    assert (first.exit_code, second.exit_code) == (exit_code, exit_code)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    record = json.loads((tmp_path / "one.json").read_text())
    assert check_record(record) is (exit_code == 0)
    assert record["model"] == {"name": "m"}


def test_the_command_refuses_a_profile_changed_without_a_new_version(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text(PROFILE)
    (tmp_path / "new.toml").write_text(PROFILE.replace("0.90", "0.50"))
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    names = [str(tmp_path / each) for each in ("new.toml", "report.json")]
    done = CliRunner().invoke(evaluate_app, ["gate", *names, "--previous", str(tmp_path / "old.toml"), "--json", "-"])
    assert isinstance(done.exception, RadserveError)
    assert "its version is still" in done.exception.client_message
