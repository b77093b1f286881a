"""Several objects over one connection to real archives: Orthanc by C-STORE and STOW-RS, DCMTK's storescp."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.results import Artifact
from radserve.server.destinations import site_senders
from radserve.server.senders import Destinations
from radserve.server.settings import Settings
from tests.dicom_io.dimse.support import free_port, running_scp, slice_bytes, tool_exists
from tests.support.dicomweb import header
from tests.support.orthanc import running_orthanc
from tests.support.sending import send_all

OBJECTS = [Artifact(f"{number}.dcm", "application/dicom", slice_bytes(number)) for number in range(1, 9)]
UIDS = {str(header(each.data).SOPInstanceUID) for each in OBJECTS}


def destinations(url: str, inbox: CommitmentInbox | None = None, **given: Any) -> Destinations:
    return Destinations({"archive": url}, site_senders(Settings(**given), inbox or CommitmentInbox()))


async def test_orthanc_takes_several_objects_in_one_request_and_over_one_association(tmp_path: Path) -> None:
    inbox = CommitmentInbox()
    with running_orthanc(tmp_path / "pacs", StableAge=600) as orthanc:
        web = destinations(f"dicomweb+{orthanc.web_url}")
        assert (await send_all(web, "archive", OBJECTS[:4])).errors == dict.fromkeys(range(4))
        async with running_scp(tmp_path / "ours", commitments=inbox, port=orthanc.our_port):
            pacs = destinations(orthanc.dicom_url, inbox, storage_commitment="required")
            assert (await send_all(pacs, "archive", OBJECTS[2:])).errors == dict.fromkeys(range(6))
            assert await pacs.has("archive", OBJECTS[7]) and await web.has("archive", OBJECTS[7])
        found = orthanc.get("/instances?expand")
        assert {each["MainDicomTags"]["SOPInstanceUID"] for each in found} == UIDS and len(found) == 8


@pytest.mark.skipif(not tool_exists("storescp"), reason="DCMTK is not installed")
async def test_storescp_gets_several_objects_over_one_association(tmp_path: Path) -> None:
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        command = ["/usr/bin/storescp", "-v", "-aet", "PACS", "-od", str(tmp_path), str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 60
            pacs = destinations(f"dicom://PACS@127.0.0.1:{port}")
            sent = await send_all(pacs, "archive", OBJECTS)
            while any(sent.errors.values()) and not sent.begun and time.monotonic() < end:  # not up yet
                sent = await send_all(pacs, "archive", OBJECTS)
            assert sent.errors == dict.fromkeys(range(8)) and sent.begun == list(range(8))
        finally:
            process.terminate()
            process.wait()
    assert len(list(tmp_path.glob("CT.*"))) == 8
    assert (tmp_path / "log").read_text().count("Association Received") == 1
