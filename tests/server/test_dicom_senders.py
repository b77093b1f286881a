"""Delivery to archives that refuse, abort, hang, fill up, commit or do not: what is said to be delivered is there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
)

from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.dicom_io.dimse.tls import TlsFiles, server_context
from radserve.errors import ErrorCode, PeerError, RadserveError
from radserve.results import Artifact
from radserve.server.destinations import site_senders
from radserve.server.dicom_senders import Commitment, DicomSender
from radserve.server.peers import SitePeers
from radserve.server.senders import Destinations
from radserve.server.settings import Settings
from tests.dicom_io.dimse.certificates import Authority
from tests.dicom_io.dimse.support import running_scp, slice_bytes
from tests.support.dicomweb import WebArchive, header, served
from tests.support.sending import send, send_all

DATA = slice_bytes(1)
UID = str(header(DATA).SOPInstanceUID)
ARTIFACT = Artifact("sr.dcm", "application/dicom", DATA)
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
WAIT_S = 60.0


class Pacs:
    """pynetdicom as an archive. `on_store` gives the status of the n-th C-STORE, from 1.

    `commit` gives, for the n-th request, the instances' failure reason, None to commit, or "silence".
    """

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.requests = 0
        self.on_store: Callable[[Any, int], int] = lambda event, number: 0
        self.commit: Callable[[int], int | str | None] = lambda number: None
        self.reports_early = False
        self._count = 0

    @contextmanager
    def running(self, *, commits: bool = True, also: Sequence[Any] = ()) -> Iterator[str]:
        ae = AE(ae_title="PACS")
        ae.add_supported_context(CTImageStorage)
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        if commits:
            ae.add_supported_context(StorageCommitmentPushModel)
        usual = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._action), (evt.EVT_C_FIND, self._find)]
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[*usual, *also])
        assert server is not None
        try:
            yield f"dicom://PACS@127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()

    def _store(self, event: Any) -> int:
        self._count += 1
        status = self.on_store(event, self._count)
        if status == 0:
            self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return status

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for uid in dict.fromkeys(self.stored):
            found = Dataset()
            found.SOPInstanceUID, found.SOPClassUID = uid, CTImageStorage
            yield 0xFF00, found

    def _action(self, event: Any) -> tuple[int, None]:
        self.requests += 1
        reason = self.commit(self.requests)
        request = event.action_information
        if self.reports_early:
            self._report(event.assoc, request, reason)
        elif reason != "silence":
            threading.Timer(0.05, self._report, (event.assoc, request, reason)).start()
        return 0, None

    def _report(self, association: Any, request: Dataset, reason: Any) -> None:
        data = Dataset()
        data.TransactionUID = request.TransactionUID
        items = list(request.ReferencedSOPSequence)
        if reason is None:
            data.ReferencedSOPSequence = items
        else:
            for item in items:
                item.FailureReason = reason
            data.FailedSOPSequence = items
        self.send_report(association, data, 1 if reason is None else 2)

    def send_report(self, association: Any, data: Dataset, event_type: int) -> None:
        association.send_n_event_report(data, event_type, StorageCommitmentPushModel, COMMITMENT_INSTANCE)


class ReportingElsewhere(Pacs):
    """Reports on an association of its own, as most archives do."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._listener = port

    def send_report(self, association: Any, data: Dataset, event_type: int) -> None:
        ae = AE(ae_title="PACS")
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        own = ae.associate("127.0.0.1", self._listener, ae_title="RADSERVE", ext_neg=[role])
        super().send_report(own, data, event_type)
        own.release()


def sender(commitment: Commitment = Commitment.OFF, inbox: CommitmentInbox | None = None, **given: Any) -> DicomSender:
    return DicomSender(SitePeers(Settings(**given)), inbox or CommitmentInbox(), commitment, WAIT_S)


async def failures(sender: DicomSender, url: str, attempts: int) -> list[bool | None]:
    """For each attempt whether its failure is transient, None for a success."""
    found: list[bool | None] = []
    for _ in range(attempts):
        try:
            await send(sender, url, ARTIFACT)
            found.append(None)
        except PeerError as error:
            found.append(error.is_transient)
    return found


async def test_what_is_no_dicom_object_is_not_sent_to_an_archive() -> None:
    await send(sender(), "dicom://PACS@127.0.0.1:1", Artifact("report.txt", "text/plain", b"text"))


