"""STOW-RS: 200 means on disk, and of every other instance the sender learns that it is not, and why."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGLSLossless
from requests import HTTPError

from radserve.errors import ErrorCode
from radserve.work import QuarantineKind
from tests.support.dicoms import cr, ct_series, part10
from tests.support.web import DICOM_TYPE, LiveWeb, code_of, live_web, multipart, reasons

RANDOM = np.random.default_rng(3)


def radiograph(study: str, **attributes: object) -> bytes:
    return part10(cr(RANDOM.integers(0, 256, (32, 40), dtype=np.uint8), study=study, instance="1", **attributes))


def stored_bytes(web: LiveWeb) -> set[bytes]:
    return {path.read_bytes() for path in web.files()}


def sops(items: list[dict[str, dict[str, list[str]]]]) -> list[str]:
    return [item["00081155"]["Value"][0] for item in items]


def test_an_acknowledged_instance_is_on_disk_as_it_was_sent(web: LiveWeb) -> None:
    slices = [part10(each, JPEGLSLossless) for each in ct_series(np.zeros((9, 32, 32), np.int16), study="stow-1")]
    first = dcmread(io.BytesIO(slices[0]))
    answer = web.store_instances(*slices)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert set(slices) <= stored_bytes(web)
    document = answer.json()
    assert document["00081190"]["Value"] == [f"{web.root}/studies/{first.StudyInstanceUID}"]
    referenced = document["00081199"]["Value"]
    assert len(set(sops(referenced))) == 9
    url = referenced[0]["00081190"]["Value"][0]
    alone = {"Accept": "application/dicom; transfer-syntax=*"}
    assert web.http.get(url, headers=alone).content == slices[0]  # in the order in which they were sent


def test_the_same_again_is_a_success_and_one_copy(web: LiveWeb) -> None:
    data = radiograph("stow-2")
    assert [web.store_instances(data).status_code for _ in range(2)] == [200, 200]
    assert web.store_instances(data, data).status_code == 200
    assert sum(path.read_bytes() == data for path in web.files()) == 1


def test_other_bytes_under_a_taken_uid_go_to_quarantine_and_the_first_ones_stay(web: LiveWeb) -> None:
    first, other = radiograph("stow-3"), radiograph("stow-3", PatientID="P-2")
    assert web.store_instances(first).status_code == 200
    answer = web.store_instances(other)
    assert answer.status_code == 409
    assert reasons(answer.json()) == [0xC010]
    entry = next(
        each
        for each in web.wait_for(web.records.ledger.quarantined())
        if each.sha256 == hashlib.sha256(other).hexdigest()
    )
    assert entry.kind is QuarantineKind.CONFLICT
    assert web.records.quarantine.path(entry.quarantine_id).read_bytes() == other
    assert first in stored_bytes(web)


def test_what_is_no_image_is_refused_one_by_one_and_the_rest_is_stored(web: LiveWeb) -> None:
    good = radiograph("stow-4")
    report = Path(str(get_testdata_file("test-SR.dcm"))).read_bytes()
    answer = web.store_instances(b"no DICOM at all", good, report, good[:450], b"")
    assert answer.status_code == 202
    document = answer.json()
    assert len(document["00081199"]["Value"]) == 1
    failed = {item["00081155"]["Value"][0]: item["00081197"]["Value"] for item in document["00081198"]["Value"]}
    report_uid = str(dcmread(get_testdata_file("test-SR.dcm")).SOPInstanceUID)
    assert failed == {
        report_uid: [0x0122],
        sops(document["00081199"]["Value"])[0]: [0xC000],
    }  # the half is the same UID
    assert [item["00081197"]["Value"] for item in document["0008119A"]["Value"]] == [[0xC000], [0xC000]]


def test_a_body_of_objects_that_are_no_images_is_of_an_unsupported_kind_and_the_answer_names_the_class(
    web: LiveWeb,
) -> None:
    report = Path(str(get_testdata_file("test-SR.dcm"))).read_bytes()
    answer = web.store_instances(report)
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/dicom+json")
    (failed,) = answer.json()["00081198"]["Value"]
    assert failed["00081150"]["Value"] == [dcmread(get_testdata_file("test-SR.dcm")).SOPClassUID]
    assert failed["00081197"]["Value"] == [0x0122]
    with pytest.raises(HTTPError) as caught:  # what a client of others makes of it
        web.client.store_instances([dcmread(io.BytesIO(report))])
    assert caught.value.response.status_code == 415


def test_an_unsupported_kind_beside_another_failure_is_a_conflict_and_each_has_its_reason(web: LiveWeb) -> None:
    report = Path(str(get_testdata_file("test-SR.dcm"))).read_bytes()
    answer = web.store_instances(report, radiograph("stow-17")[:450])
    assert answer.status_code == 409
    assert sorted(item["00081197"]["Value"][0] for item in answer.json()["00081198"]["Value"]) == [0x0122, 0xC000]


def test_a_body_in_a_transfer_syntax_that_is_not_read_is_of_an_unsupported_kind(web: LiveWeb) -> None:
    known = radiograph("stow-18")
    unknown = known.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0", 1)
    answer = web.store_instances(unknown)
    assert answer.status_code == 415
    (failed,) = answer.json()["00081198"]["Value"]
    assert failed["00081155"]["Value"] == [dcmread(io.BytesIO(known)).SOPInstanceUID]
    assert failed["00081197"]["Value"] == [0xC122]


def test_one_of_three_new_instances_that_fails_is_named_and_the_others_are_stored(web: LiveWeb) -> None:
    first, second, third = ct_series(np.zeros((3, 32, 32), np.int16), study="stow-13")
    whole = [part10(each) for each in (first, third)]
    answer = web.store_instances(whole[0], part10(second)[:450], whole[1])
    assert answer.status_code == 202
    document = answer.json()
    assert sops(document["00081199"]["Value"]) == [first.SOPInstanceUID, third.SOPInstanceUID]
    (failed,) = document["00081198"]["Value"]
    assert failed["00081150"]["Value"] == [second.SOPClassUID]
    assert failed["00081155"]["Value"] == [second.SOPInstanceUID]
    assert failed["00081197"]["Value"] == [0xC000]
    assert set(whole) <= stored_bytes(web)
    assert web.get(f"/studies/{first.StudyInstanceUID}/instances").json()[0].keys() >= {"00080018"}


@pytest.mark.parametrize(
    ("content_type", "part_type", "message"),
    [
        (
            'multipart/related; type="application/dicom+xml"; boundary=b',
            "application/dicom",
            'expected a body of multipart/related; type="application/dicom"',
        ),
        ("multipart/related; boundary=b", "image/png", "a part has another content type than application/dicom"),
        (
            "multipart/related; boundary=b",
            "",
            "neither the body nor its part states the content type application/dicom",
        ),
        (f"{DICOM_TYPE}; boundary=b", "image/png", "a part has another content type than application/dicom"),
        (
            f"{DICOM_TYPE}; boundary=c",
            "application/dicom",
            "the multipart body ends before its last boundary: it has none like that of its Content-Type",
        ),
    ],
)
def test_a_body_that_is_not_what_a_store_takes_is_told_the_cause(
    web: LiveWeb, content_type: str, part_type: str, message: str
) -> None:
    body = multipart("b", radiograph("stow-14"), content_type=part_type)
    answer = web.http.post(f"{web.root}/studies", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == (400 if "boundary=c" in content_type else 415)
    assert (code_of(answer), answer.json()["message"]) == ("INVALID_ARGUMENT", message)


def test_a_client_that_leaves_out_the_type_of_the_parts_is_served_by_what_each_part_states(web: LiveWeb) -> None:
    stated, unstated = radiograph("stow-15"), radiograph("stow-16")
    parts = ((b"Content-Type: application/dicom\r\n", stated), (b"", unstated))
    body = b"".join(b"--b\r\n" + head + b"\r\n" + data + b"\r\n" for head, data in parts) + b"--b--\r\n"
    head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: radserve\r\nContent-Length: {len(body)}\r\n"
    status, answer = web.raw(head.encode() + b"Content-Type: multipart/related; boundary=b\r\n\r\n" + body)
    assert status == 202
    assert stated in stored_bytes(web) and unstated not in stored_bytes(web)
    (referenced,) = json.loads(answer)["00081199"]["Value"]
    assert referenced["00081155"]["Value"] == [dcmread(io.BytesIO(stated)).SOPInstanceUID]


def test_all_refused_is_a_conflict(web: LiveWeb) -> None:
    answer = web.store_instances(b"nothing", b"of this")
    assert (answer.status_code, reasons(answer.json())) == (409, [0xC000, 0xC000])


def test_a_part_that_is_cut_off_in_its_pixels_is_refused_and_the_others_are_stored(web: LiveWeb) -> None:
    whole, cut = radiograph("stow-whole"), radiograph("stow-cut")[:-100]
    answer = web.store_instances(cut, whole)
    assert (answer.status_code, reasons(answer.json())) == (202, [0xC000])
    assert sops(answer.json()["00081198"]["Value"]) == [
        str(dcmread(io.BytesIO(cut), stop_before_pixels=True).SOPInstanceUID)
    ]
    answer = web.store_instances(cut)
    assert (answer.status_code, reasons(answer.json())) == (409, [0xC000])
    assert whole in stored_bytes(web)
    assert cut not in stored_bytes(web)


def test_a_study_takes_its_own_instances_only(web: LiveWeb) -> None:
    own, foreign = radiograph("stow-5"), radiograph("stow-6")
    study = str(cr(np.zeros((2, 2), np.uint8), study="stow-5").StudyInstanceUID)
    answer = web.store_instances(own, foreign, study=study)
    assert (answer.status_code, reasons(answer.json())) == (202, [0xA900])
    assert own in stored_bytes(web)
    assert foreign not in stored_bytes(web)


def test_a_body_that_ends_early_leaves_nothing_of_its_last_part(web: LiveWeb) -> None:
    whole, cut = radiograph("stow-7"), radiograph("stow-8")
    body = multipart("b", whole, cut)
    headers = {"Content-Type": f"{DICOM_TYPE}; boundary=b"}
    answer = web.http.post(f"{web.root}/studies", content=body[: len(body) - len(cut) // 2], headers=headers)
    assert (answer.status_code, code_of(answer)) == (400, "TRUNCATED")
    assert cut not in stored_bytes(web)
    assert not list((web.data_dir / "studies" / ".incoming").iterdir())


def test_a_sender_that_goes_away_leaves_nothing_behind(web: LiveWeb) -> None:
    data = radiograph("stow-9")
    head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {DICOM_TYPE}; boundary=b\r\n"
    body = multipart("b", data)[:-200]
    web.raw(f"{head}Content-Length: {len(body) + 5000}\r\n\r\n".encode() + body, half_close=True)
    assert data not in stored_bytes(web)


def test_an_instance_above_the_limit_is_refused_and_the_next_is_taken(web: LiveWeb) -> None:
    good = radiograph("stow-10")
    answer = web.store_instances(good[:400] + bytes(5 << 20), good)
    assert (answer.status_code, reasons(answer.json())) == (202, [0xC003])
    assert web.store_instances(bytes(5 << 20)).status_code == 413


def test_a_great_body_is_never_in_memory(web: LiveWeb) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    seen = [before]
    part = radiograph("stow-11") + secrets.token_bytes(1 << 20)

    def body() -> Iterator[bytes]:
        yield b"--b\r\n\r\n"
        for _ in range(60):
            seen.append(process.memory_info().rss)
            yield part
        yield b"\r\n--b--"

    headers = {"Content-Type": f"{DICOM_TYPE}; boundary=b"}
    answer = web.http.post(f"{web.root}/studies", content=body(), headers=headers)
    assert answer.status_code == 413  # 60 MiB in one part
    assert max(seen) - before < 40 << 20


def test_a_full_disk_is_told_and_nothing_stays(tmp_path: Path) -> None:
    with live_web(tmp_path, disk_reserve_mib=1 << 30) as web:
        answer = web.store_instances(radiograph("full"))
        assert (answer.status_code, code_of(answer)) == (507, "STORAGE_FULL")
        assert not web.files()
        health = web.http.get(f"{web.listener.url}/health")
        assert (health.status_code, health.json()["code"]) == (503, "STORAGE_FULL")


def test_an_erased_study_is_not_taken_again(web: LiveWeb) -> None:
    from radserve.references import StudyRef

    data = radiograph("stow-12")
    study = StudyRef(str(cr(np.zeros((2, 2), np.uint8), study="stow-12").StudyInstanceUID))
    assert web.store_instances(data).status_code == 200
    web.wait_for(web.store.erase(study))
    answer = web.store_instances(data)
    assert (answer.status_code, reasons(answer.json())) == (409, [0xC011])
    assert web.get(f"/studies/{study.study_instance_uid}").status_code == 404


def test_every_error_of_the_intake_has_a_reason() -> None:
    from radserve.dicom_io.dicomweb.intake import REASONS
    from radserve.dicom_io.dimse.statuses import STATUS_OF

    assert REASONS.keys() >= STATUS_OF.keys() | {ErrorCode.INVALID_ARGUMENT}
