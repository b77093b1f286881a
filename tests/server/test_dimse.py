"""The listener as the settings make it: certificates, AE titles bound to them, quotas; with DCMTK as the peer."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from radserve.dicom_io.dimse.events import Origin
from radserve.dicom_io.parse import parse_header
from radserve.dicom_io.store import StoredInstance, StudyStore
from radserve.errors import ErrorCode, RadserveError
from radserve.references import StudyRef
from radserve.server.completion import AssociationSignals
from radserve.server.dimse import dimse_listener
from radserve.server.settings import Settings
from radserve.work import Signal
from tests.dicom_io.dimse.certificates import Authority, Pem
from tests.dicom_io.dimse.support import InlineWorkers, dcmtk, slice_files


@dataclass(frozen=True)
class Hospital:
    """Its authority, the server's and a client's certificate, and certificates that are not to be taken."""

    authority: Authority
    server: Pem
    client: Pem
    expired: Pem
    stranger: Pem

    @property
    def settings(self) -> dict[str, Any]:
        certificate = {"dimse_tls_certificate": self.server.certificate, "dimse_tls_key": self.server.key}
        return {**certificate, "dimse_tls_ca": self.authority.pem.certificate}

    def options(self, pem: Pem) -> tuple[str | Path, ...]:
        """What makes a tool of DCMTK show `pem` and ask the server for a certificate."""
        return "+tls", pem.key, pem.certificate, "+cf", self.authority.pem.certificate


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    folder = tmp_path_factory.mktemp("certificates")
    authority, other = Authority(folder, "hospital"), Authority(folder, "other")
    issued = (authority.issue("server"), authority.issue("client"), authority.issue("expired", days=-1))
    return Hospital(authority, *issued, other.issue("stranger"))


class Ledger:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Signal]] = []

    async def signal(self, study: StudyRef, signal: Signal, expected_instances: int | None = None) -> None:
        self.told.append((study.study_instance_uid, signal))


@asynccontextmanager
async def listening(folder: Path, ledger: Ledger | None = None, **given: Any) -> AsyncIterator[tuple[int, Path]]:
    """The port of a listener by these settings, and the folder of its store."""
    settings = Settings(data_dir=folder, dimse_port=0, disk_reserve_mib=0, **given)
    store = StudyStore(folder / "studies", InlineWorkers())  # type: ignore[arg-type]
    await store.open()
    try:
        async with dimse_listener(settings, store, ledger or Ledger()) as listener:  # type: ignore[arg-type]
            assert listener is not None
            yield listener.port, folder / "studies"
    finally:
        await store.close()


async def run(tool: str, port: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    timeouts = ("-to", "20", "-ta", "20")
    return await asyncio.to_thread(dcmtk, tool, *timeouts, "-aec", "RADSERVE", *arguments, "127.0.0.1", str(port))


async def test_dcmtk_echoes_and_stores_over_mutual_tls(tmp_path: Path, hospital: Hospital) -> None:
    files = slice_files(tmp_path / "out", 3)
    async with listening(tmp_path, **hospital.settings) as (port, store):
        assert (await run("echoscu", port, *hospital.options(hospital.client))).returncode == 0
        for profile in ("+py", "+px", "+pz"):  # BCP 195: non-downgrading, plain, extended; dcmsend has no TLS
            options = (*hospital.options(hospital.client), profile, "-aec", "RADSERVE")
            sent = await asyncio.to_thread(dcmtk, "storescu", *options, "127.0.0.1", str(port), *files)
            assert sent.returncode == 0, sent.stderr
        assert len(list(store.glob("*/*/*.dcm"))) == 3


async def test_findscu_over_tls_is_told_that_there_is_no_query_here(tmp_path: Path, hospital: Hospital) -> None:
    async with listening(tmp_path, **hospital.settings) as (port, _):
        query = ("-S", "-k", "0008,0052=STUDY")
        answer = await run("findscu", port, *hospital.options(hospital.client), *query)
        assert answer.returncode
        assert "No Acceptable Presentation Contexts" in answer.stderr


@pytest.mark.parametrize("case", ["expired", "another authority", "no certificate", "no TLS"])
async def test_dcmtk_is_kept_out_without_a_valid_certificate(tmp_path: Path, hospital: Hospital, case: str) -> None:
    options = {
        "expired": hospital.options(hospital.expired),
        "another authority": hospital.options(hospital.stranger),
        "no certificate": ("+tla", "+cf", hospital.authority.pem.certificate),
        "no TLS": (),
    }[case]
    async with listening(tmp_path, **hospital.settings) as (port, _):
        assert (await run("echoscu", port, *options)).returncode != 0
        assert (await run("echoscu", port, *hospital.options(hospital.client))).returncode == 0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(("version", "spoken"), [("TLSv1", False), ("TLSv1_1", False), ("TLSv1_2", True)])
async def test_only_tls_1_2_and_later_are_spoken(
    tmp_path: Path, hospital: Hospital, version: str, spoken: bool
) -> None:
    context = ssl.create_default_context(cafile=str(hospital.authority.pem.certificate))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(hospital.client.certificate, hospital.client.key)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]

    def shake_hands(port: int) -> str | None:
        with (
            socket.create_connection(("127.0.0.1", port), 60) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
        ):
            return secured.version()

    async with listening(tmp_path, **hospital.settings) as (port, _):
        if spoken:
            assert await asyncio.to_thread(shake_hands, port) == "TLSv1.2"
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.to_thread(shake_hands, port)


async def test_without_authorities_clients_need_no_certificate(tmp_path: Path, hospital: Hospital) -> None:
    given = {**hospital.settings, "dimse_tls_ca": None}
    async with listening(tmp_path, **given) as (port, _):
        anonymous = ("+tla", "+cf", hospital.authority.pem.certificate)
        assert (await run("echoscu", port, *anonymous)).returncode == 0
        assert (await run("echoscu", port)).returncode != 0


async def test_an_ae_title_is_bound_to_its_certificate(tmp_path: Path, hospital: Hospital) -> None:
    other = hospital.authority.issue("other client")
    bound = {"CT1": ":".join(hospital.client.sha256.upper()[at : at + 2] for at in range(0, 64, 2))}
    async with listening(tmp_path, **hospital.settings, dimse_peer_certificates=bound) as (port, _):
        for title, pem, taken in (("CT1", hospital.client, True), ("CT1", other, False), ("CT2", other, True)):
            answer = await run("echoscu", port, *hospital.options(pem), "-aet", title)
            assert (answer.returncode == 0) is taken, (title, answer.stderr)


async def test_the_quota_of_an_ae_title_is_kept_and_others_are_not_touched(tmp_path: Path) -> None:
    files = slice_files(tmp_path / "out", 3)
    given = {"dimse_peers": ("CT1", "CT2"), "dimse_instances_per_minute": 1}
    async with listening(tmp_path, **given) as (port, store):
        for title, count in (("CT1", 1), ("CT2", 2)):
            arguments = ("-d", "-aet", title, "-aec", "RADSERVE", "127.0.0.1", str(port))
            sent = await asyncio.to_thread(dcmtk, "storescu", "-nh", *arguments, *files[count - 1 :])
            assert "0xa700" in sent.stderr.lower(), sent.stderr
            assert len(list(store.glob("*/*/*.dcm"))) == count


async def test_a_released_association_completes_its_studies_for_the_senders_that_are_named(tmp_path: Path) -> None:
    (first,) = slice_files(tmp_path / "first", 1, study="1")
    (second,) = slice_files(tmp_path / "second", 1, study="2")
    for senders, told in (((), 0), (("CT2",), 0), (("CT1",), 2), (("*",), 2)):
        ledger = Ledger()
        async with listening(tmp_path, ledger, complete_on_release=senders) as (port, _):
            arguments = ("-aet", "CT1", "-aec", "RADSERVE", "127.0.0.1", str(port))
            sent = await asyncio.to_thread(dcmtk, "storescu", *arguments, first, second)
            assert sent.returncode == 0, sent.stderr
        assert [signal for _, signal in ledger.told] == [Signal.COMPLETE] * told
        assert len({uid for uid, _ in ledger.told}) == told


async def test_an_aborted_association_says_that_its_study_was_interrupted(tmp_path: Path) -> None:
    (path,) = slice_files(tmp_path / "out", 1)
    ledger = Ledger()
    async with listening(tmp_path, ledger, complete_on_release=("*",)) as (port, _):
        arguments = ("--abort", "-aec", "RADSERVE", "127.0.0.1", str(port))
        await asyncio.to_thread(dcmtk, "storescu", *arguments, path)
    assert [signal for _, signal in ledger.told] == [Signal.INTERRUPTED]


async def test_a_study_over_two_associations_is_complete_when_the_last_is_released(tmp_path: Path) -> None:
    ledger = Ledger()
    events = AssociationSignals(ledger, ("CT1",)).events  # type: ignore[arg-type]
    header = parse_header(slice_files(tmp_path, 1)[0])
    for number in ("1", "2"):
        await events.on_stored(StoredInstance(header, duplicate=False), Origin("CT1", number))
    await events.on_ended("CT1", "2")
    assert ledger.told == []
    await events.on_released("CT1", "1")
    assert ledger.told == [(header.instance.study_instance_uid, Signal.COMPLETE)]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"dimse_tls_key": Path("key.pem")}, "dimse_tls_certificate"),
        ({"dimse_tls_certificate": Path("absent.pem")}, "TLS"),
        ({"dimse_peer_certificates": {"CT1": "00" * 32}}, "dimse_tls_ca"),
        ({"dimse_tls_certificate": Path("c"), "dimse_tls_ca": Path("c"), "dimse_peer_certificates": {"A": "x"}}, "A"),
    ],
)
async def test_settings_that_make_no_sense_are_refused_by_name(
    tmp_path: Path, given: dict[str, Any], named: str
) -> None:
    with pytest.raises(RadserveError, match=named) as caught:
        async with listening(tmp_path, **given):
            pass
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
