"""Patient data stays out of logs, errors and warnings, whatever the input."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.support.bad_dicoms import CASES
from tests.support.dicoms import cr, part10
from tests.support.server import LiveServer, live_server

CANARY = "CANARY"
TAGS = {
    "PatientName": f"{CANARY}^Name",
    "PatientID": f"{CANARY}-ID",
    "PatientAddress": f"{CANARY} street",
    "PatientBirthDate": "19870605",
    "AccessionNumber": f"{CANARY}-ACC",
    "ReferringPhysicianName": f"{CANARY}^Doctor",
    "InstitutionName": f"{CANARY} hospital",
    "StudyDescription": f"{CANARY} study",
    "ImageComments": f"{CANARY} comment",
    "AdditionalPatientHistory": f"{CANARY} history",
}


def test_nothing_of_a_patient_is_logged_or_told_whatever_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), live_server(tmp_path, log_level="DEBUG") as server:
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
        good = part10(cr(pixels, study="canary", **TAGS))
        broken = [good[: len(good) - 500], good[: len(good) // 3], good.replace(b"CR", b"ZZ", 1), good[200:]]
        outcomes = server.send(good, *broken)
        told = [str(outcome.error.message) for outcome in outcomes]
        warnings = list(server.report(outcomes[0].study_instance_uid))[-1].result.warnings
        told += [warning.message for warning in warnings]
        with pytest.raises(grpc.RpcError) as caught:
            server.classify(outcomes[0].study_instance_uid, pack=f"{CANARY.lower()}-no-pack")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        told += told_of_bad_files(server)
    logged = caplog.text + "".join(path.read_text() for path in (tmp_path / "logs").rglob("*") if path.is_file())
    assert logged
    assert CANARY not in logged + "".join(told)
    for word in ("19870605", "Doe", "P-0001"):  # the latter two are of the bad files' patient
        assert word not in logged + "".join(told)


def told_of_bad_files(server: LiveServer) -> list[str]:
    """What is said of every bad file: when it comes, or when it is decoded."""
    outcomes = server.send(*(make() for _, make in CASES.values()))
    told = [outcome.error.message for outcome in outcomes]
    for outcome in outcomes:
        if not outcome.HasField("error"):
            try:
                told.append(str(server.classify(outcome.study_instance_uid).warnings))
            except grpc.RpcError as error:
                told.append(error.details() or "")
    return told
