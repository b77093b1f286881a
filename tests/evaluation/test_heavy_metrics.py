"""Neural metrics: missing weights are said, never 0; a site's command is run and its answers are checked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from radserve.errors import RadserveError
from radserve.evaluation.heavy_metrics import (
    HEAVY_METRICS,
    HeavyScore,
    HeavyStatus,
    Scorer,
    measure,
    measure_all,
    read_scorers,
)

TEXTS, REFERENCES = ["No effusion.", "Edema."], [["No effusion."], ["No edema.", "Clear."]]
GOOD = """
import json, sys
for line in sys.stdin:
    each = json.loads(line)
    print(json.dumps({"score": float(each["hypothesis"] in each["references"])}))
"""


def run(tmp_path: Path, program: str, timeout_s: float = 60.0) -> HeavyScore:
    (tmp_path / "weights").mkdir(exist_ok=True)
    scorer = Scorer((sys.executable, "-c", program, "{weights}"), tmp_path / "weights", timeout_s)
    return measure(HEAVY_METRICS[0], TEXTS, REFERENCES, scorer)


def test_every_metric_without_a_scorer_says_weights_missing_and_has_no_value() -> None:
    scores = measure_all(TEXTS, REFERENCES, {})
    assert set(scores) == {"bertscore", "chexbert", "radgraph", "ratescore", "green"}
    for each in scores.values():
        assert each.status == "weights missing"
        assert each.mean is None
        assert each.reason is not None
        assert "no scorer is configured; it needs the package" in each.reason


def test_a_scorer_whose_weights_are_gone_says_weights_missing(tmp_path: Path) -> None:
    score = measure(HEAVY_METRICS[1], TEXTS, REFERENCES, Scorer(("true",), tmp_path / "chexbert.pth"))
    assert score.status is HeavyStatus.WEIGHTS_MISSING
    assert score.reason is not None
    assert "'chexbert.pth'" in score.reason
    assert str(tmp_path) not in score.reason


def test_a_working_command_gives_its_scores(tmp_path: Path) -> None:
    score = run(tmp_path, GOOD)
    assert score.status is HeavyStatus.MEASURED
    assert score.values is not None
    assert score.values.tolist() == [1.0, 0.0]
    assert score.mean == 0.5


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.exit(4)", "ended with exit code 4"),
        ("print('{\"score\": 1}')", "wrote 1 scores, expected 2"),
        ("print('{\"score\": 1}\\n{}')", "wrote no score in line 2"),
        ('print(\'{"score": 1}\\n{"score": NaN}\')', "not finite in line 2"),
    ],
)
def test_a_failing_command_has_a_reason_and_no_value(tmp_path: Path, program: str, reason: str) -> None:
    score = run(tmp_path, program)
    assert (score.status, score.values) == (HeavyStatus.FAILED, None)
    assert score.reason is not None
    assert reason in score.reason


def test_a_command_that_hangs_is_given_up(tmp_path: Path) -> None:
    assert "longer than 0.2 s" in str(run(tmp_path, "import time; time.sleep(30)", 0.2).reason)


def test_a_command_that_does_not_exist_is_a_failure_with_a_reason(tmp_path: Path) -> None:
    score = measure(HEAVY_METRICS[0], TEXTS, REFERENCES, Scorer(("/nowhere/scorer",), tmp_path))
    assert "could not be started" in str(score.reason)


def test_scorers_are_read_and_unknown_metrics_refused(tmp_path: Path) -> None:
    path = tmp_path / "heavy.toml"
    path.write_text('[green]\ncommand = ["run", "{weights}"]\nweights = "w"\ntimeout_s = 5\n')
    assert read_scorers(path) == {"green": Scorer(("run", "{weights}"), Path("w"), 5.0)}
    path.write_text('[blue]\ncommand = ["run"]\nweights = "w"\n')
    with pytest.raises(RadserveError, match="got 'blue', expected one of bertscore"):
        read_scorers(path)
    path.write_text('[green]\ncommand = "run"\nweights = "w"\n')
    with pytest.raises(RadserveError, match=r"\[green\] needs 'command'"):
        read_scorers(path)
