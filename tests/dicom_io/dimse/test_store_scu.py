"""StoreScu against pynetdicom's SCP and our own: an outcome for every instance, whatever the peer does."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRBigEndian, JPEGLSLossless, RLELossless
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.dicom_io.dimse.peer import DimseError, Peer, echo
from radserve.dicom_io.dimse.store_scu import StoreScu, StoreState
from radserve.dicom_io.file_meta import IMPLEMENTATION_CLASS_UID, read_file_meta
from radserve.errors import ErrorCode, RadserveError
from tests.dicom_io.dimse.support import (
    ANYBODY,
    CT,
    EXPLICIT,
    IMAGE,
    IMPLICIT,
    InlineWorkers,
    free_port,
    running_scp,
    slice_bytes,
    slice_files,
)

WORKERS: Any = InlineWorkers()


@contextmanager
def pynet_scp(
    handler: Callable[[Any], Any],
    *,
    syntaxes: tuple[str, ...] = (EXPLICIT, IMPLICIT),
    handlers: list[Any] | None = None,
    max_pdu: int = 16382,
) -> Iterator[Peer]:
    """pynetdicom as the archive."""
    ae = AE(ae_title="PACS")
    ae.maximum_pdu_size = max_pdu
    ae.add_supported_context(Verification)
    ae.add_supported_context(CTImageStorage, list(syntaxes))
    ae.add_supported_context(StorageCommitmentPushModel)
    ae.require_called_aet = True
    bound = [(evt.EVT_C_STORE, handler), *(handlers or [])]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=bound)
    assert server is not None
    try:
        yield Peer("127.0.0.1", server.server_address[1], "PACS", response_seconds=60)
    finally:
        server.shutdown()


def keeping(kept: list[bytes]) -> Callable[[Any], int]:
    def handler(event: Any) -> int:
        kept.append(event.encoded_dataset(include_meta=False))
        return 0

    return handler


def data_set(part10: bytes) -> bytes:
    return part10[read_file_meta(part10).offset :]


@pytest.mark.parametrize("max_pdu", [0, 4096, 131072])
async def test_files_and_bytes_arrive_byte_for_byte(tmp_path: Path, max_pdu: int) -> None:
    files = slice_files(tmp_path, 3)
    sources = [*files, slice_bytes(9)]
    kept: list[bytes] = []
    with pynet_scp(keeping(kept), max_pdu=max_pdu) as peer:
        outcomes = await StoreScu(peer).send(sources)
    assert [outcome.state for outcome in outcomes] == [StoreState.STORED] * 4
    assert all(outcome.is_stored and outcome.status == 0 and not outcome.converted for outcome in outcomes)
    assert kept == [data_set(path.read_bytes()) for path in files] + [data_set(slice_bytes(9))]
    expected = [str(dcmread(path).SOPInstanceUID) for path in files]
    assert [outcome.sop_instance_uid for outcome in outcomes[:3]] == expected


async def test_a_compressed_instance_goes_as_it_is_to_a_peer_that_takes_it() -> None:
    kept: list[bytes] = []
    with pynet_scp(keeping(kept), syntaxes=(EXPLICIT, JPEGLSLossless)) as peer:
        (outcome,) = await StoreScu(peer, workers=WORKERS).send([slice_bytes(1, JPEGLSLossless)])
    assert outcome.is_stored and not outcome.converted
    assert kept == [data_set(slice_bytes(1, JPEGLSLossless))]


@pytest.mark.parametrize("held", [JPEGLSLossless, RLELossless, EXPLICIT])
async def test_a_peer_that_refuses_the_syntax_gets_the_same_pixels_without_and_the_outcome_says_so(held: str) -> None:
    kept: list[bytes] = []
    with pynet_scp(keeping(kept), syntaxes=(IMPLICIT,)) as peer:
        (outcome,) = await StoreScu(peer, workers=WORKERS).send([slice_bytes(1, held)])
    assert outcome.is_stored and outcome.converted
    found = dcmread(io.BytesIO(kept[0]), force=True)
    np.testing.assert_array_equal(np.frombuffer(found.PixelData, np.uint16).reshape(IMAGE.shape), IMAGE + 1)
    expected = dcmread(io.BytesIO(slice_bytes(1)))
    assert [e.tag for e in found] == [e.tag for e in expected]


async def test_without_workers_a_refused_syntax_is_an_outcome_and_the_others_go() -> None:
    kept: list[bytes] = []
    with pynet_scp(keeping(kept)) as peer:
        first, second = await StoreScu(peer).send([slice_bytes(1, JPEGLSLossless), slice_bytes(2)])
    assert (first.state, first.is_transient) == (StoreState.NOT_SENT, False)
    assert JPEGLSLossless in first.message
    assert second.is_stored and len(kept) == 1


async def test_what_cannot_be_converted_or_read_is_an_outcome(tmp_path: Path) -> None:
    sources = [slice_bytes(1, ExplicitVRBigEndian), b"no dicom", tmp_path / "gone.dcm", slice_bytes(2)]
    with pynet_scp(keeping([])) as peer:
        outcomes = await StoreScu(peer, workers=WORKERS).send(sources)
    assert [outcome.is_stored for outcome in outcomes] == [False, False, False, True]
    assert all(outcome.state is StoreState.NOT_SENT for outcome in outcomes[:3])
    assert "gone" not in outcomes[2].message


@pytest.mark.parametrize(
    ("status", "state", "is_transient"),
    [
        (0x0000, StoreState.STORED, False),
        (0xB000, StoreState.WARNING, False),
        (0xA700, StoreState.REFUSED, True),
        (0xA900, StoreState.REFUSED, False),
        (0xC000, StoreState.REFUSED, False),
        (0x0110, StoreState.REFUSED, True),
    ],
)
async def test_a_status_becomes_an_outcome(status: int, state: StoreState, is_transient: bool) -> None:
    with pynet_scp(lambda event: status) as peer:
        (outcome,) = await StoreScu(peer).send([slice_bytes(1)])
    assert (outcome.state, outcome.status, outcome.is_transient) == (state, status, is_transient)


async def test_a_peer_that_aborts_leaves_the_answered_stored_one_unconfirmed_and_the_rest_not_sent() -> None:
    count = 0

    def handler(event: Any) -> int:
        nonlocal count
        count += 1
        if count == 2:
            event.assoc.abort()
        return 0

    with pynet_scp(handler) as peer:
        outcomes = await StoreScu(peer).send([slice_bytes(number) for number in range(4)])
    expected = [StoreState.STORED, StoreState.UNCONFIRMED, StoreState.NOT_SENT, StoreState.NOT_SENT]
    assert [outcome.state for outcome in outcomes] == expected
    assert all(outcome.is_transient for outcome in outcomes[1:])


async def test_a_peer_that_does_not_answer_in_time_leaves_the_instance_unconfirmed() -> None:
    released = threading.Event()

    def handler(event: Any) -> int:
        released.wait(5)
        return 0

    with pynet_scp(handler) as peer:
        slow = Peer(peer.host, peer.port, "PACS", response_seconds=0.5)
        (outcome,) = await StoreScu(slow).send([slice_bytes(1)])
        released.set()
    assert (outcome.state, outcome.is_transient) == (StoreState.UNCONFIRMED, True)
    assert "too long" in outcome.message


async def test_a_peer_that_is_not_there_or_rejects_is_an_outcome_of_each_instance() -> None:
    nobody = await StoreScu(Peer("127.0.0.1", free_port(), "PACS")).send([slice_bytes(1), slice_bytes(2)])
    assert [(outcome.state, outcome.is_transient) for outcome in nobody] == [(StoreState.NOT_SENT, True)] * 2
    with pynet_scp(keeping([])) as peer:
        (rejected,) = await StoreScu(Peer(peer.host, peer.port, "WRONG")).send([slice_bytes(1)])
    assert (rejected.state, rejected.is_transient) == (StoreState.NOT_SENT, False)
    assert "called AE title is not recognized" in rejected.message


async def test_more_classes_than_one_association_carries_go_over_several() -> None:
    kept: list[bytes] = []
    classes = [CT, *(f"{CT}.{number}" for number in range(1, 100))]  # two contexts each
    sources = [slice_bytes(number, SOPClassUID=uid) for number, uid in enumerate(classes)]
    with pynet_scp(keeping(kept)) as peer:
        outcomes = await StoreScu(peer).send(sources)
    assert outcomes[0].is_stored and len(kept) == 1
    assert all(outcome.state is StoreState.NOT_SENT and "SOP class" in outcome.message for outcome in outcomes[1:])


async def test_sending_to_our_own_scp(tmp_path: Path) -> None:
    files = slice_files(tmp_path / "out", 20)
    async with running_scp(tmp_path / "store") as running:
        outcomes = await StoreScu(running.peer()).send(files)
        assert all(outcome.is_stored for outcome in outcomes)
        assert sorted(data_set(path.read_bytes()) for path in running.instances()) == sorted(
            data_set(path.read_bytes()) for path in files
        )


async def test_echo_says_who_we_are() -> None:
    seen: list[str] = []

    def handler(event: Any) -> int:
        seen.append(str(event.assoc.requestor.implementation_class_uid))
        return 0

    with pynet_scp(keeping([]), handlers=[(evt.EVT_C_ECHO, handler)]) as peer:
        await echo(peer)
    assert seen == [IMPLEMENTATION_CLASS_UID]


# Storage commitment


def report_handlers(failed: set[str]) -> list[Any]:
    """An archive that reports on the association of the request."""

    requests: list[Dataset] = []

    def on_action(event: Any) -> tuple[int, Dataset | None]:
        requests.append(event.action_information)
        return 0, None

    def on_sent(event: Any) -> None:
        if requests:  # the answer to the request is on its way: the report follows
            threading.Thread(target=send, args=(event.assoc, requests.pop())).start()

    def send(association: Any, request: Dataset) -> None:
        data = Dataset()
        data.TransactionUID = request.TransactionUID
        items = list(request.ReferencedSOPSequence)
        data.ReferencedSOPSequence = [each for each in items if each.ReferencedSOPInstanceUID not in failed]
        data.FailedSOPSequence = [each for each in items if each.ReferencedSOPInstanceUID in failed]
        for item in data.FailedSOPSequence:
            item.FailureReason = 0x0112
        association.send_n_event_report(data, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")

    return [(evt.EVT_N_ACTION, on_action), (evt.EVT_DATA_SENT, on_sent)]


async def test_a_commitment_report_on_the_same_association_is_taken() -> None:
    with pynet_scp(keeping([]), handlers=report_handlers({"1.2.4"})) as peer:
        report = await StoreScu(peer).commit("1.2.99", [(CT, "1.2.3"), (CT, "1.2.4")], wait_seconds=60)
    assert report is not None
    assert (report.committed, report.failed) == (frozenset({"1.2.3"}), {"1.2.4": 0x0112})


async def test_no_report_in_time_is_none_and_a_refusal_an_error() -> None:
    def on_action(event: Any) -> tuple[int, None]:
        return 0, None

    with pynet_scp(keeping([]), handlers=[(evt.EVT_N_ACTION, on_action)]) as peer:
        assert await StoreScu(peer).commit("1.2.99", [(CT, "1.2.3")], wait_seconds=0.2) is None
    refusing = pynet_scp(keeping([]), handlers=[(evt.EVT_N_ACTION, lambda event: (0x0122, None))])
    with refusing as peer, pytest.raises(DimseError, match="0122"):
        await StoreScu(peer).commit("1.2.99", [(CT, "1.2.3")], wait_seconds=0.2)


async def test_a_commitment_report_by_our_own_scp_is_taken(tmp_path: Path) -> None:
    inbox = CommitmentInbox()

    def on_action(event: Any) -> tuple[int, None]:
        threading.Thread(target=report, args=(str(event.action_information.TransactionUID),)).start()
        return 0, None

    async with running_scp(tmp_path, ANYBODY, commitments=inbox) as running:
        port = running.port

        def report(transaction: str) -> None:
            from pynetdicom import build_role

            ae = AE(ae_title="PACS")
            ae.add_requested_context(StorageCommitmentPushModel)
            role = build_role(StorageCommitmentPushModel, scp_role=True)
            association = ae.associate("127.0.0.1", port, ae_title="RADSERVE", ext_neg=[role])
            item, data = Dataset(), Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, "1.2.3"
            data.TransactionUID, data.ReferencedSOPSequence = transaction, [item]
            association.send_n_event_report(data, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
            association.release()

        with pynet_scp(keeping([]), handlers=[(evt.EVT_N_ACTION, on_action)]) as peer:
            scu = StoreScu(peer, commitments=inbox)
            found = await scu.commit("1.2.99", [(CT, "1.2.3")], wait_seconds=60)
    assert found is not None and found.committed == {"1.2.3"}


async def test_an_archive_without_storage_commitment_says_so() -> None:
    ae = AE(ae_title="PACS")
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    try:
        with pytest.raises(RadserveError) as caught:
            await StoreScu(Peer("127.0.0.1", server.server_address[1], "PACS")).commit("1.2.99", [(CT, "1.2.3")])
        assert caught.value.code is ErrorCode.UNSUPPORTED_SOP_CLASS
    finally:
        await asyncio.to_thread(server.shutdown)
