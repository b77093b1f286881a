"""A study by C-STORE in, its results by C-STORE out: pynetdicom plays the modality and the archive."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from tests.support.dicoms import CR_IMAGE_STORAGE, cr, part10
from tests.support.server import live_server

SECONDS = 240
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
RULES = """
[[rule]]
name = "chest"
pack = "cxr-bus-mini"
outputs = ["sr", "sc"]
destinations = ["archive"]
when = { calling_ae = "ROOM1" }
"""


class Archive:
    """An SCP that keeps what it gets."""

    def __init__(self) -> None:
        self.received: list[Dataset] = []
        self._lock = threading.Lock()
        ae = AE("ARCHIVE")
        for uid in (COMPREHENSIVE_SR, SECONDARY_CAPTURE):
            ae.add_supported_context(uid, ExplicitVRLittleEndian)
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        self.port = self._server.socket.getsockname()[1]

    def _store(self, event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        with self._lock:
            self.received.append(dataset)
        return 0x0000

    def wait_for(self, count: int) -> list[Dataset]:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and len(self.received) < count:
            time.sleep(0.2)
        time.sleep(1.5)  # more would come now, were there more
        return self.received

    def stop(self) -> None:
        self._server.shutdown()


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive()
    yield archive
    archive.stop()


def send(port: int, calling_ae: str, *instances: bytes) -> list[int]:
    """C-ECHO, then C-STORE; the status of each."""
    ae = AE(calling_ae)
    ae.add_requested_context(Verification)
    ae.add_requested_context(CR_IMAGE_STORAGE, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="RADSERVE")
    assert association.is_established
    assert association.send_c_echo().Status == 0x0000
    statuses = [association.send_c_store(dcmread(io.BytesIO(each))).Status for each in instances]
    association.release()
    return statuses


def is_rejected(port: int, calling_ae: str) -> bool:
    """Whether the answer is an A-ASSOCIATE-RJ.

    Read from the PDUs: pynetdicom itself calls an association aborted where the rejection came, and its connection was
    closed, before the thread that asked went on.
    """
    answers: list[str] = []
    ae = AE(calling_ae)
    ae.add_requested_context(Verification)
    handlers = [(evt.EVT_PDU_RECV, lambda event: answers.append(type(event.pdu).__name__))]
    association = ae.associate("127.0.0.1", port, ae_title="RADSERVE", evt_handlers=handlers)
    return answers == ["A_ASSOCIATE_RJ"] and not association.is_established


def radiograph(study: str) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 255, (40, 40), dtype=np.uint8)
    return part10(cr(pixels, study=study, PatientAge="003Y"))


@pytest.mark.slow
def test_a_study_comes_by_c_store_from_who_is_listed_and_its_results_go_by_c_store(
    tmp_path: Path, archive: Archive
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    given = {
        "dimse_port": 0,
        "dimse_peers": ("ROOM1", "ROOM2"),
        "disk_reserve_mib": 0,
        "workflow": True,
        "rules_file": rules,
        "destinations": {"archive": f"dicom://ARCHIVE@127.0.0.1:{archive.port}"},
        "study_quiet_s": 1.0,
    }
    with live_server(tmp_path / "data", **given) as server:
        assert server.server.listener is not None
        port = server.server.listener.port
        one = radiograph("one")
        assert send(port, "ROOM1", one) == [0x0000]
        assert send(port, "ROOM1", one) == [0x0000]  # the same again: success, one copy, one result
        assert send(port, "ROOM2", radiograph("two")) == [0x0000]  # no rule for it
        assert is_rejected(port, "STRANGER")  # who is not listed may not send
        found = archive.wait_for(2)
    study = cr(np.zeros((2, 2), np.uint8), study="one").StudyInstanceUID
    assert sorted(str(each.SOPClassUID) for each in found) == [SECONDARY_CAPTURE, COMPREHENSIVE_SR]
    assert {str(each.StudyInstanceUID) for each in found} == {study}
