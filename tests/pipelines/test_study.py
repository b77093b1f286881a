"""The analysis of a study, on a tiny pack in ONNX Runtime."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from radserve.clinical_context import ClinicalContext
from radserve.errors import DicomError, ErrorCode, RadserveError, WorkerError
from radserve.image import Image
from radserve.models.pack import IMAGE_ENCODER, load_pack
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.study import Analysis, AnalysisLimits, AnalysisRequest
from radserve.references import InstanceRef, StudyRef
from radserve.results import WarningCode
from tests.support.analysing import NO_DEADLINE, analyse, study_of
from tests.support.packs import OWN_ENCODER, make_tiny_pack
from tests.support.pipeline import MemorySource, NearestPreprocessor, analyser_of, images_of, make_analyser


async def test_a_study_gives_a_finding_a_report_and_its_provenance(tmp_path: Path) -> None:
    images = list(images_of())
    analyser, _, _ = await make_analyser(tmp_path, images)
    result, text = await analyse(analyser, study_of(images))
    (finding,) = result.findings
    assert finding.label == "Pneumonia"
    assert result.pack == analyser.pack.ref
    assert result.report is not None
    assert result.report.status == "draft"
    assert text.lower().replace("\n", " ").split()[0] == "findings:"
    assert len(text.split()) > 5
    assert [name for name, _ in result.timings_ms] == ["decode", "preprocess", "classify", "report", "total"]
    contradicted = WarningCode.REPORT_CONTRADICTS_FINDING in {warning.code for warning in result.warnings}
    assert contradicted is finding.positive  # the tiny decoder always denies


async def test_the_score_is_the_softmax_over_the_prompt_pair_and_the_heat_map_adds_up_to_it(tmp_path: Path) -> None:
    images = list(images_of())
    analyser, runner, _ = await make_analyser(tmp_path, images)
    result, _ = await analyse(analyser, study_of(images))
    (finding,) = result.findings
    label = analyser.pack.label("Pneumonia")

    def unit(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    (encoded,) = [r for r in runner.requests if r.model.name.endswith("image_encoder")]
    image = (await runner.infer(encoded)).outputs["embedding"][0]
    texts = []
    for prompts in (
        analyser.pack.prompts.labels[label.name].positive,
        analyser.pack.prompts.labels[label.name].negative,
    ):
        from radserve.tensors import InferenceRequest

        tokens = np.stack([analyser.author.tokenizer.encode_prompt(prompt) for prompt in prompts])
        answer = await runner.infer(InferenceRequest(analyser.pack.model("text_encoder"), {"tokens": tokens}))
        texts.append(unit(unit(answer.outputs["embedding"]).mean(axis=0)))
    logits = label.scoring.logit_scale * np.array([image @ text for text in texts])
    softmax = np.exp(logits) / np.exp(logits).sum()
    assert finding.score == pytest.approx(softmax[0], abs=1e-5)
    calibrated = np.exp(logits / label.temperature)
    assert finding.probability == pytest.approx(calibrated[0] / calibrated.sum(), abs=1e-5)
    heat = finding.region.heat_map.values
    assert label.scoring.logit_scale * heat.sum() == pytest.approx(logits[0] - logits[1], abs=1e-4)


@pytest.mark.parametrize(
    ("modality", "region", "encoder"), [("DX", "CHEST", IMAGE_ENCODER), ("US", "BREAST", OWN_ENCODER)]
)
async def test_an_input_is_read_by_its_own_image_encoder_alone(
    tmp_path: Path, modality: str, region: str, encoder: str
) -> None:
    images = list(images_of(modality=modality, body_part=region))
    pack = load_pack(make_tiny_pack(tmp_path / "tiny", own_encoder=True))
    analyser, runner, _ = await analyser_of(pack, images, NearestPreprocessor())
    result, text = await analyse(analyser, study_of(images))
    (encoded,) = [each for each in runner.requests if "image_encoder" in each.model.name]
    assert encoded.model == pack.model(encoder)
    (finding,) = result.findings
    label, found = pack.label(finding.label), (await runner.infer(encoded)).outputs
    cosine = float(found["embedding"][0] @ analyser.prompts.directions[label.name])
    assert finding.score == pytest.approx(1 / (1 + np.exp(-label.scoring.logit_scale * cosine)), abs=1e-6)
    (decoded, *_) = [each for each in runner.requests if each.model.name.endswith("decoder_step")]
    np.testing.assert_array_equal(decoded.inputs["image_tokens"], found["image_tokens"])
    assert text


async def test_the_same_input_gives_the_same_result(tmp_path: Path) -> None:
    images = list(images_of(3))
    analyser, _, _ = await make_analyser(tmp_path, images)
    first, second = [await analyse(analyser, study_of(images)) for _ in range(2)]
    assert first[1] == second[1]
    for one, two in zip(first[0].findings, second[0].findings, strict=True):
        assert (one.score, one.tracking_uid) == (two.score, two.tracking_uid)
        assert one.region.outline.tobytes() == two.region.outline.tobytes()


async def test_of_several_images_the_finding_stands_on_the_one_that_speaks_most(tmp_path: Path) -> None:
    images = list(images_of(5))
    analyser, _, source = await make_analyser(tmp_path, images)
    result, _ = await analyse(analyser, study_of(images))
    alone = {}
    for image in images:
        single, _, _ = await make_analyser(tmp_path, [image])
        alone[image.instance.sop_instance_uid] = (await analyse(single, study_of([image])))[0].findings[0].score
    assert result.findings[0].region.instance.sop_instance_uid == max(alone, key=lambda each: alone[each])
    assert result.findings[0].score == pytest.approx(max(alone.values()), abs=1e-6)
    assert len(result.sources) == 1
    assert len(source.reads) <= len(images) + 1


async def test_two_series_are_two_findings_and_other_modalities_are_named(tmp_path: Path) -> None:
    images = [*images_of(series="a"), *images_of(series="b"), *images_of(series="c", modality="MR")]
    analyser, _, _ = await make_analyser(tmp_path, images)
    result, _ = await analyse(analyser, study_of(images))
    assert len(result.findings) == 2
    assert len({finding.tracking_uid for finding in result.findings}) == 2
    assert [series.analysed for series in result.series] == [True, True, False]
    assert WarningCode.SERIES_NOT_ANALYSED in {warning.code for warning in result.warnings}
    assert result.report is not None
    assert "Series 2:" in result.report.text


async def test_one_series_may_be_asked_for(tmp_path: Path) -> None:
    images = [*images_of(series="a"), *images_of(series="b")]
    analyser, _, _ = await make_analyser(tmp_path, images)
    wanted = images[1].instance.series_instance_uid
    request = AnalysisRequest(StudyRef(images[0].instance.study_instance_uid), series_instance_uid=wanted)
    result, _ = await analyse(analyser, request)
    assert [series.series_instance_uid for series in result.series] == [wanted]


async def test_clinical_context_is_never_dropped(tmp_path: Path) -> None:
    images = list(images_of())
    analyser, _, _ = await make_analyser(tmp_path, images)
    context = ClinicalContext(indication="Cough for 3 weeks", prior_study_instance_uid="1.2.3.4")
    request = AnalysisRequest(StudyRef(images[0].instance.study_instance_uid), context=context)
    result, _ = await analyse(analyser, request)
    assert result.context == context
    assert result.report is not None
    assert "Cough for 3 weeks" in result.report.text
    assert "1.2.3.4" in result.report.text
    assert WarningCode.PRIOR_NOT_COMPARED in {warning.code for warning in result.warnings}


@pytest.mark.parametrize(
    ("change", "request_fields", "code"),
    [
        ({}, {"study": StudyRef("9.9")}, ErrorCode.STUDY_NOT_FOUND),
        ({}, {"series_instance_uid": "9.9"}, ErrorCode.SERIES_NOT_FOUND),
        ({"modality": "MR"}, {}, ErrorCode.NO_APPLICABLE_INPUT),
        ({"modality": ""}, {}, ErrorCode.NO_APPLICABLE_INPUT),
    ],
)
async def test_what_cannot_be_analysed_is_refused_with_its_code(
    tmp_path: Path, change: dict, request_fields: dict, code: ErrorCode
) -> None:
    images = list(images_of(**change))
    analyser, _, _ = await make_analyser(tmp_path, images)
    fields = {"study": StudyRef(images[0].instance.study_instance_uid), **request_fields}
    with pytest.raises(RadserveError) as caught:
        await analyse(analyser, AnalysisRequest(**fields))
    assert caught.value.code is code


def unreadable(source: MemorySource, images: list[Image], error: RadserveError) -> None:
    """Reading any of these images raises the error."""
    refused, read = {image.instance for image in images}, source.read_image

    async def read_image(instance: InstanceRef) -> Image:
        if instance in refused:
            raise error
        return await read(instance)

    source.read_image = read_image  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "error",
    [
        DicomError(ErrorCode.DECODE_FAILED, "the pixel stream is broken"),
        WorkerError(ErrorCode.WORKER_DIED, "the worker died of signal SIGSEGV"),
    ],
)
async def test_an_image_that_cannot_be_read_is_named_and_the_others_are_analysed(
    tmp_path: Path, error: RadserveError
) -> None:
    images = list(images_of(3))
    analyser, _, source = await make_analyser(tmp_path, images)
    unreadable(source, images[1:2], error)
    result, _ = await analyse(analyser, study_of(images))
    assert result.findings[0].region.instance in (images[0].instance, images[2].instance)
    (warning,) = (each for each in result.warnings if each.code is WarningCode.IMAGE_NOT_ANALYSED)
    assert images[1].instance.sop_instance_uid in warning.message and error.code in warning.message
    assert result.report is not None
    assert "2 images, 1 more could not be read and were not analysed" in result.report.text
    assert result.series[0].instances == 3


async def test_a_series_that_cannot_be_read_is_named_and_the_others_are_analysed(tmp_path: Path) -> None:
    images, others = list(images_of(1)), list(images_of(2, series="b"))
    analyser, _, source = await make_analyser(tmp_path, [*images, *others])
    unreadable(source, others, DicomError(ErrorCode.TRUNCATED, "cut"))
    result, _ = await analyse(analyser, study_of(images))
    assert [series.analysed for series in result.series] == [True, False]
    (warning,) = (each for each in result.warnings if each.code is WarningCode.SERIES_NOT_ANALYSED)
    assert "TRUNCATED" in warning.message
    assert result.report is not None and warning.message in result.report.text


async def test_a_study_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    images = list(images_of(2))
    analyser, _, source = await make_analyser(tmp_path, images)
    unreadable(source, images, DicomError(ErrorCode.DECODE_FAILED, "the pixel stream is broken"))
    with pytest.raises(DicomError) as caught:
        await analyse(analyser, study_of(images))
    assert caught.value.code is ErrorCode.DECODE_FAILED


async def test_a_fault_of_ours_is_none_of_the_image(tmp_path: Path) -> None:
    images = list(images_of(2))
    analyser, _, source = await make_analyser(tmp_path, images)
    unreadable(source, images[:1], WorkerError(ErrorCode.CANCELLED, "the worker pool is closed"))
    with pytest.raises(WorkerError):
        await analyse(analyser, study_of(images))


async def test_a_blank_image_is_analysed_with_a_warning(tmp_path: Path) -> None:
    (image,) = images_of()
    image = replace(image, array=np.full_like(image.array, 100))
    analyser, _, _ = await make_analyser(tmp_path, [image])
    result, _ = await analyse(analyser, study_of([image]))
    assert WarningCode.IMAGE_QUALITY in {warning.code for warning in result.warnings}


async def test_a_strict_site_refuses_before_a_pixel_is_read(tmp_path: Path) -> None:
    images = list(images_of(age_years=70.0))
    analyser, _, source = await make_analyser(tmp_path, images, strict=True)
    with pytest.raises(RadserveError) as caught:
        await analyse(analyser, study_of(images))
    assert caught.value.code is ErrorCode.OUTSIDE_INTENDED_USE
    assert source.reads == []


async def test_too_many_images_are_refused_naming_both_numbers(tmp_path: Path) -> None:
    images = list(images_of(4))
    analyser, _, _ = await make_analyser(tmp_path, images, limits=AnalysisLimits(max_instances=3))
    with pytest.raises(RadserveError, match="got 4 images to analyse, expected at most 3"):
        await analyse(analyser, study_of(images))


async def test_without_a_report_the_decoder_is_not_run(tmp_path: Path) -> None:
    images = list(images_of())
    analyser, runner, _ = await make_analyser(tmp_path, images)
    request = AnalysisRequest(StudyRef(images[0].instance.study_instance_uid), report=False)
    result, text = await analyse(analyser, request)
    assert (result.report, text) == (None, "")
    assert runner.runs("decoder_step") == 0


@pytest.mark.parametrize(("threshold", "contradicted"), [(0.0, True), (1.0, False)])
async def test_text_that_contradicts_the_finding_is_withheld_with_a_warning(
    tmp_path: Path, threshold: float, contradicted: bool
) -> None:
    """The tiny decoder always writes "no pneumonia"; the threshold decides whether the finding is positive."""
    images = list(images_of())
    analyser, _, _ = await make_analyser(tmp_path, images)
    labels = tuple(replace(label, threshold=threshold) for label in analyser.pack.labels)
    analyser = replace(analyser, pack=replace(analyser.pack, labels=labels))
    result, text = await analyse(analyser, study_of(images))
    assert "no pneumonia" in text.lower()
    assert result.findings[0].positive is contradicted
    warned = WarningCode.REPORT_CONTRADICTS_FINDING in {warning.code for warning in result.warnings}
    assert warned is contradicted
    assert result.report is not None
    assert ("no pneumonia" in result.report.text.lower()) is not contradicted
    assert ("Text withheld" in result.report.text) is contradicted


async def test_nothing_is_decoded_ahead_of_the_reader_and_closing_stops_the_decoder(tmp_path: Path) -> None:
    images = list(images_of())
    analyser, runner, _ = await make_analyser(tmp_path, images)
    async with aclosing(analyser.analyse(study_of(images), NO_DEADLINE)) as events:
        async for event in events:
            assert not isinstance(event, Analysis)
            break
    assert runner.runs("decoder_step") == 1


async def test_a_passed_deadline_ends_the_analysis(tmp_path: Path) -> None:
    images = list(images_of())
    analyser, runner, _ = await make_analyser(tmp_path, images)
    before = len(runner.requests)
    with pytest.raises(RadserveError) as caught:
        async for _ in analyser.analyse(study_of(images), Deadline.after(0.0)):
            pass
    assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED
    assert len(runner.requests) == before


async def test_the_deadline_reaches_every_model_call(tmp_path: Path) -> None:
    images = list(images_of())
    analyser, runner, _ = await make_analyser(tmp_path, images)
    before = len(runner.requests)
    async for _ in analyser.analyse(study_of(images), Deadline.after(60.0)):
        pass
    left = [request.timeout_s for request in runner.requests[before:]]
    assert len(left) > 3
    assert all(each is not None and 0 < each <= 60 for each in left)
    assert left == sorted(left, reverse=True)


async def test_where_no_draft_can_be_built_the_findings_are_delivered_without_one(tmp_path: Path) -> None:
    """A name that reads as two sentences makes a draft of which one half names no finding."""
    images = list(images_of())
    analyser, _, _ = await make_analyser(tmp_path, images)
    label = analyser.pack.label("Pneumonia")
    odd = replace(label, name="Pneumonia; or none")
    used = replace(analyser.pack.inputs[0], labels=(odd.name,))
    pack = replace(analyser.pack, labels=(odd,), inputs=(used,))
    prompts = replace(analyser.prompts, directions={odd.name: analyser.prompts.directions["Pneumonia"]})
    result, _ = await analyse(replace(analyser, pack=pack, prompts=prompts, author=None), study_of(images))
    assert result.report is None
    assert [each.label for each in result.findings] == [odd.name]
    (warning,) = (each for each in result.warnings if each.code is WarningCode.REPORT_WITHOUT_EVIDENCE)
    assert "rests on nothing" in warning.message