async def test_a_pacs_that_is_full_aborts_or_refuses_has_the_object_once_it_can() -> None:
    pacs = Pacs()

    def on_store(event: Any, number: int) -> int:
        if number == 2:
            event.assoc.abort()
        return {1: 0xA700, 2: 0xA700, 3: 0x0110}.get(number, 0)

    pacs.on_store = on_store
    with pacs.running() as url:
        assert await failures(sender(), url, 4) == [True, True, True, None]
    assert pacs.stored == [UID]


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122])
async def test_what_a_pacs_will_never_take_is_not_tried_again(status: int) -> None:
    pacs = Pacs()
    pacs.on_store = lambda event, number: status
    with pacs.running() as url:
        assert await failures(sender(), url, 1) == [False]


async def test_a_pacs_that_dies_within_the_data_set_is_a_transient_failure() -> None:
    pacs = Pacs()
    died = threading.Event()

    def die(event: Any) -> None:
        if isinstance(event.pdu, P_DATA_TF):
            died.set()
            event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)

    large = Artifact("sr.dcm", "application/dicom", slice_bytes(1, EncapsulatedDocument=bytes(400_000)))
    with pacs.running(also=[(evt.EVT_PDU_RECV, die)]) as url, pytest.raises(PeerError) as caught:
        await send(sender(), url, large)
    assert died.is_set() and caught.value.is_transient and not pacs.stored
    assert await failures(sender(), url, 1) == [True]  # and one that is not there


async def test_with_commitment_delivered_is_what_was_committed() -> None:
    pacs = Pacs()
    with pacs.running() as url:
        assert await failures(sender(Commitment.REQUIRED), url, 1) == [None]
    assert (pacs.stored, pacs.requests) == ([UID], 1)


async def test_a_commitment_that_fails_for_a_while_is_asked_for_again_and_the_object_is_not_sent_twice() -> None:
    pacs = Pacs()
    pacs.commit = lambda number: 0x0110 if number < 3 else None
    with pacs.running() as url:
        assert await failures(sender(Commitment.REQUIRED), url, 3) == [True, True, None]
    assert (pacs.stored, pacs.requests) == ([UID], 3)


async def test_a_report_may_come_before_the_answer_to_its_request() -> None:
    pacs = Pacs()
    pacs.reports_early = True
    with pacs.running() as url:
        assert await failures(sender(Commitment.REQUIRED), url, 1) == [None]
    assert pacs.requests == 1


async def test_an_object_that_a_pacs_has_lost_is_sent_again() -> None:
    pacs = Pacs()
    pacs.commit = lambda number: 0x0112 if number == 1 else None
    with pacs.running() as url:
        assert await failures(sender(Commitment.REQUIRED), url, 2) == [True, None]
    assert pacs.stored == [UID, UID]


async def test_a_report_that_does_not_come_is_no_delivery() -> None:
    pacs = Pacs()
    pacs.commit = lambda number: "silence"
    impatient = DicomSender(SitePeers(Settings()), CommitmentInbox(), Commitment.OFFERED, commitment_s=0.3)
    with pacs.running() as url, pytest.raises(PeerError, match="has not reported") as caught:
        await send(impatient, url, ARTIFACT)
    assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED and caught.value.is_transient


async def test_a_commitment_that_is_refused_for_good_is_final() -> None:
    pacs = Pacs()
    pacs.commit = lambda number: 0x0122
    with pacs.running() as url:
        assert await failures(sender(Commitment.REQUIRED), url, 1) == [False]


@pytest.mark.parametrize(("commitment", "expected"), [(Commitment.OFFERED, None), (Commitment.REQUIRED, False)])
async def test_a_pacs_without_commitment_is_enough_where_it_is_not_required(
    commitment: Commitment, expected: bool | None
) -> None:
    pacs = Pacs()
    with pacs.running(commits=False) as url:
        assert await failures(sender(commitment), url, 1) == [expected]
    assert pacs.stored == [UID]


async def test_a_report_comes_by_the_listener(tmp_path: Path) -> None:
    inbox = CommitmentInbox()
    async with running_scp(tmp_path, commitments=inbox) as running:
        pacs = ReportingElsewhere(running.port)
        with pacs.running() as url:
            assert await failures(sender(Commitment.REQUIRED, inbox), url, 1) == [None]


