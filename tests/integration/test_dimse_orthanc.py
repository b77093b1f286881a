"""Orthanc as the archive: it sends to us, we send to it, find, pull, and have it commit storage."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from radserve.dicom_io.dimse.access import AccessPolicy, PeerPolicy
from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.dicom_io.dimse.events import Origin
from radserve.dicom_io.dimse.peer import DimseError, Peer, echo
from radserve.dicom_io.dimse.query_scu import QueryScu, StudyQuery
from radserve.dicom_io.dimse.receiver import InstanceReceiver
from radserve.dicom_io.dimse.store_scu import StoreScu
from tests.dicom_io.dimse.support import CT, free_port, running_scp, slice_files

ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
pytestmark = pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed")
START_SECONDS = 60


@dataclass(frozen=True)
class Pacs:
    """A running Orthanc; `our_port` is where it knows us."""

    peer: Peer
    http_port: int
    our_port: int

    def post(self, path: str, body: Any) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data=data, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    folder = tmp_path_factory.mktemp("orthanc")
    dicom, http, ours = free_port(), free_port(), free_port()
    configuration = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": "PACS",
        "DicomPort": dicom,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "Plugins": [],
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomModalities": {"us": ["RADSERVE", "127.0.0.1", ours]},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    assert ORTHANC is not None
    process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        peer = Peer("127.0.0.1", dicom, "PACS")
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                asyncio.run(echo(peer))
                break
            except DimseError:
                assert process.poll() is None and time.monotonic() < deadline, "Orthanc did not start"
                time.sleep(0.2)
        yield Pacs(peer, http, ours)
    finally:
        process.terminate()
        process.wait()


async def test_a_study_goes_to_orthanc_is_committed_found_and_pulled_in_three_ways(pacs: Pacs, tmp_path: Path) -> None:
    files = slice_files(tmp_path / "out", 8)
    first = dcmread(files[0])
    uids = [str(dcmread(path).SOPInstanceUID) for path in files]
    pixels = sorted(dcmread(path).PixelData for path in files)
    inbox = CommitmentInbox()
    access = AccessPolicy("RADSERVE", {"PACS": PeerPolicy()})
    scu, query = StoreScu(pacs.peer, commitments=inbox), QueryScu(pacs.peer)

    async with running_scp(tmp_path / "a", access, port=pacs.our_port, commitments=inbox) as running:
        assert all(outcome.is_stored for outcome in await scu.send(files))
        report = await scu.commit("2.25.1", [(CT, uid) for uid in [*uids, "1.2.3"]], wait_seconds=30)
        assert report is not None
        assert (report.committed, report.failed) == (frozenset(uids), {"1.2.3": 0x0112})

        (found,) = await query.find_studies(StudyQuery(patient_id="P-0001", modality="CT"))
        assert (found.study_instance_uid, found.study_date) == (first.StudyInstanceUID, "20260102")
        (series,) = await query.find_series(found.study_instance_uid)
        assert series.series_instance_uid == first.SeriesInstanceUID

        assert (await query.move("RADSERVE", found.study_instance_uid)).is_complete
        assert sorted(path.stem for path in running.instances()) == sorted(uids)
        assert sorted(dcmread(path).PixelData for path in running.instances()) == pixels

    async with running_scp(tmp_path / "b", access, port=pacs.our_port) as running:
        receiver = InstanceReceiver(running.store, None, running.seen.events)
        retrieved = await query.get(receiver, Origin("PACS", "q-1"), found.study_instance_uid, sop_class_uids=[CT])
        assert retrieved.completed == 8 and not retrieved.failed
        assert sorted(dcmread(path).PixelData for path in running.instances()) == pixels

    async with running_scp(tmp_path / "c", access, port=pacs.our_port) as running:
        sent = await asyncio.to_thread(pacs.post, "/modalities/us/store", _all_instances(pacs))
        assert sent["FailedInstancesCount"] == 0
        assert sorted(path.stem for path in running.instances()) == sorted(uids)
        async with asyncio.timeout(60):  # the release may come after the answer to the caller
            while not running.seen.released:
                await asyncio.sleep(0.05)
        assert [calling for calling, _ in running.seen.released] == ["PACS"]


def _all_instances(pacs: Pacs) -> list[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{pacs.http_port}/instances", timeout=30) as answer:
        return list(json.loads(answer.read()))
