"""A thousand studies by several associations at once, some twice: none is lost, none is doubled, none differs."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from radserve.dicom_io.dimse.peer import Peer
from radserve.dicom_io.dimse.store_scu import StoreOutcome, StoreScu
from radserve.dicom_io.file_meta import read_file_meta
from tests.dicom_io.dimse.scp_process import scp_process
from tests.dicom_io.dimse.support import free_port
from tests.support.dicoms import cr, part10

STUDIES, SENDERS, AGAIN = 1000, 4, 40


def radiograph(number: int) -> bytes:
    pixels = np.full((8, 8), number, dtype=np.uint16)
    return part10(cr(pixels, study=str(number), series=str(number), instance=str(number)))


def data_set_sha256(data: bytes) -> str:
    """Of what is sent; the file meta information before it is the receiver's own (PS3.10 section 7.1)."""
    return hashlib.sha256(data[read_file_meta(data).offset :]).hexdigest()


@pytest.mark.slow
def test_a_thousand_studies_come_and_are_there_once_and_as_they_were_sent(tmp_path: Path) -> None:
    data = [radiograph(number) for number in range(STUDIES)]
    # Each sender has a part of its own, and the beginning of its neighbour's.
    parts = [data[at::SENDERS] + data[(at + 1) % SENDERS :: SENDERS][:AGAIN] for at in range(SENDERS)]
    port = free_port()

    async def send() -> list[StoreOutcome]:
        scu = StoreScu(Peer("127.0.0.1", port, "RADSERVE", response_seconds=600))
        return [each for found in await asyncio.gather(*map(scu.send, parts)) for each in found]

    with scp_process(port, tmp_path / "studies", 600.0, "index"):
        outcomes = asyncio.run(send())
    assert len(outcomes) == STUDIES + SENDERS * AGAIN
    assert all(outcome.is_stored for outcome in outcomes)
    with scp_process(port, tmp_path / "studies", 600.0, "index"):  # what a restart finds
        pass
    stored = [path.read_bytes() for path in (tmp_path / "studies").glob("[0-9]*/*/*.dcm")]
    assert sorted(map(data_set_sha256, stored)) == sorted(map(data_set_sha256, data))
    with closing(sqlite3.connect(tmp_path / "index.db")) as database:
        counts = "SELECT count(*), count(DISTINCT study_instance_uid), count(DISTINCT sha256) FROM instances"
        assert database.execute(counts).fetchone() == (STUDIES,) * 3
        assert database.execute("SELECT count(*) FROM studies").fetchone() == (STUDIES,)
        sums = {row[0] for row in database.execute("SELECT sha256 FROM instances")}
    assert sums == {hashlib.sha256(each).hexdigest() for each in stored}