@pytest.mark.parametrize("commitment", Commitment)
async def test_an_archive_says_whether_it_has_an_object(commitment: Commitment) -> None:
    pacs = Pacs()
    pacs.commit = lambda number: None if UID in pacs.stored else 0x0112
    with pacs.running() as url:
        assert not await sender(commitment).has(url, ARTIFACT)
        await send(sender(commitment), url, ARTIFACT)
        assert await sender(commitment).has(url, ARTIFACT)


async def test_dicoms_is_mutual_tls_with_the_certificates_of_the_settings(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "site"), Authority(tmp_path, "stranger")
    theirs, ours = authority.issue("pacs"), authority.issue("radserve")
    tls = server_context(TlsFiles(theirs.certificate, theirs.key, authority.pem.certificate))
    given = {"dimse_tls_certificate": ours.certificate, "dimse_tls_key": ours.key}
    async with running_scp(tmp_path / "pacs", tls=tls) as running:
        at = f"RADSERVE@127.0.0.1:{running.port}"
        await send(sender(dimse_tls_ca=authority.pem.certificate, **given), f"dicoms://{at}", ARTIFACT)
        assert len(running.instances()) == 1
        with pytest.raises(RadserveError, match="TLS"):
            await send(sender(dimse_tls_ca=stranger.pem.certificate, **given), f"dicoms://{at}", ARTIFACT)
        with pytest.raises(RadserveError):
            await send(sender(), f"dicom://{at}", ARTIFACT)
        assert len(running.instances()) == 1


def artifacts(count: int) -> list[Artifact]:
    return [Artifact(f"{number}.dcm", "application/dicom", slice_bytes(number)) for number in range(1, count + 1)]


def uids_of(given: Sequence[Artifact]) -> list[str]:
    return [str(header(each.data).SOPInstanceUID) for each in given]


async def test_several_objects_go_over_one_association_in_their_order() -> None:
    pacs, opened = Pacs(), []
    pacs.on_store = lambda event, number: 0xA900 if number == 2 else 0
    given = [*artifacts(4), Artifact("report.txt", "text/plain", b"text"), Artifact("x.dcm", "application/dicom", b"x")]
    with pacs.running(also=[(evt.EVT_ACCEPTED, opened.append)]) as url:
        sent = await send_all(sender(), url, given, without=3)
    assert len(opened) == 1 and pacs.stored == [uids_of(given[:4])[each] for each in (0, 2)]
    errors = {index: None if error is None else error.is_transient for index, error in sent.errors.items()}  # type: ignore[attr-defined]
    assert errors == {0: None, 1: False, 2: None, 4: None, 5: False}
    assert sent.begun == [4, 5, 0, 1, 2]


async def test_what_did_not_get_its_turn_is_told_apart_from_what_failed() -> None:
    pacs = Pacs()
    pacs.on_store = lambda event, number: event.assoc.abort() or 0xA700 if number == 2 else 0
    with pacs.running() as url:
        sent = await send_all(sender(), url, artifacts(4))
    assert sent.begun == [0, 1] and pacs.stored == uids_of(artifacts(1))
    assert [index for index, error in sent.errors.items() if error] == [1, 2, 3]


async def test_one_request_commits_all_that_were_stored() -> None:
    pacs = Pacs()
    given = artifacts(3)
    with pacs.running() as url:
        sent = await send_all(sender(Commitment.REQUIRED), url, given)
    assert (pacs.stored, pacs.requests) == (uids_of(given), 1)
    assert sent.errors == dict.fromkeys(range(3))


# STOW-RS as a destination


def destinations(url: str, **given: Any) -> Destinations:
    settings = Settings(**given)
    return Destinations({"web": url}, site_senders(settings, CommitmentInbox()))


async def test_a_dicomweb_destination_is_told_apart_by_its_scheme_and_gets_its_own_secret() -> None:
    archive = WebArchive()
    with served(archive.app()) as url:
        host = url.removeprefix("http://")
        secrets = {host: "Bearer sesame", "elsewhere.example": "Bearer other"}
        web = destinations(f"dicomweb+{url}/dicom-web", web_authorization=secrets)
        assert not await web.has("web", ARTIFACT)
        await send(web, "web", ARTIFACT)
        assert await web.has("web", ARTIFACT)
    assert archive.stored == [UID]
    assert {headers["authorization"] for _, _, headers in archive.requests} == {"Bearer sesame"}


