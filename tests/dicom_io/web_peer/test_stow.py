"""STOW-RS to a service that tests break: stored is what the service names as stored, nothing else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from fastapi import Response

from radserve.dicom_io.store_outcome import StoreState
from radserve.dicom_io.web_peer import peer as web
from radserve.dicom_io.web_peer.peer import WebPeer
from radserve.dicom_io.web_peer.stow import store
from radserve.errors import RadserveError
from tests.dicom_io.dimse.support import slice_bytes
from tests.support.dicomweb import JSON, WebArchive, header, served

ONE, TWO = slice_bytes(1), slice_bytes(2)
UIDS = [str(header(each).SOPInstanceUID) for each in (ONE, TWO)]


@pytest.fixture
def archive() -> WebArchive:
    return WebArchive()


@pytest.fixture
def peer(archive: WebArchive) -> Iterator[WebPeer]:
    with served(archive.app()) as url:
        yield WebPeer(f"{url}/dicom-web", authorization="Bearer sesame", response_seconds=20)


async def test_what_is_sent_arrives_byte_for_byte_with_the_authorization(archive: WebArchive, peer: WebPeer) -> None:
    outcomes = await store(peer, [ONE, TWO])
    assert [each.state for each in outcomes] == [StoreState.STORED] * 2
    assert [each.sop_instance_uid for each in outcomes] == UIDS
    assert archive.held == dict(zip(UIDS, (ONE, TWO), strict=True))
    ((method, path, headers),) = archive.requests
    assert (method, path, headers["authorization"]) == ("POST", "/dicom-web/studies", "Bearer sesame")
    assert int(headers["content-length"]) > len(ONE) + len(TWO)
    assert "sesame" not in repr(peer)


@pytest.mark.parametrize(
    ("reason", "state", "is_transient"),
    [
        (0xA700, StoreState.REFUSED, True),
        (0x0110, StoreState.REFUSED, True),
        (0xA900, StoreState.REFUSED, False),
        (0xC122, StoreState.REFUSED, False),
        (0x0122, StoreState.REFUSED, False),
        (0x0111, StoreState.WARNING, False),  # it is there already
    ],
)
async def test_a_partial_failure_is_the_outcome_of_its_instance_alone(
    archive: WebArchive, peer: WebPeer, reason: int, state: StoreState, is_transient: bool
) -> None:
    archive.refuse = lambda uid: reason if uid == UIDS[1] else None
    good, bad = await store(peer, [ONE, TWO])
    assert good.is_stored
    assert (bad.state, bad.status, bad.is_transient) == (state, reason, is_transient)


@pytest.mark.parametrize(
    ("status", "is_transient"),
    [(503, True), (500, True), (429, True), (507, True), (400, False), (401, False), (403, False), (415, False)],
)
async def test_a_status_without_outcomes_is_that_of_every_instance(
    archive: WebArchive, peer: WebPeer, status: int, is_transient: bool
) -> None:
    archive.answer = lambda request: Response("patient Doe^Jane", status)
    outcomes = await store(peer, [ONE, TWO])
    assert [(each.is_stored, each.is_transient) for each in outcomes] == [(False, is_transient)] * 2
    assert str(status) in outcomes[0].message and "Doe" not in outcomes[0].message


async def test_a_good_status_that_names_no_instance_is_not_taken_for_success(
    archive: WebArchive, peer: WebPeer
) -> None:
    archive.answer = lambda request: Response("[]", 200, media_type=JSON)
    (outcome,) = await store(peer, [ONE])
    assert (outcome.state, outcome.is_transient) == (StoreState.UNCONFIRMED, True)


@pytest.mark.parametrize("content", ["<html>", "[" * 100_000, '["x"]', "5"])
async def test_an_answer_that_is_no_dicom_json_is_not_taken_for_success(
    archive: WebArchive, peer: WebPeer, content: str
) -> None:
    archive.answer = lambda request: Response(content, 200, media_type=JSON)
    (outcome,) = await store(peer, [ONE])
    assert outcome.state is StoreState.UNCONFIRMED


async def test_a_redirect_is_refused_so_that_neither_objects_nor_secrets_go_elsewhere(
    archive: WebArchive, peer: WebPeer
) -> None:
    archive.answer = lambda request: Response(status_code=307, headers={"Location": "http://127.0.0.1:9/elsewhere"})
    (outcome,) = await store(peer, [ONE])
    assert (outcome.is_stored, outcome.is_transient) == (False, False)
    assert "redirects" in outcome.message and "elsewhere" not in outcome.message


async def test_an_endless_answer_is_cut_off(
    archive: WebArchive, peer: WebPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MAX_ANSWER_BYTES", 1000)
    archive.answer = lambda request: Response(b" " * 2000, 200)
    (outcome,) = await store(peer, [ONE])
    assert (outcome.is_stored, outcome.is_transient) == (False, False)
    assert "more than 1000 bytes" in outcome.message


async def test_a_service_that_is_not_there_or_hangs_is_tried_again_later() -> None:
    hanging = await asyncio.start_server(lambda reader, writer: reader.read(), "127.0.0.1", 0)
    port = hanging.sockets[0].getsockname()[1]
    (outcome,) = await store(WebPeer(f"http://127.0.0.1:{port}", response_seconds=0.3), [ONE])
    assert (outcome.state, outcome.is_transient) == (StoreState.UNCONFIRMED, True)
    hanging.close()
    (outcome,) = await store(WebPeer(f"http://127.0.0.1:{port}", response_seconds=5), [ONE])
    assert outcome.is_transient and "cannot be reached" in outcome.message


async def test_tls_takes_a_known_authority_and_no_other(archive: WebArchive, tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    certificate = tmp_path / "server.pem"
    certificate.write_bytes(authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes())
    trusting, distrusting = ssl.create_default_context(), ssl.create_default_context()
    authority.configure_trust(trusting)
    other.configure_trust(distrusting)
    with served(archive.app(), ssl_certfile=str(certificate)) as url:
        (good,) = await store(WebPeer(f"{url}/dicom-web", "Bearer x", trusting), [ONE])
        (bad,) = await store(WebPeer(f"{url}/dicom-web", "Bearer x", distrusting), [ONE])
    assert good.is_stored
    assert not bad.is_stored and "CERTIFICATE_VERIFY_FAILED" in bad.message


@pytest.mark.parametrize(
    ("url", "authorization"),
    [
        ("ftp://archive/x", ""),
        ("http:///dicom-web", ""),
        ("https://user:secret@archive/x", ""),
        ("https://archive/x?token=1", ""),
        ("http://archive.example/x", "Bearer sesame"),  # a secret in the clear
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(url: str, authorization: str) -> None:
    with pytest.raises(RadserveError, match="DICOMweb URL") as caught:
        WebPeer(url, authorization)
    assert "secret" not in str(caught.value) and "sesame" not in str(caught.value)
