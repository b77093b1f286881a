"""RadserveErrors as HTTP answers: a status and the code with the client message as JSON, never patient data."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.responses import JSONResponse

from radserve.dicom_io.dicomweb.frames import NoSuchPartError
from radserve.dicom_io.dicomweb.media import NotAcceptableError
from radserve.errors import DicomError, ErrorCode, RadserveError, RequestError

logger = logging.getLogger(__name__)

STATUS_OF: Mapping[ErrorCode, int] = {
    ErrorCode.STUDY_NOT_FOUND: 404,
    ErrorCode.SERIES_NOT_FOUND: 404,
    ErrorCode.INSTANCE_NOT_FOUND: 404,
    ErrorCode.STUDY_ERASED: 410,
    ErrorCode.UID_CONFLICT: 409,
    ErrorCode.REQUEST_TOO_LARGE: 413,
    ErrorCode.SERVER_BUSY: 503,
    ErrorCode.DEADLINE_EXCEEDED: 408,
    ErrorCode.STORAGE_FULL: 507,
    ErrorCode.CANCELLED: 503,
    ErrorCode.INTERNAL: 500,
    ErrorCode.PLUGIN_FAILED: 500,
    ErrorCode.WORKER_DIED: 500,
    ErrorCode.WORKER_TIMEOUT: 500,
    ErrorCode.WORKER_MEMORY: 500,
}
# What each status means, for the statement.
MEANINGS: Mapping[int, str] = {
    200: "done; of a store: every instance is on disk for good, or was there before with the same bytes",
    202: "of a store: some instances are stored, the answer says which are not and why; of a completion: noted",
    400: "the request cannot be understood; the answer names the key or the part, never a value",
    401: "the bearer token is missing or another one",
    404: "there is no such study, series, instance, frame or element here",
    405: "the resource has no such method",
    406: "it cannot be given in any of the accepted media types or transfer syntaxes",
    408: "the body came too slowly",
    409: "of a store: no instance is stored; the answer says why for each",
    410: "the study was erased here",
    413: "the body, a part, its headers or the number of parts is larger than the site takes",
    415: "the body, or every part of it, has a content type or encoding that is not read, or names none; "
    "of a store: so has every instance its SOP class or transfer syntax, and the answer names each",
    500: "the server failed; its log names the place",
    503: "too many connections, or the server is going down: come back later",
    507: "the disk is full or below its reserve: come back later",
}


class UnsupportedMediaError(RequestError):
    """The body is of a kind that is not read (HTTP 415)."""

    def __init__(self, client_message: str) -> None:
        super().__init__(ErrorCode.INVALID_ARGUMENT, client_message)


class UnauthorisedError(RequestError):
    """No token, or another one (HTTP 401)."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.INVALID_ARGUMENT, "expected the bearer token of this server")


def status_of(error: RadserveError) -> int:
    """The HTTP status of an error; what is not listed is a fault of the request, or of the object asked for."""
    match error:
        case NoSuchPartError():
            return 404
        case NotAcceptableError():
            return 406
        case UnsupportedMediaError():
            return 415
        case UnauthorisedError():
            return 401
    if error.code in STATUS_OF:
        return STATUS_OF[error.code]
    return 406 if isinstance(error, DicomError) else 400


def error_response(error: RadserveError) -> JSONResponse:
    """The answer to a request that met `error`."""
    status = status_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"code": error.code.value, "message": error.client_message}, status, headers)


def failure(error: Exception) -> RadserveError:
    """The error that stands for one that nobody expected; its text may hold patient data: only its place is logged."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}" if trace else "?"
    logger.error("HTTP: a request failed: %s at %s", type(error).__name__, place)
    return RadserveError(ErrorCode.INTERNAL, "the server failed to answer; its log names the place")
