"""The rule-based finding labeller: the shipped gold sentences, single rules, sections, refusals, real reports."""

from __future__ import annotations

import importlib.util
import json
import runpy
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.labeller import LABELS, NO_FINDING, SUPPORT_DEVICES, Labeller
from radserve.evaluation.labeller_context import Side, Status
from radserve.evaluation.labeller_scores import entity_f1, label_f1

ROOT = Path(__file__).parents[2]
NOT_LATERAL = {"Enlarged Cardiomediastinum", "Cardiomegaly", "Edema"}
Entity = tuple[str, Status, Side]


def gold() -> list[tuple[str, set[Entity]]]:
    text = files("radserve.evaluation").joinpath("data/labeller_gold.jsonl").read_text(encoding="utf-8")
    read = [json.loads(line) for line in text.splitlines()]
    return [
        (each["text"], {(m["label"], Status(m["status"]), Side(m["side"])) for m in each["mentions"]}) for each in read
    ]


@pytest.fixture(scope="module")
def labeller() -> Labeller:
    return Labeller()


def entities(labeller: Labeller, text: str) -> set[Entity]:
    return set(labeller.label(text).entities())


def test_the_gold_set_has_at_least_forty_sentences_and_every_label_status_and_side() -> None:
    mentions = [each for _, found in gold() for each in found]
    assert len(gold()) >= 40
    assert {label for label, _, _ in mentions} == set(LABELS) - {NO_FINDING}
    assert {status for _, status, _ in mentions} == set(Status)
    assert {side for _, _, side in mentions} == set(Side)


def test_negation_f1_on_the_gold_set_is_at_least_0_95(labeller: Labeller) -> None:
    truth = [{label: status for label, status, _ in found} for _, found in gold()]
    said = [{m.label: m.status for m in labeller.mentions(text)} for text, _ in gold()]
    negation = label_f1(truth, said, of=Status.NEGATIVE)
    assert negation.micro is not None
    assert negation.micro >= 0.95


def test_uncertainty_f1_on_the_gold_set_is_at_least_0_95(labeller: Labeller) -> None:
    truth = [{label: status for label, status, _ in found} for _, found in gold()]
    said = [{m.label: m.status for m in labeller.mentions(text)} for text, _ in gold()]
    assert (label_f1(truth, said, of=Status.UNCERTAIN).micro or 0) >= 0.95


def sides_agree(labeller: Labeller) -> Iterator[bool]:
    for text, found in gold():
        said = entities(labeller, text)
        yield from (each in said for each in found if each[0] not in NOT_LATERAL)


def test_laterality_on_the_gold_set_is_at_least_0_98(labeller: Labeller) -> None:
    agreements = list(sides_agree(labeller))
    assert len(agreements) >= 60
    assert sum(agreements) / len(agreements) >= 0.98


def test_entity_f1_on_the_gold_set_is_at_least_0_95(labeller: Labeller) -> None:
    score = entity_f1([found for _, found in gold()], [entities(labeller, text) for text, _ in gold()]).f1
    assert score is not None
    assert score >= 0.95


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("No PNEUMOTHORAX.", {("Pneumothorax", Status.NEGATIVE, Side.UNSTATED)}),
        ("Left\n effusion.", {("Pleural Effusion", Status.POSITIVE, Side.LEFT)}),
        ("Effusion right > left.", {("Pleural Effusion", Status.POSITIVE, Side.BILATERAL)}),
        ("A 1.5 cm nodule on the right.", {("Lung Lesion", Status.POSITIVE, Side.RIGHT)}),
        ("Left ventricular lead.", set()),
        ("Increased AP diameter.", set()),
        ("The abnormality is unremarkable.", set()),
    ],
)
def test_one_sentence_gives_its_entities(labeller: Labeller, sentence: str, expected: set[Entity]) -> None:
    assert entities(labeller, sentence) == expected