async def test_an_answer_that_tells_nothing_of_the_object_is_settled_by_a_query() -> None:
    archive = WebArchive()
    archive.add(DATA)

    def silent(request: Any) -> Any:
        from fastapi import Response

        return Response("[]", 200) if request.method == "POST" else None

    archive.answer = silent
    with served(archive.app()) as url:
        await send(destinations(f"dicomweb+{url}/dicom-web"), "web", ARTIFACT)
        archive.held.clear()
        with pytest.raises(PeerError, match="does not say"):
            await send(destinations(f"dicomweb+{url}/dicom-web"), "web", ARTIFACT)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("dicomweb+https://Archive.example/dicom-web", "Bearer one"),
        ("dicomweb+https://archive.example:8443/dicom-web", "Bearer two"),
        ("https://[2001:db8::1]:8443/dicom-web", "Bearer six"),
        ("dicomweb+https://archive.example.evil/dicom-web", ""),
        ("dicomweb+https://other.example/archive.example", ""),
    ],
)
def test_a_secret_goes_to_the_host_that_it_is_for(url: str, expected: str) -> None:
    secrets = {"ARCHIVE.example": "Bearer one", "archive.example:8443": "Bearer two", "[2001:db8::1]": "Bearer six"}
    peer = SitePeers(Settings(web_authorization=secrets)).web(url)  # type: ignore[arg-type]
    assert peer.authorization == expected
    assert "Bearer" not in repr(peer) and "Bearer" not in repr(Settings(web_authorization=secrets))  # type: ignore[arg-type]


def bad_urls() -> Sequence[str]:
    return (
        *("dicom://127.0.0.1:104", "dicom://PACS@127.0.0.1", "dicom://PACS@127.0.0.1:port", "file://relative"),
        *("dicomweb+https://user:secret@host/x", "dicomweb+https:///x", "ftp://secret@host/x", "https://host/x"),
    )


@pytest.mark.parametrize("url", bad_urls())
def test_a_destination_that_cannot_be_used_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(RadserveError) as caught:
        destinations(url)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "secret" not in str(caught.value)


async def test_several_objects_go_to_a_web_service_in_one_request() -> None:
    archive = WebArchive()
    given = [*artifacts(3), Artifact("report.txt", "text/plain", b"text")]
    archive.refuse = lambda uid: 0xA900 if uid == uids_of(given[:3])[1] else None
    with served(archive.app()) as url:
        sent = await send_all(destinations(f"dicomweb+{url}/dicom-web"), "web", given)
    assert [method for method, _, _ in archive.requests] == ["POST"]
    assert archive.stored == [uids_of(given[:3])[0], uids_of(given[:3])[2]]
    assert {index for index, error in sent.errors.items() if error} == {1} and len(sent.errors) == 4


async def test_a_request_that_fails_as_a_whole_is_taken_apart() -> None:
    archive = WebArchive()
    poison = uids_of(artifacts(3))[1]

    async def broken(request: Any, call_next: Any) -> Any:
        from fastapi import Response

        if request.method == "POST" and poison.encode() in await request.body():
            return Response(status_code=500)
        return await call_next(request)

    app = archive.app()
    app.middleware("http")(broken)
    with served(app) as url:
        sent = await send_all(destinations(f"dicomweb+{url}/dicom-web"), "web", artifacts(3))
    assert [index for index, error in sent.errors.items() if error] == [1] and len(sent.errors) == 3
    assert archive.stored == [each for each in uids_of(artifacts(3)) if each != poison]


async def test_a_web_service_that_is_away_is_not_tried_for_each_object() -> None:
    archive = WebArchive()
    with served(archive.app()) as url:
        pass
    objects = artifacts(6)
    sent = await send_all(destinations(f"dicomweb+{url}/dicom-web"), "web", objects)
    assert all(isinstance(error, PeerError) and error.is_transient for error in sent.errors.values())
    assert len(sent.errors) == 6
    assert all(f"did not take {objects[index].name}:" in str(error) for index, error in sent.errors.items())
