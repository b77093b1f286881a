"""The gold-set evaluation of the labeller, against scikit-learn and through the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from radserve.errors import RadserveError
from radserve.evaluation.cli import evaluate_app
from radserve.evaluation.labeller import LABELS, Labeller
from radserve.evaluation.labeller_context import Side, Status
from radserve.evaluation.labeller_gold import GoldText, evaluate_gold, read_gold


def test_the_shipped_set_gives_its_scores_on_1_to_10() -> None:
    result = evaluate_gold(Labeller(), read_gold(), samples=100)
    assert result["value"] == pytest.approx(1 + 9 * result["micro_f1"]["value"])
    assert result["n"] == len(read_gold()) >= 40
    assert result["status_f1"]["negative"]["value"] >= 0.95
    assert result["side_agreement"]["value"] >= 0.98
    assert result["side_agreement"]["ci"][0] < 1


def test_a_labeller_that_errs_scores_as_scikit_learn_says() -> None:
    gold = [
        GoldText("No effusion.", frozenset({("Pleural Effusion", Status.POSITIVE, Side.LEFT)})),  # wrong on purpose
        GoldText("Left effusion.", frozenset({("Pleural Effusion", Status.POSITIVE, Side.RIGHT)})),
        GoldText("Edema.", frozenset({("Edema", Status.POSITIVE, Side.UNSTATED)})),
        GoldText("Clear.", frozenset({("Fracture", Status.UNCERTAIN, Side.UNSTATED)})),
    ]
    result = evaluate_gold(Labeller(), gold, samples=50)
    labeller = Labeller()
    pairs = [(label, status) for label in LABELS for status in Status]
    said = [{(m.label, m.status) for m in labeller.mentions(each.text)} for each in gold]
    truth = [{(label, status) for label, status, _ in each.entities} for each in gold]
    binary = [[[pair in one for pair in pairs] for one in group] for group in (truth, said)]
    assert result["micro_f1"]["value"] == pytest.approx(f1_score(*binary, average="micro", zero_division=0))
    assert result["micro_f1"]["value"] == pytest.approx(4 / 7)
    assert result["side_agreement"]["value"] == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"text": "x"}, "line 1: expected a text"),
        ({"text": "x", "mentions": [{"label": "Gout", "status": "positive", "side": "left"}]}, "got 'Gout'"),
        ({"text": "x", "mentions": [{"label": "Edema", "status": "maybe", "side": "left"}]}, "'maybe' is not a valid"),
    ],
)
def test_a_wrong_gold_set_is_refused(tmp_path: Path, line: dict[str, object], message: str) -> None:
    path = tmp_path / "gold.jsonl"
    path.write_text(json.dumps(line))
    with pytest.raises(RadserveError, match=message):
        read_gold(path)


def test_the_command_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        done = CliRunner().invoke(evaluate_app, ["labeller", "--bootstrap", "50", "--json", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_the_usability_command_gives_sus_rates_and_icc(tmp_path: Path) -> None:
    (tmp_path / "sus.csv").write_text(",".join(f"q{i}" for i in range(1, 11)) + "\n" + "5,4,2,1,2,3,2,4,5,2\n" * 2)
    (tmp_path / "decisions.csv").write_text("decision,draft,final\naccepted,a b,a b\nedited,a b,a c\n")
    (tmp_path / "ratings.csv").write_text("r1,r2,r3,r4\n9,2,5,8\n6,1,3,2\n8,4,6,8\n7,1,2,6\n10,5,6,9\n6,2,4,7\n")
    options = [
        part for name in ("sus", "decisions", "ratings") for part in (f"--{name}", str(tmp_path / f"{name}.csv"))
    ]
    done = CliRunner().invoke(evaluate_app, ["usability", *options, "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out.json").read_text())
    assert (result["sus"]["mean"], result["value"], result["n"]) == (55, pytest.approx(5.95), 2)
    assert result["decisions"]["edited"]["rate"] == 0.5
    assert result["edit_rate"]["mean"] == 0.25
    assert round(result["icc"]["ICC(2,1)"]["value"], 2) == 0.29


def test_the_usability_command_without_a_table_is_refused() -> None:
    done = CliRunner().invoke(evaluate_app, ["usability", "--json", "-"])
    assert isinstance(done.exception, RadserveError)
    assert "expected --sus" in done.exception.client_message
