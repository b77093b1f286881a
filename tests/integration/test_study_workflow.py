"""From an imported study to objects at a destination, by the real server with the workflow switched on."""

from __future__ import annotations

import hashlib
import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from radserve.dicom_io.dimse.peer import Peer
from radserve.dicom_io.dimse.store_scu import StoreScu
from radserve.v1 import study_pb2
from tests.support.dicoms import cr, part10, uid
from tests.support.server import live_server

pytestmark = pytest.mark.integration
SECONDS = 240
RULES = """
[[rule]]
name = "chest"
pack = "cxr-bus-mini"
outputs = ["sr", "sc", "seg"]
destinations = ["archive"]
when = { modality = "CR", view = "PA", tag.Manufacturer = "radserve*" }
"""
RULE_OF_OTHERS = """
[[rule]]
name = "others"
pack = "cxr-bus-mini"
outputs = ["sr"]
destinations = ["others"]
when = { modality = "OT" }
"""


def radiograph(number: int, **attributes: object) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (40, 40), dtype=np.uint8)
    return part10(cr(pixels, instance=str(number), InstanceNumber=number, **attributes))


def objects(folder: Path, count: int) -> list[Dataset]:
    """What has arrived, once there are `count` of them and a moment has passed in which more could come."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and len(list(folder.glob("*.dcm"))) < count:
        time.sleep(0.2)
    time.sleep(1.0)
    return [dcmread(io.BytesIO(path.read_bytes())) for path in sorted(folder.glob("*.dcm"))]


@pytest.mark.slow
def test_a_received_study_is_analysed_and_delivered_by_itself(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES + RULE_OF_OTHERS)
    archive, others = tmp_path / "archive", tmp_path / "others"
    given = {
        "workflow": True,
        "rules_file": rules,
        "destinations": {"archive": f"file://{archive}", "others": f"file://{others}"},
        "study_quiet_s": 1.0,
    }
    with live_server(tmp_path / "data", **given) as server:
        server.send(radiograph(1), radiograph(1))
        server.send(radiograph(2, study="not routed", Manufacturer="other"))
        server.send(radiograph(4, study="not to be analysed", Modality="OT"))
        (refusal,) = objects(others, 1)  # a study that cannot be analysed says so at its destination
        assert refusal.Modality == "SR"
        assert "NO_APPLICABLE_INPUT" in str(refusal)
        found = objects(archive, 2)
        assert sorted(each.Modality for each in found) == ["OT", "SR"]  # a radiograph gets no SEG
        assert {each.StudyInstanceUID for each in found} == {cr(np.zeros((2, 2), np.uint8)).StudyInstanceUID}
        server.send(radiograph(3))  # late: a revised result, in objects of their own
        found = objects(archive, 4)
        assert sorted(each.Modality for each in found) == ["OT", "OT", "SR", "SR"]
        assert len({each.SOPInstanceUID for each in found}) == 4
        manifests = [json.loads(path.read_bytes()) for path in (tmp_path / "data" / "results").glob("2*/manifest.json")]
        of_study = [each for each in manifests if each["study_instance_uid"] == found[0].StudyInstanceUID]
        first, second = sorted(of_study, key=lambda each: int(each["revision"]))
        assert (first["predecessor_uid"], second["predecessor_uid"]) == ("", first["result_uid"])
        documents = {each.SOPInstanceUID: each for each in found if each.Modality == "SR"}
        (revised,) = [each for each in documents.values() if "PredecessorDocumentsSequence" in each]
        (replaced,) = revised.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
        assert {revised.SOPInstanceUID, replaced.ReferencedSOPInstanceUID} == set(documents)
        before = {hashlib.sha256(path.read_bytes()).hexdigest() for path in archive.glob("*.dcm")}
    with live_server(tmp_path / "data", **given):
        time.sleep(2)  # nothing is left to do after a restart
        assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in archive.glob("*.dcm")} == before
        assert len(list((tmp_path / "data" / "results").glob("2.25.*"))) == 3


@pytest.mark.slow
def test_a_released_association_completes_a_study_and_a_watched_folder_is_emptied(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    archive, inbox = tmp_path / "archive", tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "before.dcm").write_bytes(radiograph(1, study="from the folder"))
    (inbox / "notes.txt").write_text("no DICOM file")
    given = {
        "workflow": True,
        "rules_file": rules,
        "destinations": {"archive": f"file://{archive}"},
        "study_quiet_s": 36000.0,  # nothing is complete by being quiet
        "study_cap_s": 360000.0,
        "dimse_port": 0,
        "complete_on_release": ("ROOM1",),
        "disk_reserve_mib": 0,
        "watch_folder": inbox,
        "watch_settle_s": 0.2,
        "retention_days": 1000.0,
    }
    with live_server(tmp_path / "data", **given) as server:
        listener = server.server.listener
        assert listener is not None
        peer = Peer("127.0.0.1", listener.port, "RADSERVE", "ROOM1", response_seconds=SECONDS)
        outcomes = server.wait_for(StoreScu(peer).send([radiograph(1), radiograph(2)]))
        assert all(outcome.is_stored for outcome in outcomes)
        found = objects(archive, 2)
        reason = inbox / "refused" / "notes.txt.reason.txt"
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and (len(list(inbox.iterdir())) > 1 or not reason.exists()):
            time.sleep(0.1)
        listed = server.studies.ListStudies(study_pb2.ListStudiesRequest(), timeout=SECONDS)
    assert sorted(each.Modality for each in found) == ["OT", "SR"]
    assert {each.StudyInstanceUID for each in found} == {cr(np.zeros((2, 2), np.uint8)).StudyInstanceUID}
    assert [path.name for path in inbox.iterdir()] == ["refused"]
    assert reason.read_text().startswith("NOT_DICOM")
    assert uid("study", "from the folder") in listed.study_instance_uids
