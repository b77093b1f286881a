"""A reader's decision through the API becomes a preference record that says nothing of the patient."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

from radserve.dicom_io.store import StudyStore
from radserve.errors import ErrorCode, RadserveError
from radserve.pipelines.remote_report import INSTRUCTION
from radserve.reports import Report, ReportSection
from radserve.results import StudyResult
from radserve.server.cli import app
from radserve.server.records import opened_records
from radserve.server.result_json import result_to_json, to_bytes
from radserve.server.rpc.convert import result_to_message
from radserve.server.rpc.review_service import ReviewService
from radserve.server.settings import Settings
from radserve.v1 import common_pb2, review_pb2, review_pb2_grpc
from tests.support.dicoms import cr, part10
from tests.support.results import sample_image, sample_result
from tests.support.server import reason_of
from tests.support.workflow import InlineWorkers

PATIENT = {
    "PatientName": "Doe^Jane",
    "PatientID": "MRN-777",
    "PatientBirthDate": "19530102",
    "AccessionNumber": "ACC-9",
    "ReferringPhysicianName": "Weber^Karl",
    "StudyDate": "20240301",
}
IMAGE = cr(np.arange(56 * 42, dtype=np.uint16).reshape(56, 42), **PATIENT)
DRAFT = {"Findings": "Opacity in the left lung.", "Impression": "Pneumonia."}
SIGNED = {"Findings": "Opacity in the left lower lobe, 12 mm.", "Impression": "Pneumonia of the left lower lobe."}


def result(**fields: Any) -> StudyResult:
    sections = {"Indication": "Fever of Jane Doe", **DRAFT, "Notice": "Draft of 1.2.3"}
    report = Report(tuple(ReportSection(name, text) for name, text in sections.items()))
    return replace(sample_result(sample_image(IMAGE)), report=report, **fields)


def sections(texts: dict[str, str]) -> list[common_pb2.ReportSection]:
    return [common_pb2.ReportSection(name=name, text=text) for name, text in texts.items()]


def request(decision: str, final: dict[str, str] | None = None, **fields: Any) -> review_pb2.RecordReviewRequest:
    return review_pb2.RecordReviewRequest(
        result=result_to_message(result(**fields)),
        decision=review_pb2.Decision.Value(f"DECISION_{decision}"),
        final=sections(final or {}),
    )


def send(root: Path, *requests: review_pb2.RecordReviewRequest, stored: bool = True) -> list[str]:
    """The ids that the service gives, over gRPC, or the codes that it refuses with."""

    async def run() -> list[str]:
        async with opened_records(Settings(data_dir=root)) as records:
            workers: Any = InlineWorkers()
            store = StudyStore(root / "studies", workers, None, records.index, records.options)
            await store.open()
            if stored:
                async with store.receive() as incoming:
                    incoming.write(part10(IMAGE))
                    await incoming.commit()
            server = grpc.aio.server()
            service = ReviewService(records.index, records.reviews)
            review_pb2_grpc.add_ReviewServiceServicer_to_server(service, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            answers = []
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                for each in requests:
                    try:
                        answers.append((await review_pb2_grpc.ReviewServiceStub(channel).RecordReview(each)).review_id)
                    except grpc.RpcError as error:
                        answers.append(reason_of(error))
            await server.stop(None)
            await store.close()
            return answers

    return asyncio.run(run())


def call(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["preferences", *map(str, arguments)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def exported(root: Path, form: str = "paired") -> tuple[list[dict[str, Any]], str]:
    out = root / "pairs.jsonl"
    said = call("export", "--out", out, "--form", form, "--data-dir", root)
    schema = json.loads(call("schema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    for record in records:
        jsonschema.validate(record, schema, cls=jsonschema.Draft202012Validator)
    return records, said


def told_of_the_patient() -> Sequence[str]:
    made = result()
    uids = [made.study_instance_uid, made.findings[0].tracking_uid, made.findings[0].region.instance.sop_instance_uid]
    return ["Doe", "Jane", "Weber", "MRN", "ACC", "1953", "2024", "Fever", "cough", "85 mg", *uids]


def test_an_edit_through_the_api_becomes_a_pair_that_fits_the_schema_and_names_nobody(tmp_path: Path) -> None:
    (review_id,) = send(tmp_path, request("EDITED", SIGNED))
    (pair,), said = exported(tmp_path)
    assert "1 records are in" in said
    assert pair["id"] == review_id
    assert [each["role"] for each in pair["prompt"]] == ["system", "user"]
    assert pair["prompt"][0]["content"] == INSTRUCTION.format(language="English")
    assert json.loads(pair["prompt"][1]["content"]) == {
        "findings": [
            {"name": "Pneumonia", "state": "present", "measurements": []},
            {"name": "Malignant lesion", "state": "absent", "measurements": []},
        ]
    }
    assert pair["chosen"] == [{"role": "assistant", "content": "\n".join(f"{k}: {v}" for k, v in SIGNED.items())}]
    assert pair["rejected"] == [{"role": "assistant", "content": "\n".join(f"{k}: {v}" for k, v in DRAFT.items())}]
    assert (pair["decision"], pair["language"]) == ("edited", "en")
    text = (tmp_path / "pairs.jsonl").read_text()
    assert [each for each in told_of_the_patient() if each in text] == []


def test_the_prompt_asks_for_the_language_of_the_draft(tmp_path: Path) -> None:
    made = result().generation
    assert made is not None
    generations = [replace(made, language="zh"), replace(made, language="de"), None]
    send(tmp_path, *(request("EDITED", SIGNED, generation=each) for each in generations))
    pairs, _ = exported(tmp_path)
    asked = {each["language"]: each["prompt"][0]["content"] for each in pairs}
    names = {"zh": "Simplified Chinese", "de": "de", "en": "English"}
    assert asked == {code: INSTRUCTION.format(language=name) for code, name in names.items()}


@pytest.mark.parametrize(
    "text",
    ["Discussed with Weber.", "As told by MRS. DOE.", "Compared with 1 March 2024.", "See ACC-9.", "See 1.2.840.1.5."],
)
def test_a_text_that_may_tell_of_a_person_is_left_out_and_counted(tmp_path: Path, text: str) -> None:
    send(tmp_path, request("EDITED", SIGNED | {"Impression": text}), request("EDITED", SIGNED))
    pairs, said = exported(tmp_path)
    assert len(pairs) == 1
    assert text not in (tmp_path / "pairs.jsonl").read_text()
    assert "left out: 1" in said


def test_accepted_and_rejected_drafts_have_no_pair_without_another_text_and_stand_in_the_other_form(
    tmp_path: Path,
) -> None:
    send(tmp_path, request("ACCEPTED"), request("REJECTED"), request("REJECTED", SIGNED), request("EDITED", SIGNED))
    pairs, said = exported(tmp_path)
    assert sorted(each["decision"] for each in pairs) == ["edited", "rejected"]
    assert "left out: 1 (accepted without another text)" in said
    assert "left out: 1 (rejected without another text)" in said
    texts, _ = exported(tmp_path, "unpaired")
    wanted = [(each["decision"], each["label"], "lower lobe" in each["completion"][0]["content"]) for each in texts]
    assert sorted(wanted) == [
        ("accepted", True, False),
        ("edited", False, False),
        ("edited", True, True),
        ("rejected", False, False),
        ("rejected", False, False),
        ("rejected", True, True),
    ]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (request("UNSPECIFIED", SIGNED), "INVALID_ARGUMENT"),
        (request("EDITED"), "INVALID_ARGUMENT"),
        (request("EDITED", DRAFT), "INVALID_ARGUMENT"),
        (request("ACCEPTED", SIGNED), "INVALID_ARGUMENT"),
        (request("EDITED", {"Findings": "Clear."}), "INVALID_ARGUMENT"),
        (request("EDITED", SIGNED | {"Indication": "Fever"}), "INVALID_ARGUMENT"),
        (request("EDITED", SIGNED | {"Findings": "x" * 20_000}), "INVALID_ARGUMENT"),
        (request("EDITED", SIGNED, study_instance_uid="1.2.3"), "STUDY_NOT_FOUND"),
        (review_pb2.RecordReviewRequest(decision=review_pb2.DECISION_ACCEPTED), "INVALID_ARGUMENT"),
    ],
)
def test_a_review_that_cannot_be_is_refused_and_nothing_is_kept(
    tmp_path: Path, given: review_pb2.RecordReviewRequest, code: str
) -> None:
    assert send(tmp_path, given) == [code]
    assert exported(tmp_path)[0] == []


def test_an_erased_study_takes_its_reviews_along(tmp_path: Path) -> None:
    send(tmp_path, request("EDITED", SIGNED))
    study = result().study_instance_uid
    assert list((tmp_path / "reviews" / study).iterdir())
    done = CliRunner().invoke(app, ["store", "erase", "--study", study, "--data-dir", str(tmp_path)])
    assert done.exit_code == 0
    assert not (tmp_path / "reviews" / study).exists()
    assert exported(tmp_path)[0] == []


def test_a_result_file_and_a_text_give_the_same_pair_as_the_api(tmp_path: Path) -> None:
    send(tmp_path, request("EDITED", SIGNED))
    (by_api,), _ = exported(tmp_path)
    draft, text = tmp_path / "result.json", tmp_path / "signed.txt"
    draft.write_bytes(to_bytes(result_to_json(result())))
    text.write_text("".join(f"{name}: {body}\n" for name, body in SIGNED.items()))
    said = call("record", draft, "--decision", "edited", "--text", text, "--data-dir", tmp_path)
    assert "is kept" in said
    pairs, _ = exported(tmp_path)
    assert [{**each, "id": ""} for each in pairs] == [{**by_api, "id": ""}] * 2
    text.write_text("[]")
    done = CliRunner().invoke(app, ["preferences", "record", str(text), "--decision", "accepted"])
    assert isinstance(done.exception, RadserveError)
    assert done.exception.code is ErrorCode.INVALID_ARGUMENT