def test_positive_beats_uncertain_beats_negative(labeller: Labeller) -> None:
    report = "No pneumothorax. Possible pneumothorax. No effusion. Possible edema. Right pneumothorax."
    status = labeller.label(report).status
    assert status["Pneumothorax"] is Status.POSITIVE
    assert status["Pleural Effusion"] is Status.NEGATIVE
    assert status["Edema"] is Status.UNCERTAIN
    assert status["Fracture"] is None


def test_no_finding_stands_beside_devices_but_not_beside_doubt(labeller: Labeller) -> None:
    assert labeller.label("Pacemaker. No pneumothorax.").status[NO_FINDING] is Status.POSITIVE
    assert labeller.label("Pacemaker. No pneumothorax.").status[SUPPORT_DEVICES] is Status.POSITIVE
    assert labeller.label("Possible pneumonia.").status[NO_FINDING] is None
    assert labeller.label("   ").status[NO_FINDING] is None


def test_indication_history_and_comparison_are_not_read(labeller: Labeller) -> None:
    report = (
        "INDICATION: Fracture? Pneumothorax.\nCOMPARISON: Right effusion before.\nFINDINGS: Left effusion.\n"
        "CLINICAL HISTORY: edema\nIMPRESSION: Cardiomegaly."
    )
    assert {each.label for each in labeller.label(report).mentions} == {"Pleural Effusion", "Cardiomegaly"}


def test_a_mention_points_at_its_words(labeller: Labeller) -> None:
    report = "INDICATION: cough.\nFINDINGS: The heart is normal. Small right pleural effusion."
    (mention,) = [each for each in labeller.mentions(report) if each.status is Status.POSITIVE]
    assert report[mention.start : mention.end] == "pleural effusion"


def test_the_same_report_gives_the_same_labels(labeller: Labeller) -> None:
    report = " ".join(text for text, _ in gold())
    assert Labeller().label(report) == labeller.label(report)


def shipped_rules() -> dict[str, Any]:
    return tomllib.loads(files("radserve.evaluation").joinpath("labeller_rules.toml").read_text(encoding="utf-8"))


def test_rules_with_an_unknown_label_are_refused() -> None:
    rules = shipped_rules()
    rules["findings"][0]["label"] = "Gout"
    with pytest.raises(RadserveError, match="'Gout' is none of the 14") as caught:
        Labeller(rules)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_rules_with_a_broken_pattern_are_refused() -> None:
    rules = shipped_rules()
    rules["findings"][0]["patterns"] = ["(open"]
    with pytest.raises(RadserveError, match="is not valid"):
        Labeller(rules)


def test_rules_without_cues_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('version = "1"\n')
    with pytest.raises(RadserveError, match="the entry 'cues' is missing"):
        Labeller.from_file(path)
    with pytest.raises(RadserveError, match=r"'none\.toml' cannot be read"):
        Labeller.from_file(tmp_path / "none.toml")


def real_reports() -> Path | None:
    """Return the reports of an installed torchxrayvision without importing it (it would load torch)."""
    found = importlib.util.find_spec("torchxrayvision")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "data" / "NLMCXR_reports.tgz"
    return path if path.is_file() else None


@pytest.mark.slow
def test_labels_of_the_real_reports_agree_with_their_headings(labeller: Labeller) -> None:
    path = real_reports()
    if path is None:
        pytest.skip("torchxrayvision with its Indiana reports is not installed (see benchmarks/labeller.py)")
    script = runpy.run_path(str(ROOT / "benchmarks" / "labeller.py"))
    cases = [each for each in script["cases"](path) if each.number % 2 == 0]
    labelled = [labeller.label(each.text) for each in cases]
    score = label_f1([script["reference"](each) for each in cases], [each.status for each in labelled])
    sides = [
        agrees for case, found in zip(cases, labelled, strict=True) for agrees in script["side_agreement"](case, found)
    ]
    assert len(cases) > 1800
    assert (score.micro or 0) >= 0.90
    assert sum(sides) / len(sides) >= 0.97
