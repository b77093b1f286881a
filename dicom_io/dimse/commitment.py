"""Storage commitment (PS3.4 annex J): the peer takes over responsibility for instances, and says so later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from radserve.dicom_io.dimse.identifiers import decode_identifier, encode_identifier, text_of
from radserve.errors import DicomError, ErrorCode

SOP_INSTANCE = "1.2.840.10008.1.20.1.1"  # the well-known one
REQUEST_ACTION = 1
MAX_REPORT_BYTES = 4 << 20  # some 20,000 instances
UNSPECIFIED_FAILURE = 0x0110


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What the peer keeps for good, and what it does not, with the Failure Reason (0008,1197), by SOP Instance UID."""

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]


class CommitmentInbox:
    """Brings a report, on whatever association it comes, to the one who waits for it. For one event loop."""

    def __init__(self) -> None:
        self._expected: dict[str, asyncio.Future[CommitmentReport]] = {}

    @contextmanager
    def expecting(self, transaction_uid: str) -> Iterator[asyncio.Future[CommitmentReport]]:
        """The report of a transaction, while the block lasts."""
        future: asyncio.Future[CommitmentReport] = asyncio.get_running_loop().create_future()
        self._expected[transaction_uid] = future
        try:
            yield future
        finally:
            del self._expected[transaction_uid]
            future.cancel()

    def put(self, report: CommitmentReport) -> None:
        """Take a report in. Raises DicomError INVALID_HEADER for a transaction that nobody waits for."""
        future = self._expected.get(report.transaction_uid)
        if future is None:
            raise DicomError(ErrorCode.INVALID_HEADER, "the report is of a transaction that is not known here")
        if not future.done():
            future.set_result(report)


def request_data(transaction_uid: str, instances: Sequence[tuple[str, str]], transfer_syntax_uid: str) -> bytes:
    """The data set of the N-ACTION request for (SOP class, SOP instance) pairs."""
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ReferencedSOPSequence = DicomSequence([_reference(*pair) for pair in instances])
    return encode_identifier(dataset, transfer_syntax_uid)


def read_report(data: bytes, transfer_syntax_uid: str) -> CommitmentReport:
    """Read the data set of an N-EVENT-REPORT. Raises DicomError INVALID_HEADER."""
    dataset = decode_identifier(data, transfer_syntax_uid)
    failed = {}
    for item in _items(dataset, "FailedSOPSequence"):
        reason = text_of(item, "FailureReason")
        failed[text_of(item, "ReferencedSOPInstanceUID")] = int(reason) if reason.isdigit() else UNSPECIFIED_FAILURE
    kept = (text_of(item, "ReferencedSOPInstanceUID") for item in _items(dataset, "ReferencedSOPSequence"))
    committed = frozenset(kept)
    transaction = text_of(dataset, "TransactionUID")
    if not transaction:
        raise DicomError(ErrorCode.INVALID_HEADER, "the report names no transaction")
    return CommitmentReport(transaction, committed - failed.keys(), failed)


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    try:
        return list(dataset.get(keyword) or ())
    except MemoryError:
        raise
    except Exception as error:  # pydicom has no common base
        raise DicomError(ErrorCode.INVALID_HEADER, f"{keyword} cannot be read ({type(error).__name__})") from None
