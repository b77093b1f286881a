"""The one base class of every error radserve raises on purpose, and the closed list of their codes.

An error has two texts: `client_message` is sent to the caller and names the cause and the offending value, never
patient data; `detail` goes to the log of the module that raised it and carries no patient data either.
"""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """What went wrong, for programs. The value is the wire form (JSON, google.rpc.ErrorInfo.reason)."""

    # Input that is not what it says
    NOT_DICOM = "NOT_DICOM"
    TRUNCATED = "TRUNCATED"
    INVALID_HEADER = "INVALID_HEADER"
    NO_PIXELS = "NO_PIXELS"
    EMPTY_INPUT = "EMPTY_INPUT"
    ARCHIVE_UNSAFE = "ARCHIVE_UNSAFE"
    UNSUPPORTED_SOP_CLASS = "UNSUPPORTED_SOP_CLASS"
    UNSUPPORTED_TRANSFER_SYNTAX = "UNSUPPORTED_TRANSFER_SYNTAX"
    UNSUPPORTED_PIXELS = "UNSUPPORTED_PIXELS"
    PIXELS_INCONSISTENT = "PIXELS_INCONSISTENT"
    PIXEL_BUDGET_EXCEEDED = "PIXEL_BUDGET_EXCEEDED"
    DECODE_FAILED = "DECODE_FAILED"
    CONTEXT_INVALID = "CONTEXT_INVALID"
    UID_CONFLICT = "UID_CONFLICT"
    # The sandbox
    WORKER_DIED = "WORKER_DIED"
    WORKER_TIMEOUT = "WORKER_TIMEOUT"
    WORKER_MEMORY = "WORKER_MEMORY"
    # Volumes
    GEOMETRY_MISSING = "GEOMETRY_MISSING"
    GEOMETRY_GAP = "GEOMETRY_GAP"
    GEOMETRY_DUPLICATE = "GEOMETRY_DUPLICATE"
    GEOMETRY_TILT = "GEOMETRY_TILT"
    GEOMETRY_MIXED_ORIENTATION = "GEOMETRY_MIXED_ORIENTATION"
    GEOMETRY_MIXED_SIZE = "GEOMETRY_MIXED_SIZE"
    # Packs and models
    UNKNOWN_PACK = "UNKNOWN_PACK"
    PACK_INVALID = "PACK_INVALID"
    PACK_HASH_MISMATCH = "PACK_HASH_MISMATCH"
    PACK_LICENCE = "PACK_LICENCE"
    PACK_UNSIGNED = "PACK_UNSIGNED"
    PACK_SIGNATURE = "PACK_SIGNATURE"
    PACK_PLUGIN = "PACK_PLUGIN"
    PACK_SOURCE = "PACK_SOURCE"
    PACK_NOT_LOADED = "PACK_NOT_LOADED"
    PROMOTION_REFUSED = "PROMOTION_REFUSED"
    RECORD_UNSIGNED = "RECORD_UNSIGNED"
    RECORD_SIGNATURE = "RECORD_SIGNATURE"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    MODEL_OUTPUT_INVALID = "MODEL_OUTPUT_INVALID"
    DRAFT_WITHOUT_EVIDENCE = "DRAFT_WITHOUT_EVIDENCE"
    # Requests
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    STUDY_NOT_FOUND = "STUDY_NOT_FOUND"
    SERIES_NOT_FOUND = "SERIES_NOT_FOUND"
    INSTANCE_NOT_FOUND = "INSTANCE_NOT_FOUND"
    STUDY_ERASED = "STUDY_ERASED"
    LANGUAGE_NOT_AVAILABLE = "LANGUAGE_NOT_AVAILABLE"
    NO_APPLICABLE_INPUT = "NO_APPLICABLE_INPUT"
    OUTSIDE_INTENDED_USE = "OUTSIDE_INTENDED_USE"
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE"
    SERVER_BUSY = "SERVER_BUSY"
    STORAGE_FULL = "STORAGE_FULL"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    PLUGIN_FAILED = "PLUGIN_FAILED"
    SERVER_UNREACHABLE = "SERVER_UNREACHABLE"
    INTERNAL = "INTERNAL"


class RadserveError(Exception):
    """Base of all errors of radserve.

    `client_message` and `detail` are free of patient data; `detail` defaults to the client message.
    """

    def __init__(self, code: ErrorCode, client_message: str, *, detail: str | None = None) -> None:
        super().__init__(f"{code}: {detail or client_message}")
        self.code = code
        self.client_message = client_message
        self.detail = detail or client_message

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (sandboxed workers): rebuild with the keyword argument.
        return _rebuild, (type(self), self.code, self.client_message, self.detail)


def _rebuild(cls: type[RadserveError], code: ErrorCode, client_message: str, detail: str) -> RadserveError:
    return cls(code, client_message, detail=detail)


class DicomError(RadserveError):
    """A DICOM file, header or pixel stream cannot be used."""


class GeometryError(RadserveError):
    """Slices do not form a regular volume."""


class WorkerError(RadserveError):
    """A worker process died, ran out of its time or its memory."""


class PackError(RadserveError):
    """A model pack is unknown, invalid or altered."""


class ModelError(RadserveError):
    """A model could not be reached or answered with something that is not its specification."""


class DraftError(RadserveError):
    """A draft cannot be built."""


class RequestError(RadserveError):
    """The request itself cannot be served."""


class PeerError(RadserveError):
    """Another system could not be reached, refused, or failed. `is_transient`: whether it makes sense to try later."""

    def __init__(self, code: ErrorCode, client_message: str, *, is_transient: bool = True) -> None:
        super().__init__(code, client_message)
        self.is_transient = is_transient


class StorageError(RadserveError):
    """A study could not be put on disk or read back."""
