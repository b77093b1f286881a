"""Reports worded by a text service: what it is told, what is made of its text, and what happens without it."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radserve.clinical_context import ClinicalContext, LaboratoryValue
from radserve.errors import ErrorCode, RequestError
from radserve.findings import CodedConcept, Finding, Measurement
from radserve.models.text_service import ChatService
from radserve.pipelines.authoring import FoundSeries, ReportOptions, ReportText
from radserve.pipelines.claims import built_in_claims
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.remote_report import RemoteAuthor
from radserve.pipelines.study import Analysis, AnalysisRequest, StudyAnalyser
from radserve.results import StudyResult, WarningCode
from tests.support.analysing import NO_DEADLINE, analyse, study_of
from tests.support.pipeline import images_of, make_analyser
from tests.support.text_service import Answer, event, streamed, text_service

FAITHFUL = "**Findings:** There is pneumonia.\n\n**Impression:** Pneumonia."
DECODED = "no pneumonia"  # what the decoder of the tiny pack writes, whatever it sees


async def study(
    folder: Path, url: str, *, threshold: float = 0.0, decoder: bool = True, series: int = 1, **options: Any
) -> tuple[StudyAnalyser, AnalysisRequest]:
    """An analyser with the text service; the threshold decides whether the finding is positive."""
    images = [each for n in range(series) for each in images_of(series=f"s{n}", laterality="L")]
    analyser, _, _ = await make_analyser(folder, images)
    labels = tuple(replace(label, threshold=threshold) for label in analyser.pack.labels)
    pack = replace(analyser.pack, labels=labels)
    remote = RemoteAuthor.of(pack, ChatService(url, "tiny-7b", **options), built_in_claims())
    author = analyser.author if decoder else None
    return replace(analyser, pack=pack, remote=remote, author=author), study_of(images)


def codes(result: StudyResult) -> set[WarningCode]:
    return {warning.code for warning in result.warnings}


async def test_the_text_of_the_service_stands_in_the_draft_and_the_record_says_who_wrote(tmp_path: Path) -> None:
    with text_service(Answer(streamed(FAITHFUL))) as service:
        analyser, request = await study(tmp_path, service.url, series=2)
        result, text = await analyse(analyser, request)
    assert result.report is not None
    sections = {each.name: each.text for each in result.report.sections}
    assert sections["Findings"] == "Series 1: There is pneumonia.\nSeries 2: There is pneumonia."
    assert sections["Impression"] == "Series 1: Pneumonia.\nSeries 2: Pneumonia."
    assert "worded by the text service's model tiny-7b" in sections["Notice"]
    assert "put together from the findings of tiny" in sections["Notice"]
    assert text.count("There is pneumonia.") == 2
    assert result.generation is not None
    assert (result.generation.backend, result.generation.model) == ("text_service", "tiny-7b")
    assert (result.generation.texts, result.generation.withheld) == (2, 0)
    assert WarningCode.TEXT_SERVICE_FAILED not in codes(result)
    assert all(each.evidence for each in result.report.sentences if each.section == "Findings")


async def test_the_service_is_told_the_findings_and_nothing_else(tmp_path: Path) -> None:
    context = ClinicalContext("Fever of Jane Doe", 77, "F", (LaboratoryValue("CRP", "123"),), "1.2.3.4")
    with text_service(Answer(streamed(FAITHFUL))) as service:
        analyser, request = await study(tmp_path, service.url)
        result, _ = await analyse(analyser, replace(request, context=context))
    ((_, _, body),) = service.requests
    sent = json.loads(body)
    assert sorted(sent) == ["max_tokens", "messages", "model", "stream", "temperature"]
    instruction, material = (each["content"] for each in sent["messages"])
    assert json.loads(material) == {
        "findings": [{"name": "Pneumonia", "state": "present", "phrases": ["pneumonia"], "measurements": []}],
        "side": "left",
    }
    for secret in ("Jane", "77", "CRP", "123", "1.2.3.4", result.study_instance_uid, *uids(result), "CHEST"):
        assert secret not in body.decode()
    with text_service(Answer(streamed(FAITHFUL))) as service:  # another patient: the very same words are sent
        analyser, request = await study(tmp_path / "again", service.url)
        await analyse(analyser, request)
    assert service.requests[0][2] == body
    assert "English" in instruction


def uids(result: StudyResult) -> list[str]:
    (finding,) = result.findings
    return [finding.tracking_uid, finding.region.instance.sop_instance_uid, result.series[0].series_instance_uid]


async def test_measurements_are_told_and_a_finding_that_cannot_be_assessed_has_no_phrases(tmp_path: Path) -> None:
    with text_service(Answer(streamed(FAITHFUL))) as service:
        analyser, request = await study(tmp_path, service.url)
        result, _ = await analyse(analyser, request)
        (found,) = result.findings
        size = Measurement(CodedConcept("118565006", "SCT", "Volume"), 12.3456, CodedConcept("ml", "UCUM", "ml"))
        measured: Finding = replace(found, measurements=(size,), cannot_assess=True)
        assert analyser.remote is not None
        series = FoundSeries("1.2", (measured,))
        reviewed = [each async for each in analyser.remote.write([series], ReportOptions("zh"), NO_DEADLINE)][-1]
    messages = json.loads(service.requests[-1][2])["messages"]
    assert "Simplified Chinese" in messages[0]["content"]
    assert json.loads(messages[1]["content"]) == {
        "findings": [
            {
                "name": "Pneumonia",
                "state": "cannot be assessed",
                "phrases": [],
                "measurements": [{"name": "Volume", "value": 12.3, "unit": "ml"}],
            }
        ]
    }
    assert not isinstance(reviewed, ReportText)
    assert reviewed.withheld


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("Findings: No pneumonia.\nImpression: Normal.", WarningCode.REPORT_CONTRADICTS_FINDING),
        (
            "Findings: There is pneumonia. Large pleural effusion.\nImpression: Pneumonia.",
            WarningCode.REPORT_UNSUPPORTED,
        ),
        ("Findings: There is pneumonia, worse than before.\nImpression: Pneumonia.", WarningCode.REPORT_UNSUPPORTED),
        ("Findings: The image was read.\nImpression: See above.", WarningCode.REPORT_UNSUPPORTED),
    ],
    ids=["contradicted", "unsupported", "invented comparison", "omitted"],
)
async def test_a_text_with_a_fault_is_held_and_the_template_takes_its_place(
    tmp_path: Path, text: str, warning: WarningCode
) -> None:
    with text_service(Answer(streamed(text))) as service:
        analyser, request = await study(tmp_path, service.url)
        result, _ = await analyse(analyser, request)
    assert warning in codes(result)
    assert result.report is not None
    findings = next(each.text for each in result.report.sections if each.name == "Findings")
    assert findings.startswith("Text withheld")
    assert findings.endswith("Pneumonia: found.")
    assert result.generation is not None
    assert (result.generation.backend, result.generation.withheld) == ("text_service", 1)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Answer(status=500), "MODEL_UNAVAILABLE"),
        (Answer(status=403), "MODEL_UNAVAILABLE"),
        (Answer([b"{"], media_type="application/json"), "MODEL_OUTPUT_INVALID"),
        (Answer([event("Findings: There is pneumonia.")]), "MODEL_OUTPUT_INVALID"),
        (Answer([event("x" * 20_000)]), "MODEL_OUTPUT_INVALID"),
        (Answer(streamed("There is pneumonia.")), "MODEL_OUTPUT_INVALID"),
        (Answer(streamed("")), "MODEL_OUTPUT_INVALID"),
        (Answer([event("Findings: There is")], hang=True), "DEADLINE_EXCEEDED"),
    ],
    ids=["5xx", "4xx", "no JSON", "cut off", "oversized", "a section lacks", "empty", "hangs"],
)
@pytest.mark.parametrize("decoder", [True, False], ids=["decoder", "template"])
async def test_where_the_service_fails_the_draft_is_the_decoders_or_the_templates(
    tmp_path: Path, answer: Answer, cause: str, decoder: bool
) -> None:
    with text_service(answer) as service:
        analyser, request = await study(
            tmp_path, service.url, threshold=1.0, decoder=decoder, timeout_s=0.2 if answer.hang else 60
        )
        result, text = await analyse(analyser, request)
    (warning,) = (each for each in result.warnings if each.code is WarningCode.TEXT_SERVICE_FAILED)
    assert cause in warning.message
    assert result.report is not None
    assert "There is" not in text + result.report.text
    assert "text service" not in result.report.text
    if decoder:
        assert DECODED in text.lower()
        assert DECODED in result.report.text.lower()
        assert result.generation is not None
        assert (result.generation.backend, result.generation.model) == ("decoder", "")
    else:
        assert text == ""
        assert "Not found: Pneumonia." in result.report.text
        assert result.generation is None


async def test_the_end_of_the_requests_own_time_is_not_the_services_fault(tmp_path: Path) -> None:
    with text_service(Answer(hang=True)) as service:
        analyser, request = await study(tmp_path, service.url)
        result, _ = await analyse(replace(analyser, remote=None), request)
        assert analyser.remote is not None
        series = FoundSeries("1.2", result.findings)
        with pytest.raises(RequestError) as caught:
            [each async for each in analyser.remote.write([series], ReportOptions(), Deadline.after(0.2))]
    assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED


async def test_cancelling_an_analysis_lets_the_service_go(tmp_path: Path) -> None:
    with text_service(Answer([event("Findings: ")], hang=True)) as service:
        analyser, request = await study(tmp_path, service.url)

        async def follow() -> list[ReportText | Analysis]:
            async with aclosing(analyser.analyse(request, NO_DEADLINE)) as events:
                return [each async for each in events]

        task = asyncio.create_task(follow())
        assert await asyncio.to_thread(service.asked.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(service.left.wait, 60)


async def test_a_text_with_a_sentence_that_rests_on_nothing_is_held_and_the_findings_are_delivered(
    tmp_path: Path,
) -> None:
    text = "Findings: There is pneumonia. The ribs are intact.\nImpression: Pneumonia."
    with text_service(Answer(streamed(text))) as service:
        analyser, request = await study(tmp_path, service.url)
        result, _ = await analyse(analyser, request)
    (warning,) = (each for each in result.warnings if each.code is WarningCode.REPORT_WITHOUT_EVIDENCE)
    assert "1 of its sentences" in warning.message
    assert "ribs" not in warning.message
    assert result.report is not None
    assert "ribs" not in result.report.text
    findings = next(each.text for each in result.report.sections if each.name == "Findings")
    assert findings.startswith("Text withheld")
    assert findings.endswith("Pneumonia: found.")
    assert result.generation is not None
    assert (result.generation.withheld, dict(result.generation.faults)) == (1, {"without_evidence": 1})
    assert [each.label for each in result.findings] == ["Pneumonia"]
    assert all(each.evidence for each in result.report.sentences)
