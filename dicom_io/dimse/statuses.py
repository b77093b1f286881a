"""The statuses of C-STORE responses (PS3.7 annex C, PS3.4 section B.2.3), for each error that receiving can meet."""

from __future__ import annotations

from collections.abc import Mapping

from radserve.errors import ErrorCode, RadserveError

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
INVALID_INSTANCE_UID = 0x0117
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNIZED_OPERATION = 0x0211
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
NO_PIXELS = 0xC001
UNSUPPORTED_SYNTAX = 0xC002
TOO_LARGE = 0xC003
PARSER_ENDED = 0xC004
UID_CONFLICT = 0xC010
STUDY_ERASED = 0xC011
PENDING = frozenset({0xFF00, 0xFF01})

STATUS_OF: Mapping[ErrorCode, int] = {
    ErrorCode.STORAGE_FULL: OUT_OF_RESOURCES,
    ErrorCode.CANCELLED: OUT_OF_RESOURCES,  # the service is going down: come back later
    ErrorCode.UNSUPPORTED_SOP_CLASS: DOES_NOT_MATCH_SOP_CLASS,
    ErrorCode.NOT_DICOM: CANNOT_UNDERSTAND,
    ErrorCode.TRUNCATED: CANNOT_UNDERSTAND,
    ErrorCode.INVALID_HEADER: CANNOT_UNDERSTAND,
    ErrorCode.EMPTY_INPUT: CANNOT_UNDERSTAND,
    ErrorCode.NO_PIXELS: NO_PIXELS,
    ErrorCode.UNSUPPORTED_TRANSFER_SYNTAX: UNSUPPORTED_SYNTAX,
    ErrorCode.REQUEST_TOO_LARGE: TOO_LARGE,
    ErrorCode.PIXEL_BUDGET_EXCEEDED: TOO_LARGE,
    ErrorCode.WORKER_DIED: PARSER_ENDED,
    ErrorCode.WORKER_TIMEOUT: PARSER_ENDED,
    ErrorCode.WORKER_MEMORY: PARSER_ENDED,
    ErrorCode.UID_CONFLICT: UID_CONFLICT,
    ErrorCode.STUDY_ERASED: STUDY_ERASED,
}
# What each status means, for the conformance statement.
MEANINGS: Mapping[int, str] = {
    SUCCESS: "the instance is on disk for good, or was there before with the same bytes",
    PROCESSING_FAILURE: "the service failed; the instance is not stored",
    INVALID_INSTANCE_UID: "the Affected SOP Instance UID is not a UID",
    SOP_CLASS_NOT_SUPPORTED: "the Affected SOP Class UID is not that of the presentation context",
    UNRECOGNIZED_OPERATION: "the operation is not offered here",
    OUT_OF_RESOURCES: "the disk is full or below its reserve, or the quota of the AE title is used up: try later",
    DOES_NOT_MATCH_SOP_CLASS: "the data set is of another SOP class or instance than the command says, or no image",
    CANNOT_UNDERSTAND: "the data set cannot be parsed to its end, or lacks what an image must have",
    NO_PIXELS: "the data set has no pixel data",
    UNSUPPORTED_SYNTAX: "the transfer syntax is not supported",
    TOO_LARGE: "the data set is larger than the site takes",
    PARSER_ENDED: "parsing the data set was stopped: too much time, too much memory, or a crash",
    UID_CONFLICT: "another instance is stored under this SOP Instance UID; the stored one stays, this one is set aside",
    STUDY_ERASED: "the study was erased here and is not taken again",
}


def status_of(error: RadserveError) -> int:
    """The status that answers a C-STORE that met `error`."""
    return STATUS_OF.get(error.code, PROCESSING_FAILURE)


def is_success(status: int) -> bool:
    return status == SUCCESS


def is_warning(status: int) -> bool:
    """PS3.7 table C.4-2: done, with a remark."""
    return status in (0x0001, 0x0107, 0x0116) or status & 0xF000 == 0xB000


def is_transient(status: int) -> bool:
    """Whether sending the same again later may succeed."""
    return status & 0xFF00 == OUT_OF_RESOURCES or status == PROCESSING_FAILURE
