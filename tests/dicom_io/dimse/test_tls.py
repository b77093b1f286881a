"""DICOM TLS between our own two sides: who is let in, and what is not spoken."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from radserve.dicom_io.dimse.access import AccessPolicy, PeerPolicy
from radserve.dicom_io.dimse.pdu import WireLimits
from radserve.dicom_io.dimse.peer import DimseError, echo
from radserve.dicom_io.dimse.store_scu import StoreScu
from radserve.dicom_io.dimse.tls import TlsFiles, client_context, server_context
from radserve.errors import ErrorCode, RadserveError
from tests.dicom_io.dimse.certificates import Authority, Pem
from tests.dicom_io.dimse.support import ANYBODY, CT, EXPLICIT, pynet_associate, running_scp, slice_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder, "hospital")


@pytest.fixture(scope="module")
def server_pem(authority: Authority) -> Pem:
    return authority.issue("server")


@pytest.fixture(scope="module")
def client_pem(authority: Authority) -> Pem:
    return authority.issue("client")


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Authority:
    return Authority(folder, "stranger")


def listener(server: Pem, trusted: Authority | None) -> ssl.SSLContext:
    return server_context(TlsFiles(server.certificate, server.key, trusted.pem.certificate if trusted else None))


def client(trusted: Authority, pem: Pem | None = None) -> ssl.SSLContext:
    files = TlsFiles(pem.certificate if pem else None, pem.key if pem else None, trusted.pem.certificate)
    return client_context(files)


async def test_instances_go_over_mutual_tls(
    tmp_path: Path, authority: Authority, server_pem: Pem, client_pem: Pem
) -> None:
    files = slice_files(tmp_path / "out", 5)
    async with running_scp(tmp_path / "store", tls=listener(server_pem, authority)) as running:
        outcomes = await StoreScu(running.peer(tls=client(authority, client_pem))).send(files)
        assert all(outcome.is_stored for outcome in outcomes)
        assert len(running.instances()) == 5


async def test_without_a_wish_for_client_certificates_none_is_needed(
    tmp_path: Path, authority: Authority, server_pem: Pem
) -> None:
    async with running_scp(tmp_path, tls=listener(server_pem, None)) as running:
        await echo(running.peer(tls=client(authority)))


@pytest.mark.parametrize("case", ["no certificate", "another authority", "expired", "no tls"])
async def test_a_client_that_cannot_prove_itself_is_kept_out(
    tmp_path: Path, authority: Authority, stranger: Authority, server_pem: Pem, case: str
) -> None:
    contexts: dict[str, Any] = {
        "no certificate": lambda: client(authority),
        "another authority": lambda: client(authority, stranger.issue("impostor")),
        "expired": lambda: client(authority, authority.issue("old", days=-1)),
        "no tls": lambda: None,
    }
    async with running_scp(
        tmp_path, tls=listener(server_pem, authority), limits=WireLimits(negotiation_seconds=2)
    ) as running:
        with pytest.raises(DimseError) as caught:
            await echo(running.peer(tls=contexts[case](), response_seconds=5))
        assert caught.value.code is ErrorCode.SERVER_UNREACHABLE
        assert running.seen.released == running.seen.ended == []


async def test_an_expired_certificate_is_named_in_the_log_and_costs_no_other_association(
    tmp_path: Path, authority: Authority, server_pem: Pem, client_pem: Pem, caplog: pytest.LogCaptureFixture
) -> None:
    part10 = dcmread(slice_files(tmp_path / "out", 1)[0])
    async with running_scp(tmp_path / "store", tls=listener(server_pem, authority)) as running:
        peer = running.peer(tls=client(authority, authority.issue("outdated", days=-1)), response_seconds=60)
        tls = client(authority, client_pem), "127.0.0.1"
        association = await asyncio.to_thread(lambda: pynet_associate(running.port, [(CT, [EXPLICIT])], tls_args=tls))
        assert association.is_established
        with pytest.raises(DimseError) as caught:
            await echo(peer)
        assert caught.value.code is ErrorCode.SERVER_UNREACHABLE
        assert (await asyncio.to_thread(association.send_c_store, part10)).Status == 0
        await asyncio.to_thread(association.release)
        assert len(running.instances()) == 1
    assert "a TLS handshake failed: the client's certificate: certificate has expired" in caplog.text


@pytest.mark.parametrize("case", ["another authority", "expired", "another name"])
async def test_a_server_that_cannot_prove_itself_gets_nothing(
    tmp_path: Path, authority: Authority, stranger: Authority, server_pem: Pem, case: str
) -> None:
    server = authority.issue("server-old", days=-1) if case == "expired" else server_pem
    trusted = stranger if case == "another authority" else authority
    async with running_scp(tmp_path, tls=listener(server, None)) as running:
        peer = running.peer(tls=client(trusted))
        if case == "another name":
            peer = type(peer)("localhost", peer.port, "RADSERVE", tls=peer.tls)
        with pytest.raises(DimseError, match=r"TLS handshake failed|cannot be reached"):
            await echo(peer)
        if case == "another name":
            files = TlsFiles(trusted=authority.pem.certificate, check_host_name=False)
            await echo(type(peer)("localhost", peer.port, "RADSERVE", tls=client_context(files)))


async def test_a_certificate_is_bound_to_its_ae_title(
    tmp_path: Path, authority: Authority, server_pem: Pem, client_pem: Pem
) -> None:
    policy = PeerPolicy(certificates=frozenset({client_pem.sha256}))
    access = AccessPolicy("RADSERVE", {"CT1": policy, "CT2": PeerPolicy(certificates=frozenset({"00"}))})
    async with running_scp(tmp_path, access, tls=listener(server_pem, authority)) as running:
        await echo(running.peer(calling_ae="CT1", tls=client(authority, client_pem)))
        with pytest.raises(DimseError, match="calling AE title is not recognized"):
            await echo(running.peer(calling_ae="CT2", tls=client(authority, client_pem)))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_versions_before_1_2_are_not_spoken(tmp_path: Path, authority: Authority, server_pem: Pem) -> None:
    def old(context: ssl.SSLContext) -> ssl.SSLContext:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        return context

    async with running_scp(tmp_path / "old", tls=old(listener(server_pem, None))) as running:
        await echo(running.peer(tls=old(client(authority))))  # it would work, were it taken
    async with running_scp(tmp_path / "ours", tls=listener(server_pem, None)) as running:
        with pytest.raises(DimseError):
            await echo(running.peer(tls=old(client(authority))))


async def test_handshakes_that_never_end_keep_nobody_out(tmp_path: Path, authority: Authority, server_pem: Pem) -> None:
    async with running_scp(tmp_path, ANYBODY, tls=listener(server_pem, None)) as running:
        silent = [await asyncio.to_thread(socket.create_connection, ("127.0.0.1", running.port)) for _ in range(20)]
        async with asyncio.timeout(60):
            await echo(running.peer(tls=client(authority)))
        for each in silent:
            each.close()


def test_a_listener_without_a_usable_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    for files in (TlsFiles(), TlsFiles(tmp_path / "text.pem"), TlsFiles(tmp_path / "gone.pem")):
        with pytest.raises(RadserveError, match="TLS") as caught:
            server_context(files)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
