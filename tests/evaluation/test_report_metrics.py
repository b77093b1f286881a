"""A metric of another package stands beside ours; one that fails is a warning that names it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from radserve.evaluation.cli import evaluate_app
from radserve.evaluation.report_metrics import REPORT_METRICS
from radserve.plugins import load
from tests.support.plugin_site import install

CODE = """
def same_length(hypotheses, references):
    return [float(len(said) == len(truths[0])) for said, truths in zip(hypotheses, references)]

def broken(hypotheses, references):
    return hypotheses[0].no_such_method()

def odd(hypotheses, references):
    if hypotheses[0] == "No effusion.":
        return [1.0]
    return [0.5 for each in hypotheses]
"""


def measured(tmp_path: Path) -> dict[str, Any]:
    table = tmp_path / "reports.csv"
    table.write_text("truth,a,b\nNo effusion.,No effusion.,Edema seen.\nEdema.,Edema!,Clear lungs.\n")
    arguments = ["report-text", str(table), "--reference", "truth", "--hypothesis", "a", "--hypothesis", "b"]
    done = CliRunner().invoke(evaluate_app, [*arguments, "--json", "-", "--bootstrap", "20", "--randomisation", "20"])
    assert done.exit_code == 0, done.output
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_metric_by_entry_point_has_its_interval_and_its_paired_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = measured(tmp_path)
    lines = "\n".join(f"{name} = lengths_plugin:{name}" for name in ("same_length", "broken", "odd"))
    install(tmp_path / "site", "lengths", CODE, report_metrics=lines)
    monkeypatch.syspath_prepend(tmp_path / "site")
    result = measured(tmp_path)
    assert result["hypotheses"]["a"]["same_length"]["value"] == 1.0
    assert result["hypotheses"]["b"]["same_length"]["value"] == 0.0
    assert result["hypotheses"]["a"]["same_length"]["ci"] == [1.0, 1.0]
    (test,) = [each for each in result["comparisons"] if each["metric"] == "same_length"]
    assert test["difference"] == 1.0
    assert "a: plug-in 'broken' of lengths 1.0 failed: AttributeError" in result["warnings"]
    assert "a: plug-in 'odd' of lengths 1.0 gave values of shape (1,), expected 2 finite numbers" in result["warnings"]
    assert result["hypotheses"]["b"]["odd"]["value"] == 0.5
    assert "odd" not in {each["metric"] for each in result["comparisons"]}
    assert result["hypotheses"]["a"]["bleu"] == without["hypotheses"]["a"]["bleu"]


def test_the_metric_of_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
    code, project = (re.findall(rf"^```{kind}\n(.*?)^```$", page, re.DOTALL | re.M)[0] for kind in ("python", "toml"))
    ((group, entries),) = tomllib.loads(project)["project"]["entry-points"].items()
    assert group == REPORT_METRICS.group
    lines = "\n".join(f"{name} = {value}" for name, value in entries.items())
    monkeypatch.syspath_prepend(install(tmp_path, "lengths", "", report_metrics=lines))
    (tmp_path / "lengths.py").write_text(code)
    metric = load(REPORT_METRICS)["length_ratio"].usable()
    assert list(metric(["a b c", ""], [["a b"], ["c"]])) == [1.5, 0.0]
