"""Hallucination rates are the counts of the results, with SciPy's interval."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from radserve.errors import RadserveError
from radserve.evaluation.cli import evaluate_app
from radserve.evaluation.hallucination import hallucination_rates


def result(withheld: int, **faults: int) -> dict:
    return {"generation": {"texts": 2, "withheld": withheld, "sentences": 8, "faults": faults}}


RESULTS = [result(0), result(1, contradicted=1), result(2, contradicted=1, unsupported=3), {"generation": None}]


def test_counts_add_up_and_the_interval_is_that_of_scipy() -> None:
    rates = hallucination_rates(RESULTS)
    assert (rates["results"], rates["without_text"], rates["texts"], rates["withheld"]) == (4, 1, 6, 3)
    interval = binomtest(3, 6).proportion_ci(0.95, method="exact")
    assert rates["withheld_rate"]["value"] == 0.5
    assert rates["withheld_rate"]["low"] == pytest.approx(interval.low)
    assert rates["withheld_rate"]["high"] == pytest.approx(interval.high)
    assert rates["faults_per_sentence"] == {"contradicted": 2 / 24, "unsupported": 3 / 24}


def test_results_without_any_text_are_refused() -> None:
    with pytest.raises(RadserveError, match="none of the 1 results has a generated text"):
        hallucination_rates([{"generation": None}])


def test_the_command_reads_folders_at_any_depth(tmp_path: Path) -> None:
    for number, each in enumerate(RESULTS):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "result.json").write_text(json.dumps(each))
    run = CliRunner().invoke(evaluate_app, ["hallucination", str(tmp_path)])
    assert run.exit_code == 0, run.output
    assert json.loads(run.output)["withheld"] == 3
