"""A prior study that the request names is read by the same model, and the draft sets both answers side by side."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radserve.clinical_context import ClinicalContext
from radserve.errors import DicomError, ErrorCode
from radserve.image import Image
from radserve.pipelines.authoring import ReportOptions
from radserve.pipelines.study import AnalysisRequest
from radserve.references import StudyRef
from radserve.reports import Evidence, EvidenceKind
from radserve.results import StudyResult, WarningCode
from tests.support.analysing import analyse
from tests.support.pipeline import MemorySource, images_of, make_analyser


def prior_images(**tags: Any) -> list[Image]:
    """Another film of the same chest: other pixels."""
    found = list(images_of(2, study="before", series="p", **{"study_date": "20240102", **tags}))[1:]
    assert not np.array_equal(found[0].array, next(images_of()).array)
    return found


async def analysed(folder: Path, prior: list[Image], language: str = "en", **change: Any) -> StudyResult:
    images = list(images_of(study_date="20260102"))
    analyser, _, source = await make_analyser(folder, [*images, *prior])
    for name, value in change.items():
        setattr(source, name, value)
    uid = prior[0].instance.study_instance_uid if prior else "1.2.3.4"
    context, options = ClinicalContext(prior_study_instance_uid=uid), ReportOptions(language=language)
    request = AnalysisRequest(StudyRef(images[0].instance.study_instance_uid), context=context, options=options)
    return (await analyse(analyser, request))[0]


def comparison(result: StudyResult) -> list[str]:
    assert result.report is not None
    return next(each.text for each in result.report.sections if each.name == "Comparison").splitlines()


async def test_both_answers_stand_in_the_draft_as_the_model_gives_them_for_each_study_alone(tmp_path: Path) -> None:
    prior = prior_images()
    result = await analysed(tmp_path, prior)
    alone, _, _ = await make_analyser(tmp_path / "alone", prior)
    then = (await analyse(alone, AnalysisRequest(StudyRef(prior[0].instance.study_instance_uid))))[0].findings
    lead, *lines = comparison(result)
    assert lead.startswith(f"Prior study {prior[0].instance.study_instance_uid} (20240102): read by the same model.")
    assert len(lines) == len(result.findings) == 1
    told = [float(each) for each in re.findall(r"\d\.\d{3}", lines[0])]
    assert told == [round(result.findings[0].probability, 3), round(then[0].probability, 3)]
    assert len(result.series) == 1  # the prior study is no part of the result


async def test_each_line_rests_on_the_finding_and_the_prior_study(tmp_path: Path) -> None:
    prior = prior_images()
    result = await analysed(tmp_path, prior)
    assert result.report is not None
    rests_on = [each.evidence for each in result.report.sentences if each.section == "Comparison"]
    before = Evidence(EvidenceKind.PRIOR, prior[0].instance.study_instance_uid)
    assert rests_on == [
        (Evidence(EvidenceKind.REQUEST, "context"), before),
        (Evidence(EvidenceKind.FINDING, result.findings[0].tracking_uid), before),
    ]
    [warning] = [each for each in result.warnings if each.code is WarningCode.PRIOR_NOT_COMPARED]
    assert "read each study by itself" in warning.message


@pytest.mark.parametrize(
    "what", ["absent", "of another patient", "of another kind", "of an adult", "later", "twice the label", "unreadable"]
)
async def test_a_prior_study_that_cannot_be_set_beside_is_named_and_no_more(tmp_path: Path, what: str) -> None:
    prior, change = prior_images(), {}
    if what == "absent":
        prior = []
    elif what == "of another patient":
        change["strangers"] = {prior[0].instance.study_instance_uid}
    elif what == "of another kind":
        prior = prior_images(modality="MR")
    elif what == "of an adult":
        prior = prior_images(age_years=50.0)
    elif what == "later":
        prior = prior_images(study_date="20990102")
    elif what == "twice the label":
        prior += [replace(each) for each in images_of(3, study="before", series="q")][2:]
    else:

        async def broken(instance: Any) -> Image:
            if instance == prior[0].instance:
                raise DicomError(ErrorCode.TRUNCATED, "the pixels end early")
            return next(images_of())

        change["read_image"] = broken
    result = await analysed(tmp_path, prior, **change)
    [line] = comparison(result)
    assert line.endswith("No comparison was made.")
    assert result.findings
    assert WarningCode.PRIOR_NOT_COMPARED in {each.code for each in result.warnings}


async def test_without_a_report_the_prior_study_is_not_read(tmp_path: Path) -> None:
    images, prior = list(images_of()), prior_images()
    analyser, _, source = await make_analyser(tmp_path, [*images, *prior])
    context = ClinicalContext(prior_study_instance_uid=prior[0].instance.study_instance_uid)
    study = StudyRef(images[0].instance.study_instance_uid)
    await analyse(analyser, AnalysisRequest(study, context=context, report=False))
    assert isinstance(source, MemorySource)
    assert set(source.reads) == {images[0].instance.sop_instance_uid}
