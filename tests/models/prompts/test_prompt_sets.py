"""Prompt sets: hashed as a whole, rendered the same every time, and free of what is a person's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.models.catalogue import PackCatalogue
from radserve.models.ontology import built_in_ontology
from radserve.models.pack import ModelPack
from radserve.models.prompts.lint import lint_texts, refuse_unfit
from radserve.models.prompts.prompt_set import prompt_set_of_pack
from radserve.models.prompts.rendering import render
from tests.support.prompt_sets import SET, read


@pytest.fixture
def pack() -> ModelPack:
    return PackCatalogue().get("cxr-bus-mini")


def test_any_wording_that_changes_gives_another_hash_and_the_order_of_keys_does_not(tmp_path: Path) -> None:
    whole = read(tmp_path)
    hashes = {whole.sha256}
    for place, text in whole.texts().items():
        changed = read(tmp_path, SET.replace(f'"{text}"', f'"{text} x"', 1))
        assert changed.sha256 not in hashes, place
        hashes.add(changed.sha256)
    first, second = SET.split("\n[labels", 1)[0], SET[SET.index("\n[labels") :]
    reordered = "\n".join(reversed(first.strip().split("\n"))) + "\n" + second
    assert read(tmp_path, reordered).sha256 == whole.sha256


def test_synonyms_fill_the_slots_in_order(tmp_path: Path, pack: ModelPack) -> None:
    (pneumonia, _) = render(read(tmp_path), pack, built_in_ontology()).labels
    assert pneumonia.positive == (
        "chest radiograph consistent with pneumonia .",
        "chest radiograph consistent with lung infection .",
        "positive for pneumonia .",
        "positive for lung infection .",
    )
    assert pneumonia.negative == ("no sign of pneumonia .", "no sign of lung infection .")
    assert pneumonia.added_positive == ()


def test_knowledge_adds_names_and_kinds_the_same_every_time_and_nothing_without_the_flag(
    tmp_path: Path, pack: ModelPack
) -> None:
    plain, expanded = read(tmp_path), replace(read(tmp_path), expand=True)
    first, second = (render(expanded, pack, built_in_ontology()) for _ in range(2))
    assert first.labels == second.labels
    (pneumonia, _) = first.labels
    assert pneumonia.positive == render(plain, pack, built_in_ontology()).labels[0].positive
    assert "positive for bronchopneumonia ." in pneumonia.added_positive
    assert "pneumonia , a kind of consolidation ." in pneumonia.added_positive
    assert "no sign of pulmonary infection ." in pneumonia.added_negative
    assert expanded.sha256 != plain.sha256


def test_texts_with_words_the_encoder_does_not_know_are_not_added_and_are_named(
    tmp_path: Path, pack: ModelPack
) -> None:
    expanded = replace(read(tmp_path), expand=True)
    (pneumonia, _) = render(expanded, pack, built_in_ontology(), lambda text: "broncho" not in text).labels
    assert not any("broncho" in text for text in (*pneumonia.added_positive, *pneumonia.added_negative))
    assert any("broncho" in text for text in pneumonia.dropped)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('pack = "cxr-bus-mini"', 'pack = "other"', "pack: got 'other', expected cxr-bus-mini"),
        ('[labels."Pneumonia"]', '[labels."Fracture"]', "Fracture"),
        ('version = "2.0"', 'version = "2.0"\nmode = "single"', "none in mode single"),
        ('negative = ["no sign of {finding} ."]\n', "", "wordings in mode contrastive"),
    ],
)
def test_a_set_that_does_not_fit_the_pack_is_refused_by_name(
    tmp_path: Path, pack: ModelPack, old: str, new: str, message: str
) -> None:
    with pytest.raises(RadserveError) as caught:
        render(read(tmp_path, SET.replace(old, new)), pack, built_in_ontology())
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert message in caught.value.client_message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id = ", "TOML"),
        (SET + "\n[colours]\n", "colours: unknown key"),
        (SET.replace('id = "site-set"', ""), "id: is missing"),
        (
            SET.replace('version = "2.0"', 'version = "2.0"\nmode = "pairs"'),
            "mode: Input should be 'contrastive' or 'single'",
        ),
    ],
)
def test_a_file_that_is_no_prompt_set_is_refused_naming_it_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RadserveError, match=r"site\.toml") as caught:
        read(tmp_path, text)
    assert message in caught.value.client_message


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("chest radiograph of 12.03.2021", "date"),
        ("study of 3 March 2021", "date"),
        ("2021年3月5日的胸片", "date"),
        ("patient 1234567 with pneumonia", "identifier"),
        ("accession AB123456", "identifier"),
        ("1.2.840.10008.1.2", "identifier"),
        ("病历号 77", "identifier"),
        ("radiograph of DOE^JANE", "name"),
        ("radiograph for Dr Smith", "name"),
        ("a patient named kowalski", "name"),
        ("the radiograph of John Miller", "name"),
        ("write to a.b@example.org", "contact"),
        ("the patient's religion is visible", "attribute"),
        ("pneumonia in an uninsured person", "attribute"),
        ("患者的宗教", "attribute"),
        ("  ", "empty"),
    ],
)
def test_what_is_a_persons_is_refused_without_being_repeated(text: str, rule: str) -> None:
    assert rule in {problem.rule for problem in lint_texts({"labels.X.positive[0]": text})}
    with pytest.raises(RadserveError) as caught:
        refuse_unfit({"labels.X.positive[0]": text})
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "labels.X.positive[0]" in caught.value.client_message
    assert text.strip() not in caught.value.client_message or not text.strip()


def test_the_prompts_of_the_default_pack_and_of_this_set_pass(tmp_path: Path, pack: ModelPack) -> None:
    own = prompt_set_of_pack(pack)
    assert own is not None
    assert lint_texts(own.texts()) == []
    assert lint_texts(read(tmp_path).texts()) == []
