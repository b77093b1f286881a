"""The gRPC API over the real server and the real Triton."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from typer.testing import CliRunner

from radserve.models.catalogue import PackCatalogue
from radserve.server.cli import app
from radserve.tensors import InferenceRequest, InferenceResponse
from radserve.v1 import common_pb2, inference_pb2, model_pb2, review_pb2, review_pb2_grpc, study_pb2
from tests.support.dicoms import cr, ct, part10, us
from tests.support.server import CALL_SECONDS, LiveServer, reason_of


def radiograph(study: str, seed: int = 0, **tags: object) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 48)).astype(np.uint8)
    return part10(cr(pixels, study=study, PatientAge="003Y", BodyPartExamined="CHEST", ViewPosition="PA", **tags))


def stored(server: LiveServer, study: str, **tags: object) -> str:
    (outcome,) = server.send(radiograph(study, **tags))
    assert not outcome.HasField("error"), outcome.error
    return str(outcome.study_instance_uid)


def test_instances_are_imported_in_chunks_and_each_has_its_outcome(server: LiveServer) -> None:
    good, other = radiograph("import", instance="1"), radiograph("import", instance="2", seed=1)
    outcomes = server.send(good, b"this is no DICOM file" * 20, other, good, chunk=100)
    assert [outcome.reference for outcome in outcomes] == ["0", "1", "2", "3"]
    assert [outcome.error.code for outcome in outcomes] == ["", "NOT_DICOM", "", ""]
    assert [outcome.duplicate for outcome in outcomes] == [False, False, False, True]
    study = server.studies.GetStudy(
        study_pb2.GetStudyRequest(study_instance_uid=outcomes[0].study_instance_uid), timeout=CALL_SECONDS
    ).study
    assert len(study.series[0].instances) == 2
    assert study.series[0].modality == "CR"


def test_an_acknowledged_instance_is_on_disk_as_it_was_sent(server: LiveServer) -> None:
    data = radiograph("on disk")
    (outcome,) = server.send(data)
    path = server.settings.data_dir / "studies" / outcome.study_instance_uid / outcome.series_instance_uid
    assert (path / f"{outcome.sop_instance_uid}.dcm").read_bytes() == data


def test_other_bytes_under_a_known_uid_are_refused_and_nothing_is_overwritten(server: LiveServer) -> None:
    first, second = (radiograph("conflict", seed=seed, instance="same") for seed in (1, 2))
    assert not server.send(first)[0].HasField("error")
    (outcome,) = server.send(second)
    assert outcome.error.code == "UID_CONFLICT"


def test_studies_are_listed_in_pages(server: LiveServer) -> None:
    wanted = {stored(server, f"page {number}") for number in range(5)}
    found: list[str] = []
    token = ""
    while True:
        page = server.studies.ListStudies(
            study_pb2.ListStudiesRequest(page_size=2, page_token=token), timeout=CALL_SECONDS
        )
        assert len(page.study_instance_uids) <= 2
        found += page.study_instance_uids
        token = page.next_page_token
        if not token:
            break
    assert wanted <= set(found)
    assert found == sorted(set(found))


def test_lesions_are_classified_with_code_probability_and_place(server: LiveServer) -> None:
    result = server.classify(stored(server, "classify"))
    (finding,) = result.findings
    assert (finding.label, finding.code.scheme, finding.code.value) == ("Pneumonia", "SCT", "233604007")
    assert 0 <= finding.probability <= 1
    assert finding.positive == (finding.probability >= finding.threshold)
    assert len(finding.region.heat_map.values) == 16
    assert all(0 <= point.column <= 48 and 0 <= point.row <= 64 for point in finding.region.outline)
    assert result.status == "draft"
    assert len(result.pack.digest) == 64
    assert not result.HasField("report")


def test_ultrasound_is_read_as_breast(server: LiveServer) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (60, 80)).astype(np.uint8)
    (outcome,) = server.send(part10(us(pixels, study="us", BodyPartExamined="BREAST")))
    result = server.classify(outcome.study_instance_uid)
    assert [finding.label for finding in result.findings] == ["Malignant breast lesion"]


def test_report_text_streams_and_ends_with_the_draft(server: LiveServer) -> None:
    answers = list(server.report(stored(server, "report")))
    pieces = [answer.piece.text for answer in answers if answer.HasField("piece")]
    assert len(pieces) > 5
    assert answers[-1].HasField("result")
    report = answers[-1].result.report
    assert report.status == "draft"
    assert "".join(pieces).startswith("Findings:")
    assert [section.name for section in report.sections][:3] == ["Indication", "Technique", "Comparison"]


def test_a_readers_edit_of_a_served_draft_becomes_a_preference_pair(server: LiveServer, tmp_path: Path) -> None:
    study = stored(server, "reviewed", PatientName="Berg^Ilse")
    result = list(server.report(study))[-1].result
    drafted = {section.name: section.text for section in result.report.sections}
    signed = {"Findings": "The left lung is opaque at its base.", "Impression": "Opacity at the left base."}
    request = review_pb2.RecordReviewRequest(
        result=result,
        decision=review_pb2.DECISION_EDITED,
        final=[common_pb2.ReportSection(name=name, text=text) for name, text in signed.items()],
    )
    stub = review_pb2_grpc.ReviewServiceStub(server.channel)
    kept = stub.RecordReview(request, timeout=CALL_SECONDS).review_id
    out = tmp_path / "pairs.jsonl"
    done = CliRunner().invoke(
        app, ["preferences", "export", "--out", str(out), "--data-dir", str(server.settings.data_dir)]
    )
    assert done.exit_code == 0, done.output
    (pair,) = map(json.loads, out.read_text().splitlines())
    assert pair["id"] == kept
    assert pair["chosen"][0]["content"] == "\n".join(f"{name}: {text}" for name, text in signed.items())
    assert pair["rejected"][0]["content"].startswith("Findings: ")
    assert pair["rejected"][0]["content"].split("Findings: ")[1].split("\n")[0] in drafted["Findings"]
    assert not [each for each in ("Berg", "Ilse", study) if each in out.read_text()]


def test_inline_instances_give_the_same_findings_and_are_not_kept(server: LiveServer) -> None:
    data = radiograph("kept", seed=5)
    (outcome,) = server.send(data)
    by_uid = server.classify(outcome.study_instance_uid)
    inline = inference_pb2.ClassifyLesionsRequest(
        input=inference_pb2.AnalysisInput(inline=inference_pb2.InlineInstances(instances=[radiograph("kept", seed=5)]))
    )
    by_value = server.inference.ClassifyLesions(inline, timeout=CALL_SECONDS).result
    assert by_value.findings == by_uid.findings
    inline.input.inline.instances[0] = radiograph("inline only")
    uid = server.inference.ClassifyLesions(inline, timeout=CALL_SECONDS).result.study_instance_uid
    with pytest.raises(grpc.RpcError) as caught:
        server.classify(uid)
    assert reason_of(caught.value) == "STUDY_NOT_FOUND"


def test_clinical_context_comes_back_and_stands_in_the_draft(server: LiveServer) -> None:
    context = common_pb2.ClinicalContext(
        indication="Fever for three days",
        age_years=4,
        sex="M",
        laboratory_values=[common_pb2.LaboratoryValue(name="CRP", value="120", unit="mg/L")],
        prior_study_instance_uid="1.2.3.4",
    )
    result = list(server.report(stored(server, "context"), context=context))[-1].result
    assert result.context == context
    for given in ("Fever for three days", "4 years", "Sex: M", "CRP: 120 mg/L", "1.2.3.4"):
        assert given in result.report.text


def test_a_prior_study_that_is_stored_here_is_read_too_and_the_draft_says_both_answers(
    server: LiveServer, medmnist: Path
) -> None:
    images = np.load(medmnist / "pneumoniamnist.npz")["test_images"]

    def film(study: str, number: int, **tags: object) -> str:
        known = {"PatientAge": "003Y", "PatientID": "P1", "PatientBirthDate": "20220101"}
        (outcome,) = server.send(part10(cr(images[number], study=study, **known | tags)))
        return str(outcome.study_instance_uid)

    now = film("after", 0)
    priors = [film("earlier", 3, StudyDate="20240102"), film("of another", 3, PatientID="P2")]
    expected = [server.classify(uid).findings[0].probability for uid in (now, priors[0])]
    compared, *others = (
        list(server.report(now, context=common_pb2.ClinicalContext(prior_study_instance_uid=uid)))[-1].result
        for uid in priors
    )
    comparison = next(each.text for each in compared.report.sections if each.name == "Comparison")
    assert "(20240102): read by the same model" in comparison
    for probability in expected:
        assert f"{probability:.3f}" in comparison
    kinds = {e.kind for each in compared.report.sentences if each.section == "Comparison" for e in each.evidence}
    assert kinds == {"request", "prior", "finding"}
    assert all("No comparison was made" in each.report.text for each in others)


def test_a_document_of_clinical_context_adds_to_what_is_stated(server: LiveServer) -> None:
    order = b"MSH|^~\\&|RIS|H|R|S|20260102||ORM^O01|1|P|2.5\rPID|1||1||A^B||20210601|F\rOBX|1|NM|^CRP||112|mg/L\r"
    stated = common_pb2.ClinicalContext(indication="Fever for three days", sex="M")
    result = list(server.report(stored(server, "order"), context=stated, context_document=order))[-1].result
    assert (result.context.age_years, result.context.sex) == (4, "M")
    for given in ("Fever for three days", "4 years", "CRP: 112 mg/L"):
        assert given in result.report.text


@pytest.mark.parametrize(
    ("segments", "cause"),
    [
        (b"PID|1||1||SECRET||yesterday|F\r", "segment 2 (PID-7)"),
        (
            b"PID|1||1||SECRET||20210601|F\rOBX|1|TX|^Note||" + b"SECRET " * 300 + b"\r",
            "got 2099, expected at most 2000",
        ),
    ],
)
def test_a_document_that_cannot_be_read_is_a_warning_and_the_study_is_analysed(
    server: LiveServer, segments: bytes, cause: str
) -> None:
    order = b"MSH|^~\\&|RIS|H|R|S|20260102||ORM^O01|1|P|2.5\r" + segments
    result = server.classify(stored(server, "bad order"), context_document=order)
    (warning,) = (each for each in result.warnings if each.code == "CONTEXT_UNREADABLE")
    assert cause in warning.message and "SECRET" not in warning.message
    assert result.findings


def test_outside_the_intended_use_a_result_comes_with_a_plain_warning(server: LiveServer) -> None:
    pixels = np.zeros((40, 40), np.uint8) + np.arange(40, dtype=np.uint8)
    (outcome,) = server.send(part10(cr(pixels, study="no age", PatientAge=None, PatientBirthDate=None)))
    warnings = server.classify(outcome.study_instance_uid).warnings
    assert any("age is unknown" in warning.message for warning in warnings)


def test_models_are_listed_with_what_they_are_for(server: LiveServer) -> None:
    answer = server.models.ListModels(model_pb2.ListModelsRequest(), timeout=CALL_SECONDS)
    assert answer.default_pack == "cxr-bus-mini"
    (model,) = [each for each in answer.models if each.pack.name == "cxr-bus-mini"]
    assert model.ready
    assert {label.name for label in model.labels} == {"Pneumonia", "Malignant breast lesion"}
    assert {modality for each in model.inputs for modality in each.modalities} == {"CR", "DX", "US"}


@pytest.mark.parametrize(
    ("source", "code", "status"),
    [
        ({"study_instance_uid": "1.2.3.999"}, "STUDY_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        ({"study_instance_uid": "../../etc"}, "INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT),
        ({}, "INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT),
        (
            {"series": inference_pb2.SeriesSelector(study_instance_uid="1.2.3", series_instance_uid="1.2\nINFO all")},
            "INVALID_ARGUMENT",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        ({"study_instance_uid": "1.2.3", "pack": "no-such-pack"}, "UNKNOWN_PACK", grpc.StatusCode.NOT_FOUND),
        (
            {"inline": inference_pb2.InlineInstances(instances=[b"nonsense" * 30])},
            "NOT_DICOM",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        ({"inline": inference_pb2.InlineInstances()}, "INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_what_cannot_be_served_is_a_rich_error(
    server: LiveServer, source: dict, code: str, status: grpc.StatusCode
) -> None:
    request = inference_pb2.ClassifyLesionsRequest(input=inference_pb2.AnalysisInput(**source))
    with pytest.raises(grpc.RpcError) as caught:
        server.inference.ClassifyLesions(request, timeout=CALL_SECONDS)
    assert reason_of(caught.value) == code
    assert caught.value.code() is status


def test_a_context_that_cannot_be_is_refused(server: LiveServer) -> None:
    with pytest.raises(grpc.RpcError, match="age_years: got -3"):
        server.classify(stored(server, "odd"), context=common_pb2.ClinicalContext(age_years=-3))


def test_a_modality_no_input_takes_is_refused_naming_both(server: LiveServer) -> None:
    (outcome,) = server.send(part10(ct(np.zeros((8, 8), np.int16), study="ct")))
    with pytest.raises(grpc.RpcError) as caught:
        server.classify(outcome.study_instance_uid)
    assert reason_of(caught.value) == "NO_APPLICABLE_INPUT"
    assert "'CT'" in caught.value.details()


def test_a_chunk_before_its_start_is_refused(server: LiveServer) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.studies.ImportInstances(iter([study_pb2.ImportInstancesRequest(chunk=b"x")]), timeout=CALL_SECONDS)
    assert reason_of(caught.value) == "INVALID_ARGUMENT"


class HeldDecoder:
    """Lets `free` steps of the decoder through and holds the next until `release`: a run, or a response of a stream."""

    def __init__(self, server: LiveServer, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
        self.steps = 0
        self.by_report: list[int] = []  # responses of each stream
        self.holding, self.cancelled = threading.Event(), threading.Event()
        self._free, self._gate = free, asyncio.Event()
        self._server = server
        self._infer, self._stream = server.server.runner.infer, server.server.runner.stream
        monkeypatch.setattr(server.server.runner, "infer", self._held)
        monkeypatch.setattr(server.server.runner, "stream", self._held_stream)

    async def _held(self, request: InferenceRequest) -> InferenceResponse:
        if request.model.name.endswith("--decoder_step"):
            await self._hold()
        return await self._infer(request)

    async def _held_stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        number = len(self.by_report)
        self.by_report.append(0)
        async with aclosing(self._stream(request)) as responses:
            async for response in responses:
                self.by_report[number] += 1
                await self._hold()
                yield response

    async def _hold(self) -> None:
        self.steps += 1
        if self.steps > self._free:
            self.holding.set()
            try:
                await self._gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

    def release(self) -> None:
        async def set_gate() -> None:
            self._gate.set()

        self._server.wait_for(set_gate())


def test_a_result_says_whose_work_it_rests_on(server: LiveServer) -> None:
    pack = PackCatalogue().get("cxr-bus-mini")
    found = server.classify(stored(server, "provenance"))
    origin = found.provenance
    assert (origin.licence, origin.initialised_from) == (pack.licence, pack.initialised_from)
    assert dict(origin.data) == dict(pack.training)
    assert {"source", "doi", "licence", "splits"} <= set(origin.data)
    card = (pack.folder / "MODEL_CARD.md").read_bytes()
    assert origin.model_card_sha256 == hashlib.sha256(card).hexdigest()
    assert not origin.plugins
    assert (found.pack.digest, found.prompts.id) == (pack.digest, "cxr-bus-mini")


@pytest.mark.parametrize("strategy", ["GREEDY", "BEAM", "SAMPLE"])
def test_a_report_is_written_by_the_strategy_that_is_asked_for(server: LiveServer, strategy: str) -> None:
    number = inference_pb2.DecodingStrategy.Value(f"DECODING_STRATEGY_{strategy}")
    options = inference_pb2.ReportOptions(decoding=inference_pb2.DecodingOptions(strategy=number, beams=3, seed=5))
    study = stored(server, "strategy")
    texts = []
    for _ in range(2):
        *pieces, last = list(server.report(study, report_options=options))
        texts.append("".join(each.piece.text for each in pieces))
        assert last.result.generation.strategy == strategy.lower()
        assert len(last.result.generation.never_allowed_sha256) == 64
    assert texts[0] == texts[1]
    assert texts[0].startswith("Findings:")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (inference_pb2.ReportOptions(language="fr"), "LANGUAGE_NOT_AVAILABLE"),
        (inference_pb2.ReportOptions(decoding=inference_pb2.DecodingOptions(beams=0)), "INVALID_ARGUMENT"),
        (inference_pb2.ReportOptions(decoding=inference_pb2.DecodingOptions(temperature=-1)), "INVALID_ARGUMENT"),
    ],
)
def test_report_options_that_cannot_be_are_refused_by_name(
    server: LiveServer, options: inference_pb2.ReportOptions, reason: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(server.report(stored(server, "options"), report_options=options))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == reason


def test_a_deadline_that_is_too_short_ends_the_call(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    study = stored(server, "deadline")
    decoder = HeldDecoder(server, monkeypatch, free=0)
    request = inference_pb2.GenerateReportRequest(input=inference_pb2.AnalysisInput(study_instance_uid=study))
    with pytest.raises(grpc.RpcError) as caught:
        list(server.inference.GenerateReport(request, timeout=0.5))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    decoder.release()


def test_the_first_piece_arrives_before_the_last_is_computed(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = stored(server, "first piece")
    whole = list(server.report(study))
    decoder = HeldDecoder(server, monkeypatch, free=1)
    stream = server.report(study)
    first = next(iter(stream))  # it would not come, were it sent with the last
    assert decoder.holding.wait(CALL_SECONDS)
    decoder.release()
    assert [first, *stream][:-1] == whole[:-1]
    assert len(whole) > 2


def test_cancelling_stops_the_decoder_within_a_step(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    study = stored(server, "cancel")
    decoder = HeldDecoder(server, monkeypatch, free=2)
    stream = server.report(study)
    assert decoder.holding.wait(CALL_SECONDS)
    stream.cancel()
    assert decoder.cancelled.wait(CALL_SECONDS)
    decoder.release()
    list(server.report(study))
    cancelled, whole = decoder.by_report
    assert cancelled == 3
    assert whole > 3  # a decoder that went on would have shown as many


def test_health_says_serving_for_each_service(server: LiveServer) -> None:
    health = health_pb2_grpc.HealthStub(server.channel)
    for service in ("", "radserve.v1.StudyService", "radserve.v1.InferenceService", "radserve.v1.ModelService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_SECONDS)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_names_the_services_on_loopback(server: LiveServer) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = list(stub.ServerReflectionInfo(iter([request]), timeout=CALL_SECONDS))
    names = {service.name for service in answer.list_services_response.service}
    assert {"radserve.v1.StudyService", "radserve.v1.InferenceService", "grpc.health.v1.Health"} <= names
