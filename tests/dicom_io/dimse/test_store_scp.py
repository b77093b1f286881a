"""StoreScp against pynetdicom and raw sockets: what is acknowledged is stored, all else leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless
from pynetdicom import build_role
from pynetdicom.sop_class import MRImageStorage, StorageCommitmentPushModel  # type: ignore[attr-defined]

from radserve.dicom_io.dimse import negotiation, statuses
from radserve.dicom_io.dimse.access import AccessPolicy, PeerPolicy
from radserve.dicom_io.dimse.command import Operation, decode_command
from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.dicom_io.dimse.events import Origin, ReceiveEvents
from radserve.dicom_io.dimse.pdu import WireLimits
from radserve.dicom_io.dimse.peer import DimseError, echo
from radserve.dicom_io.dimse.store_scp import ScpOptions, StoreScp
from radserve.dicom_io.file_meta import file_head, read_file_meta
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StoredInstance, StoreLimits
from radserve.errors import DicomError, ErrorCode, RequestError
from tests.dicom_io.dimse.support import (
    ANYBODY,
    CT,
    EXPLICIT,
    IMPLICIT,
    UID,
    VERIFICATION,
    RawPeer,
    Running,
    gone,
    pynet_associate,
    request,
    running_scp,
    slice_bytes,
)


def data_set(part10: bytes) -> bytes:
    return part10[read_file_meta(part10).offset :]


def raw_store(peer: RawPeer, data: bytes, *, uid: str = UID, sop_class: str = CT, parts: int = 3) -> int:
    """Send a data set in so many values; return the status of the answer."""
    peer.send_value(1, 3, request(uid, sop_class))
    step = len(data) // parts + 1
    for at in range(0, len(data), step):
        peer.send_value(1, 2 if at + step >= len(data) else 0, data[at : at + step])
    return answered(peer)


def answered(peer: RawPeer) -> int:
    kind, body = peer.read()
    assert kind == 4
    return decode_command(body[6:]).status


async def raw(running: Running, *contexts: tuple[str, str]) -> RawPeer:
    peer = await asyncio.to_thread(RawPeer, running.port)
    await asyncio.to_thread(peer.associate, *(contexts or ((CT, EXPLICIT),)))
    return peer


async def stored_raw(running: Running, data: bytes, **options: Any) -> int:
    peer = await raw(running)
    try:
        return await asyncio.to_thread(lambda: raw_store(peer, data, **options))
    finally:
        peer.close()


# Taking


@pytest.mark.parametrize("syntax", [EXPLICIT, ImplicitVRLittleEndian, JPEGLSLossless])
async def test_what_pynetdicom_sends_lies_on_disk_byte_for_byte(tmp_path: Path, syntax: str) -> None:
    part10 = slice_bytes(1, syntax)

    def send(port: int) -> list[int]:
        association = pynet_associate(port, [(VERIFICATION, [IMPLICIT]), (CT, [syntax])])
        assert association.is_established
        found = [association.send_c_echo().Status, association.send_c_store(dcmread(io.BytesIO(part10))).Status]
        association.release()
        return found

    async with running_scp(tmp_path) as running:
        assert await asyncio.to_thread(send, running.port) == [0, 0]
        await gone(running)
        (path,) = running.instances()
        assert path.read_bytes() == file_head(CT, UID, syntax) + data_set(part10)
        assert dcmread(path) == dcmread(io.BytesIO(part10))
        ((stored, origin),) = running.seen.stored
        assert (stored.header.instance.sop_instance_uid, stored.duplicate) == (UID, False)
        assert origin.calling_ae == "MODALITY"
        assert running.seen.released == [("MODALITY", origin.association_id)]
        assert running.seen.ended == []


@pytest.mark.parametrize("parts", [1, 2, 700])
async def test_however_the_sender_cuts_the_data_set_the_bytes_are_the_same(tmp_path: Path, parts: int) -> None:
    data = data_set(slice_bytes(1))
    async with running_scp(tmp_path) as running:
        assert await stored_raw(running, data, parts=parts) == statuses.SUCCESS
        (path,) = running.instances()
        assert path.read_bytes() == file_head(CT, UID, EXPLICIT) + data


async def test_the_same_bytes_again_are_a_success_and_one_file(tmp_path: Path) -> None:
    data = data_set(slice_bytes(1))
    async with running_scp(tmp_path) as running:
        assert [await stored_raw(running, data) for _ in range(2)] == [0, 0]
        assert len(running.instances()) == 1
        assert [stored.duplicate for stored, _ in running.seen.stored] == [False, True]


async def test_other_bytes_under_the_same_uid_are_refused_told_and_the_first_stay(tmp_path: Path) -> None:
    first, other = data_set(slice_bytes(1)), data_set(slice_bytes(1, PatientID="P-0002"))
    async with running_scp(tmp_path) as running:
        assert await stored_raw(running, first) == statuses.SUCCESS
        assert await stored_raw(running, other) == statuses.UID_CONFLICT
        (path,) = running.instances()
        assert path.read_bytes().endswith(first)
        ((refusal, origin),) = running.seen.refused
        assert (refusal.sop_instance_uid, refusal.error.code) == (UID, ErrorCode.UID_CONFLICT)
        assert origin.calling_ae == "RAW"


async def test_the_owners_failure_is_told_to_the_sender_and_the_next_try_is_a_duplicate(tmp_path: Path) -> None:
    seen: list[bool] = []

    async def on_stored(stored: StoredInstance, origin: Origin) -> None:
        seen.append(stored.duplicate)
        if len(seen) == 1:
            raise RuntimeError("the queue is down")

    async with running_scp(tmp_path, events=ReceiveEvents(on_stored=on_stored)) as running:
        data = data_set(slice_bytes(1))
        assert await stored_raw(running, data) == statuses.PROCESSING_FAILURE
        assert await stored_raw(running, data) == statuses.SUCCESS
        assert seen == [False, True]


# Refusing


@pytest.mark.parametrize(
    ("data", "options", "status"),
    [
        (data_set(slice_bytes(1)), {"uid": "1.2.3"}, statuses.DOES_NOT_MATCH_SOP_CLASS),
        (data_set(slice_bytes(1)), {"uid": "1.2.3", "parts": 999}, statuses.DOES_NOT_MATCH_SOP_CLASS),
        (data_set(slice_bytes(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")), {}, statuses.DOES_NOT_MATCH_SOP_CLASS),
        (data_set(slice_bytes(1)), {"uid": "../../etc/passwd"}, statuses.INVALID_INSTANCE_UID),
        (data_set(slice_bytes(1)), {"uid": "1." * 32 + "1"}, statuses.INVALID_INSTANCE_UID),
        (data_set(slice_bytes(1)), {"uid": ""}, statuses.INVALID_INSTANCE_UID),
        (data_set(slice_bytes(1)), {"sop_class": VERIFICATION}, statuses.SOP_CLASS_NOT_SUPPORTED),
        (data_set(slice_bytes(1))[:600], {}, statuses.CANNOT_UNDERSTAND),
        (data_set(slice_bytes(1))[:-100], {}, statuses.CANNOT_UNDERSTAND),  # cut off inside the pixels
        (data_set(slice_bytes(1))[:-1], {}, statuses.CANNOT_UNDERSTAND),
        (b"no dicom at all " * 64, {}, statuses.CANNOT_UNDERSTAND),
        (data_set(slice_bytes(1, StudyInstanceUID=None)), {}, statuses.CANNOT_UNDERSTAND),
        (data_set(slice_bytes(1, PixelData=None)), {}, statuses.NO_PIXELS),
    ],
)
async def test_what_cannot_be_stored_is_answered_with_its_status_and_leaves_nothing(
    tmp_path: Path, data: bytes, options: dict[str, Any], status: int
) -> None:
    async with running_scp(tmp_path) as running:
        peer = await raw(running)
        assert await asyncio.to_thread(lambda: raw_store(peer, data, **options)) == status
        assert running.files() == []
        assert [refusal.status for refusal, _ in running.seen.refused] == [status]
        # The association goes on.
        assert await asyncio.to_thread(raw_store, peer, data_set(slice_bytes(1))) == statuses.SUCCESS
        peer.close()


@pytest.mark.parametrize("syntax", [EXPLICIT, ImplicitVRLittleEndian, JPEGLSLossless])
async def test_a_data_set_that_pynetdicom_sends_without_its_end_is_refused_as_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    monkeypatch.setattr("pynetdicom._config.STORE_SEND_CHUNKED_DATASET", True)  # the file as it is
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(slice_bytes(1, syntax)[:-20])
    async with running_scp(tmp_path / "store") as running:
        association = await asyncio.to_thread(pynet_associate, running.port, [(CT, [syntax])])
        answer = await asyncio.to_thread(association.send_c_store, cut)
        await asyncio.to_thread(association.release)
        await gone(running)
        assert answer.Status == statuses.CANNOT_UNDERSTAND
        assert [refusal.error.code for refusal, _ in running.seen.refused] == [ErrorCode.TRUNCATED]
        assert running.files() == []


async def test_an_instance_above_the_limit_is_refused_while_it_comes(tmp_path: Path) -> None:
    async with running_scp(tmp_path, store_limits=StoreLimits(max_instance_bytes=1000)) as running:
        assert await stored_raw(running, data_set(slice_bytes(1))) == statuses.TOO_LARGE
        assert running.files() == []


async def test_below_the_reserve_of_the_disk_is_out_of_resources_until_there_is_room(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    data = data_set(slice_bytes(1))
    async with running_scp(tmp_path, reserve=DiskReserve(tmp_path, 2 * free)) as running:
        assert await stored_raw(running, data) == statuses.OUT_OF_RESOURCES
        assert running.files() == []
    async with running_scp(tmp_path, reserve=DiskReserve(tmp_path, free // 2)) as running:
        assert await stored_raw(running, data) == statuses.SUCCESS


async def test_an_operation_that_is_not_offered_is_answered_as_such(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        peer = await raw(running)
        await asyncio.to_thread(peer.send_value, 1, 3, request(operation=Operation.C_FIND))
        await asyncio.to_thread(peer.send_value, 1, 2, b"12")
        assert await asyncio.to_thread(answered, peer) == statuses.UNRECOGNIZED_OPERATION
        peer.close()


async def test_what_is_not_known_is_refused_context_by_context_and_the_rest_is_served(tmp_path: Path) -> None:
    """As pynetdicom sees it: the reasons of PS3.8 table 9-18, and no role of an SCP for who sends."""
    unknown, mr = "1.2.826.0.1.3680043.8.498.1", str(MRImageStorage)
    contexts = [(unknown, [IMPLICIT]), (mr, [unknown]), (CT, [unknown, EXPLICIT]), (VERIFICATION, [IMPLICIT])]

    def talk(port: int) -> tuple[list[tuple[str, int]], list[tuple[str, bool, bool]], list[int]]:
        roles = [build_role(CT, scu_role=True, scp_role=True)]
        association = pynet_associate(port, contexts, ext_neg=roles)
        assert association.is_established
        refused = [(str(each.abstract_syntax), int(each.result)) for each in association.rejected_contexts]
        taken = [(str(each.abstract_syntax), each.as_scu, each.as_scp) for each in association.accepted_contexts]
        answers = [
            association.send_c_echo().Status,
            association.send_c_store(dcmread(io.BytesIO(slice_bytes(1)))).Status,
        ]
        association.release()
        return refused, taken, answers

    async with running_scp(tmp_path) as running:
        refused, taken, answers = await asyncio.to_thread(talk, running.port)
        assert sorted(refused) == sorted([(unknown, 3), (mr, 4)])  # abstract syntax, transfer syntaxes
        assert sorted(taken) == sorted([(CT, True, False), (VERIFICATION, True, False)])
        assert answers == [0, 0]
        assert len(running.instances()) == 1


# Access


@pytest.mark.parametrize(
    ("calling", "called", "answer"),
    [("CT1", "OTHER", (3, (1, 1, 7))), ("CT2", "RADSERVE", (3, (1, 1, 3))), ("CT1", "RADSERVE", (2, None))],
)
async def test_an_association_with_a_wrong_ae_title_is_rejected_with_the_reason(
    tmp_path: Path, calling: str, called: str, answer: tuple[int, tuple[int, int, int] | None]
) -> None:
    async with running_scp(tmp_path, AccessPolicy("RADSERVE", {"CT1": PeerPolicy()})) as running:
        peer = await asyncio.to_thread(RawPeer, running.port)
        asked = [negotiation.Proposed(VERIFICATION, (IMPLICIT,))]
        peer.socket.sendall(negotiation.request_bytes(calling, called, asked, 16384))
        kind, body = await asyncio.to_thread(peer.read)
        assert (kind, tuple(body[1:4]) if kind == 3 else None) == answer  # PS3.8 table 9-21
        peer.close()


async def test_one_association_too_many_is_rejected_for_now(tmp_path: Path) -> None:
    access = AccessPolicy("RADSERVE", {"RAW": PeerPolicy(associations=1)})
    async with running_scp(tmp_path, access) as running:
        first = await raw(running)
        with pytest.raises(DimseError, match="local limit is exceeded") as caught:
            await echo(running.peer(calling_ae="RAW"))
        assert caught.value.is_transient
        first.close()
        await gone(running)
        await echo(running.peer(calling_ae="RAW"))


async def test_instances_above_the_quota_of_a_minute_are_out_of_resources(tmp_path: Path) -> None:
    access = AccessPolicy("RADSERVE", {"RAW": PeerPolicy(instances_per_minute=2)})
    async with running_scp(tmp_path, access) as running:
        peer = await raw(running)
        data = [data_set(slice_bytes(number)) for number in (1, 2, 3)]
        uids = [str(dcmread(io.BytesIO(slice_bytes(number))).SOPInstanceUID) for number in (1, 2, 3)]
        found = [
            await asyncio.to_thread(lambda uid=uid, each=each: raw_store(peer, each, uid=uid))
            for uid, each in zip(uids, data, strict=True)
        ]
        assert found == [statuses.SUCCESS, statuses.SUCCESS, statuses.OUT_OF_RESOURCES]
        assert len(running.instances()) == 2
        with pytest.raises(DimseError, match="local limit"):
            await echo(running.peer(calling_ae="RAW"))
        peer.close()


# Peers that break the rules


async def test_an_abort_in_the_middle_of_an_instance_leaves_nothing(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        for farewell in (lambda peer: peer.send(7, bytes(4)), lambda peer: None):
            peer = await raw(running)
            peer.send_value(1, 3, request())
            peer.send_value(1, 0, data_set(slice_bytes(1))[:500])
            farewell(peer)
            peer.close()
            await gone(running)
        assert running.files() == []
        assert not list((tmp_path / ".incoming").iterdir())
        assert running.seen.stored == [] and len(running.seen.ended) == 2


@pytest.mark.parametrize(
    "pdu",
    [
        struct.pack(">BxI", 4, 0xFFFFFFFF),  # P-DATA without a bound
        struct.pack(">BxI", 9, 4) + bytes(4),  # no such type
        struct.pack(">BxI", 1, 0xFFFFFFFF),  # a second association request
        struct.pack(">BxIIBB", 4, 6, 2, 77, 3),  # a context that was not accepted
        struct.pack(">BxIIBB", 4, 6, 900, 1, 3),  # a value longer than its PDU
        struct.pack(">BxIIBB", 4, 6, 2, 1, 2),  # a data set without a command
        struct.pack(">BxI", 2, 4) + bytes(4),  # an acceptance
    ],
)
async def test_a_broken_pdu_aborts_its_association_alone(tmp_path: Path, pdu: bytes) -> None:
    async with running_scp(tmp_path) as running:
        peer = await raw(running)
        peer.socket.sendall(pdu)
        kind, body = await asyncio.to_thread(peer.read)
        assert (kind, body[2]) == (7, 2)  # A-ABORT by the service provider
        peer.close()
        await gone(running)
        await echo(running.peer())


async def test_a_command_without_an_end_is_aborted(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        peer = await raw(running)
        for _ in range(3):
            peer.send_value(1, 1, bytes(8000))
        assert (await asyncio.to_thread(peer.read))[0] == 7
        peer.close()


async def test_a_first_pdu_without_a_bound_is_refused_unread(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        peer = await asyncio.to_thread(RawPeer, running.port)
        peer.socket.sendall(struct.pack(">BxI", 1, 0xFFFFFFFF))
        assert (await asyncio.to_thread(peer.read))[0] == 7
        peer.close()


async def test_dribblers_are_cut_at_their_deadlines(tmp_path: Path) -> None:
    limits = WireLimits(pdu_seconds=1.0, negotiation_seconds=2.0, idle_seconds=600)
    async with running_scp(tmp_path, limits=limits) as running:
        early, late = await asyncio.to_thread(RawPeer, running.port), await raw(running)
        early.socket.sendall(struct.pack(">BxI", 1, 1000))
        late.socket.sendall(struct.pack(">BxI", 4, 1000))
        async with asyncio.timeout(60):
            while running.scp.connections:
                for peer in (early, late):
                    with contextlib.suppress(OSError):
                        peer.socket.sendall(b"\0")
                await asyncio.sleep(0.1)
        early.close()
        late.close()


async def test_a_silent_association_ends_after_the_idle_time(tmp_path: Path) -> None:
    async with running_scp(tmp_path, limits=WireLimits(idle_seconds=0.3)) as running:
        peer = await raw(running)
        await gone(running)
        peer.close()


async def test_connections_that_say_nothing_keep_nobody_out(tmp_path: Path) -> None:
    async with running_scp(tmp_path, max_waiting=4) as running:
        silent = [await asyncio.to_thread(RawPeer, running.port) for _ in range(12)]
        await echo(running.peer())  # accepted after all of them
        async with asyncio.timeout(60):
            while running.scp.connections > 4:
                await asyncio.sleep(0.01)
        await echo(running.peer())
        for peer in silent:
            peer.close()


# Its life


async def test_a_port_that_is_taken_is_refused_with_its_name(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        other = StoreScp(ScpOptions(ANYBODY, port=running.port), running.store)
        with pytest.raises(RequestError, match=str(running.port)) as caught:
            await other.start()
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT


async def test_stopping_ends_the_idle_and_lets_an_instance_come_to_its_end(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        idle, busy, us = await raw(running), await raw(running), running.peer()
        data = data_set(slice_bytes(1))
        busy.send_value(1, 3, request())
        busy.send_value(1, 0, data[:500])
        async with asyncio.timeout(60):
            while not running.store.held_bytes:
                await asyncio.sleep(0.01)
        stopping = asyncio.create_task(running.scp.stop(grace_seconds=60))
        assert (await asyncio.to_thread(idle.read))[0] == 7
        busy.send_value(1, 2, data[500:])
        assert await asyncio.to_thread(answered, busy) == statuses.SUCCESS
        await stopping
        assert len(running.instances()) == 1
        with pytest.raises(DimseError, match="cannot be reached"):
            await echo(us)
        idle.close()
        busy.close()


# Storage commitment reports


async def test_a_commitment_report_on_an_association_of_the_peer_reaches_who_waits(tmp_path: Path) -> None:
    inbox = CommitmentInbox()

    def report(port: int, transaction: str) -> int:
        from pynetdicom import AE

        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, "1.2.3"
        failed = Dataset()
        failed.ReferencedSOPClassUID, failed.ReferencedSOPInstanceUID, failed.FailureReason = CT, "1.2.4", 0x0112
        data = Dataset()
        data.TransactionUID, data.ReferencedSOPSequence, data.FailedSOPSequence = transaction, [item], [failed]
        ae = AE(ae_title="PACS")
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = ae.associate("127.0.0.1", port, ae_title="RADSERVE", ext_neg=[role])
        status, _ = association.send_n_event_report(data, 2, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
        association.release()
        return int(status.Status)

    async with running_scp(tmp_path, commitments=inbox) as running:
        with inbox.expecting("1.2.99") as future:
            assert await asyncio.to_thread(report, running.port, "1.2.99") == 0
            found = await future
        assert (found.committed, found.failed) == (frozenset({"1.2.3"}), {"1.2.4": 0x0112})
        assert await asyncio.to_thread(report, running.port, "1.2.98") == statuses.PROCESSING_FAILURE


def test_every_status_that_is_answered_has_a_meaning_for_the_conformance_statement() -> None:
    assert {*statuses.STATUS_OF.values()} <= statuses.MEANINGS.keys()
    assert statuses.status_of(DicomError(ErrorCode.INTERNAL, "x")) == statuses.PROCESSING_FAILURE
    assert negotiation.VERIFICATION in negotiation.SUPPORTED
