"""Embedded prompts: ensembles, modes and tasks against NumPy; the image is encoded once; nothing private is encoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from radserve.clinical_context import ClinicalContext
from radserve.findings import CodedConcept
from radserve.models.prompts.prompt_set import LabelTemplates, PromptSetFile, Task
from radserve.models.tokenizer import pack_tokenizer
from radserve.pipelines.consistency import consistency_warnings
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.prompts import embed_prompts
from radserve.pipelines.study import Analysis, AnalysisRequest, StudyAnalyser
from radserve.references import StudyRef
from radserve.results import WarningCode
from radserve.tensors import InferenceRequest
from tests.support.checking import finding
from tests.support.pipeline import RecordingRunner, images_of, make_analyser

PAIRS = {
    "Pneumonia": LabelTemplates(("chest radiograph of {finding}", "pneumonia"), ("normal chest radiograph", "normal")),
    "Malignant breast lesion": LabelTemplates(("malignant lesion",), ("benign lesion",)),
}
TASKS = {
    "view": Task({"PA": ("chest radiograph",), "AP": ("radiograph", "normal chest")}),
    "laterality": Task({"left": ("breast",), "right": ("chest",)}),
    "quality": Task({"good": ("clear",), "poor": ("lesion",)}),
}
CONTRASTIVE = PromptSetFile(id="site", version="1", pack="tiny", labels=PAIRS, tasks=TASKS)
SINGLE = replace(
    CONTRASTIVE,
    labels={name: LabelTemplates(each.positive) for name, each in PAIRS.items()},
    mode="single",
)


async def unit_embeddings(analyser: StudyAnalyser, runner: RecordingRunner, texts: tuple[str, ...]) -> np.ndarray:
    tokenizer = pack_tokenizer(analyser.pack)
    assert tokenizer is not None
    rows = []
    for text in texts:  # one at a time: an ensemble must not depend on its batch
        tokens = tokenizer.encode_prompt(text)[np.newaxis]
        answer = await runner.infer(InferenceRequest(analyser.pack.model("text_encoder"), {"tokens": tokens}))
        row = answer.outputs["embedding"][0].astype(np.float64)
        rows.append(row / np.linalg.norm(row))
    mean = np.mean(rows, axis=0)
    return mean / np.linalg.norm(mean)


async def analyse(analyser: StudyAnalyser, images: list, **fields: object) -> Analysis:
    request = AnalysisRequest(StudyRef(images[0].instance.study_instance_uid), **fields)
    async for event in analyser.analyse(request, Deadline()):
        if isinstance(event, Analysis):
            return event
    raise AssertionError("no analysis")


@pytest.mark.parametrize("prompts", [CONTRASTIVE, SINGLE], ids=["contrastive", "single"])
async def test_directions_are_ensembles_of_normalised_embeddings(tmp_path: Path, prompts: PromptSetFile) -> None:
    analyser, runner, _ = await make_analyser(tmp_path, list(images_of()))
    found = await embed_prompts(analyser.pack, pack_tokenizer(analyser.pack), runner, prompts=prompts)
    positive = await unit_embeddings(analyser, runner, ("chest radiograph of pneumonia", "pneumonia"))
    negative = await unit_embeddings(analyser, runner, ("normal chest radiograph", "normal"))
    expected = positive - negative if prompts is CONTRASTIVE else positive
    np.testing.assert_allclose(found.directions["Pneumonia"], expected, atol=1e-6)


async def test_a_prompt_set_changes_the_score_as_numpy_says_and_the_result_names_it(tmp_path: Path) -> None:
    images = list(images_of())
    analyser, runner, _ = await make_analyser(tmp_path, images)
    own = (await analyse(analyser, images)).result
    tokenizer = pack_tokenizer(analyser.pack)
    for prompts in (CONTRASTIVE, SINGLE):
        embedded = await embed_prompts(analyser.pack, tokenizer, runner, prompts=prompts)
        result = (await analyse(replace(analyser, prompts=embedded), images)).result
        (asked,) = [r for r in runner.requests if r.model.name.endswith("image_encoder")][-1:]
        image = (await runner.infer(asked)).outputs["embedding"][0].astype(np.float64)
        logit = analyser.pack.label("Pneumonia").scoring.logit_scale * (image @ embedded.directions["Pneumonia"])
        assert result.findings[0].score == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
        if prompts is CONTRASTIVE:  # the probability is the softmax over the pair
            pair = PAIRS["Pneumonia"]
            texts = tuple(each.replace("{finding}", "pneumonia") for each in pair.positive), pair.negative
            sides = [image @ await unit_embeddings(analyser, runner, side) for side in texts]
            weights = np.exp(analyser.pack.label("Pneumonia").scoring.logit_scale * np.array(sides))
            assert result.findings[0].score == pytest.approx(weights[0] / weights.sum(), abs=1e-5)
        assert result.prompts is not None
        assert (result.prompts.id, result.prompts.sha256, result.prompts.mode) == ("site", prompts.sha256, prompts.mode)
        assert WarningCode.PROMPTS_NOT_CALIBRATED in {warning.code for warning in result.warnings}
    assert own.prompts is not None
    assert own.prompts.id == "tiny"
    assert WarningCode.PROMPTS_NOT_CALIBRATED not in {warning.code for warning in own.warnings}


async def test_all_tasks_are_answered_with_one_pass_of_the_image_encoder(tmp_path: Path) -> None:
    images = list(images_of())
    analyser, runner, _ = await make_analyser(tmp_path, images)
    embedded = await embed_prompts(analyser.pack, pack_tokenizer(analyser.pack), runner, prompts=CONTRASTIVE)
    before = runner.runs("image_encoder")
    result = (await analyse(replace(analyser, prompts=embedded), images)).result
    assert runner.runs("image_encoder") - before == 1
    assert [answer.task for answer in result.tasks] == ["view", "laterality", "quality"]
    (asked,) = [r for r in runner.requests if r.model.name.endswith("image_encoder")][-1:]
    image = (await runner.infer(asked)).outputs["embedding"][0].astype(np.float64)
    options = [
        await unit_embeddings(analyser, runner, texts)
        for texts in (("chest radiograph",), ("radiograph", "normal chest"))
    ]
    logits = analyser.pack.label("Pneumonia").scoring.logit_scale * np.array([image @ option for option in options])
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose([score for _, score in result.tasks[0].scores], expected, atol=1e-6)
    assert result.tasks[0].option == ("PA", "AP")[int(expected.argmax())]


async def test_the_packs_weights_are_as_they_were_after_other_prompts(tmp_path: Path) -> None:
    analyser, runner, _ = await make_analyser(tmp_path, list(images_of()))
    before = {name: analyser.pack.read(name) for name in analyser.pack.graphs}
    await embed_prompts(analyser.pack, pack_tokenizer(analyser.pack), runner, prompts=CONTRASTIVE)
    assert {name: analyser.pack.read(name) for name in analyser.pack.graphs} == before


async def test_nothing_of_the_clinical_context_reaches_a_text_encoder(tmp_path: Path) -> None:
    images = list(images_of())
    analyser, runner, _ = await make_analyser(tmp_path, images)
    tokens_before = [r for r in runner.requests if r.model.name.endswith("text_encoder")]
    context = ClinicalContext(indication="DOE^JANE, MRN 1234567, born 1999-01-02", age_years=3)
    await analyse(analyser, images, context=context)
    assert [r for r in runner.requests if r.model.name.endswith("text_encoder")] == tokens_before


def test_two_positive_findings_that_exclude_each_other_are_warned_of() -> None:
    benign = replace(
        finding("Malignant breast lesion", True),
        label="Benign breast lesion",
        code=CodedConcept("0", "99TEST", "Benign breast lesion"),
    )
    both = [finding("Malignant breast lesion", True), benign]
    (warning,) = consistency_warnings(both)
    assert warning.code is WarningCode.INCONSISTENT_FINDINGS
    assert "'Malignant breast lesion' and 'Benign breast lesion'" in warning.message
    assert consistency_warnings([finding("Malignant breast lesion", False), benign]) == []
