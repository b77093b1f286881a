"""DCMTK against the storage SCP: storescu, dcmsend, echoscu, findscu; and our SCUs against storescp and dcmqrscp."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import JPEGLosslessSV1, RLELossless

from radserve.dicom_io.dimse.access import AccessPolicy, PeerPolicy
from radserve.dicom_io.dimse.events import Origin
from radserve.dicom_io.dimse.peer import DimseError, Peer, echo
from radserve.dicom_io.dimse.query_scu import QueryScu, StudyQuery
from radserve.dicom_io.dimse.receiver import InstanceReceiver
from radserve.dicom_io.dimse.store_scu import StoreScu
from radserve.dicom_io.dimse.tls import TlsFiles, server_context
from radserve.dicom_io.file_meta import read_file_meta
from tests.dicom_io.dimse.certificates import Authority
from tests.dicom_io.dimse.support import (
    PATIENCE,
    Running,
    dcmtk,
    free_port,
    gone,
    running_scp,
    slice_bytes,
    slice_files,
    tool_exists,
)

pytestmark = pytest.mark.skipif(not tool_exists("storescu"), reason="DCMTK is not installed")


def data_sets(paths: list[Path]) -> list[bytes]:
    found = [path.read_bytes() for path in paths]
    return sorted(each[read_file_meta(each).offset :] for each in found)


async def run(tool: str, running: Running, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    peer = ("127.0.0.1", str(running.port))
    return await asyncio.to_thread(dcmtk, tool, "-aec", "RADSERVE", *peer, *arguments)


async def test_echoscu_is_answered(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        assert (await run("echoscu", running)).returncode == 0


async def test_storescu_and_dcmsend_store_byte_for_byte_and_once(tmp_path: Path) -> None:
    files = slice_files(tmp_path / "out", 12)
    async with running_scp(tmp_path / "store") as running:
        for tool in ("storescu", "dcmsend", "storescu"):
            sent = await run(tool, running, *files)
            assert sent.returncode == 0, sent.stderr
        assert len(running.instances()) == 12
        assert data_sets(running.instances()) == data_sets(files)
        assert [stored.duplicate for stored, _ in running.seen.stored] == [False] * 12 + [True] * 24
        await gone(running)
        assert len(running.seen.released) == 3


@pytest.mark.parametrize(("syntax", "option"), [(JPEGLosslessSV1, "-xs"), (RLELossless, "-xr")])
async def test_storescu_sends_what_it_holds_compressed_without_decompressing(
    tmp_path: Path, syntax: str, option: str
) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(slice_bytes(1, syntax))
    async with running_scp(tmp_path / "store") as running:
        sent = await run("storescu", running, option, path)
        assert sent.returncode == 0, sent.stderr
        (stored,) = running.instances()
        assert dcmread(stored).file_meta.TransferSyntaxUID == syntax
        assert data_sets([stored]) == data_sets([path])


async def test_a_conflict_is_told_to_storescu_and_the_first_stays(tmp_path: Path) -> None:
    first, other = tmp_path / "first.dcm", tmp_path / "other.dcm"
    first.write_bytes(slice_bytes(1))
    other.write_bytes(slice_bytes(1, PatientID="P-0002"))
    async with running_scp(tmp_path / "store") as running:
        assert (await run("storescu", running, first)).returncode == 0
        answer = await run("storescu", running, "-d", other)
        assert "0xc010" in answer.stderr.lower()
        assert data_sets(running.instances()) == data_sets([first])
        assert len(running.seen.refused) == 1


async def test_a_wrong_ae_title_is_told_to_echoscu(tmp_path: Path) -> None:
    async with running_scp(tmp_path, AccessPolicy("RADSERVE", {"CT1": PeerPolicy()})) as running:
        wrong = await asyncio.to_thread(
            dcmtk, "echoscu", "-aet", "CT1", "-aec", "OTHER", "127.0.0.1", str(running.port)
        )
        assert wrong.returncode and "Called AE Title Not Recognized" in wrong.stderr
        unknown = await run("echoscu", running, "-aet", "CT2")
        assert unknown.returncode and "Calling AE Title Not Recognized" in unknown.stderr
        assert (await run("echoscu", running, "-aet", "CT1")).returncode == 0


async def test_findscu_is_told_that_there_is_no_query_here(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        answer = await run("findscu", running, "-S", "-k", "0008,0052=STUDY")
        assert answer.returncode
        assert "No Acceptable Presentation Contexts" in answer.stderr


async def test_storescu_aborting_after_the_first_instance_keeps_the_first(tmp_path: Path) -> None:
    files = slice_files(tmp_path / "out", 3)
    async with running_scp(tmp_path / "store") as running:
        await run("storescu", running, "--abort", *files)
        await gone(running)
        assert len(running.instances()) == len(running.seen.stored) == 3
        assert len(running.seen.ended) == 1 and not running.seen.released


@pytest.mark.parametrize("case", ["right", "no certificate", "another authority", "no tls"])
async def test_storescu_over_tls(tmp_path: Path, case: str) -> None:
    hospital, stranger = Authority(tmp_path, "hospital"), Authority(tmp_path, "stranger")
    server = hospital.issue("server")
    client = (stranger if case == "another authority" else hospital).issue("client")
    trust = ("+cf", hospital.pem.certificate)
    options: dict[str, tuple[str | Path, ...]] = {
        "no certificate": ("+tla", *trust),
        "no tls": (),
    }
    given = options.get(case, ("+tls", client.key, client.certificate, *trust))
    (path,) = slice_files(tmp_path / "out", 1)
    tls = server_context(TlsFiles(server.certificate, server.key, hospital.pem.certificate))
    async with running_scp(tmp_path / "store", tls=tls) as running:
        sent = await run("storescu", running, *given, "-to", "60", "-ta", "60", path)
        assert (sent.returncode == 0) == (case == "right"), sent.stderr
        assert len(running.instances()) == (case == "right")


@contextmanager
def server(tool: str, port: int, *arguments: str | Path) -> Iterator[Peer]:
    command = [f"/usr/bin/{tool}", *map(str, arguments), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Peer("127.0.0.1", port, "ARCHIVE")
    finally:
        process.kill()
        process.wait()


async def answers(peer: Peer) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await echo(peer)
                return
            except DimseError:
                await asyncio.sleep(0.1)


async def test_storescp_gets_what_we_send_byte_for_byte(tmp_path: Path) -> None:
    files = slice_files(tmp_path / "out", 5)
    (tmp_path / "in").mkdir()
    with server("storescp", free_port(), "+B", "-od", tmp_path / "in") as peer:  # +B: the bytes as they come
        await answers(peer)
        outcomes = await StoreScu(peer).send(files)
    assert all(outcome.is_stored for outcome in outcomes)
    assert data_sets(list((tmp_path / "in").iterdir())) == data_sets(files)


async def test_dcmqrscp_is_queried_and_pulled_by_move_and_by_get(tmp_path: Path) -> None:
    archive, port = tmp_path / "archive", free_port()
    archive.mkdir()
    files = slice_files(tmp_path / "out", 6)
    study = str(dcmread(files[0]).StudyInstanceUID)
    async with running_scp(tmp_path / "moved") as moved, running_scp(tmp_path / "got") as got:
        (tmp_path / "dcmqrscp.cfg").write_text(
            f"MaxPDUSize = 16384\nMaxAssociations = 16\n"
            f"HostTable BEGIN\nus = (RADSERVE, 127.0.0.1, {moved.port})\nHostTable END\n"
            f"VendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nARCHIVE {archive} RW (100, 1024mb) ANY\nAETable END\n"
        )
        with server("dcmqrscp", port, "-c", tmp_path / "dcmqrscp.cfg") as peer:
            await answers(peer)
            assert all(outcome.is_stored for outcome in await StoreScu(peer).send(files))
            query = QueryScu(peer)
            (found,) = await query.find_studies(StudyQuery(study_date="20260101-20260103"))
            assert found.study_instance_uid == study
            (series,) = await query.find_series(study)
            assert (series.modality, series.study_instance_uid) == ("CT", study)
            assert await query.find_studies(StudyQuery(study_instance_uid="1.2.3")) == []
            assert (await query.move("RADSERVE", study)).is_complete
            receiver = InstanceReceiver(got.store, None, got.seen.events)
            retrieved = await query.get(receiver, Origin("ARCHIVE", "q-1"), study, series.series_instance_uid)
            assert retrieved.is_complete and retrieved.completed == 6
        assert data_sets(moved.instances()) == data_sets(files)
        assert data_sets(got.instances()) == data_sets(files)
