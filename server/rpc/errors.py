"""RadserveErrors as google.rpc rich errors: a gRPC status with an ErrorInfo whose reason is the ErrorCode."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from radserve.errors import ErrorCode, RadserveError

logger = logging.getLogger(__name__)

T = TypeVar("T")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
DOMAIN = "radserve"
# Status and ErrorInfo travel in headers, of which clients take 8 or 16 KiB; one byte of text is there up to five.
MESSAGE_BYTES = 1000

_STATUS = {
    ErrorCode.STUDY_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.SERIES_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.INSTANCE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.UNKNOWN_PACK: grpc.StatusCode.NOT_FOUND,
    ErrorCode.PACK_NOT_LOADED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.PROMOTION_REFUSED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.RECORD_UNSIGNED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.RECORD_SIGNATURE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.LANGUAGE_NOT_AVAILABLE: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.NO_APPLICABLE_INPUT: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.OUTSIDE_INTENDED_USE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.STUDY_ERASED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.UID_CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.STORAGE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.REQUEST_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.SERVER_BUSY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.MODEL_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorCode.CANCELLED: grpc.StatusCode.CANCELLED,
    ErrorCode.INTERNAL: grpc.StatusCode.INTERNAL,
    ErrorCode.PLUGIN_FAILED: grpc.StatusCode.INTERNAL,
    ErrorCode.MODEL_OUTPUT_INVALID: grpc.StatusCode.INTERNAL,
    ErrorCode.DRAFT_WITHOUT_EVIDENCE: grpc.StatusCode.INTERNAL,
    ErrorCode.PACK_INVALID: grpc.StatusCode.INTERNAL,
    ErrorCode.PACK_HASH_MISMATCH: grpc.StatusCode.INTERNAL,
    ErrorCode.PACK_LICENCE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.PACK_UNSIGNED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.PACK_SIGNATURE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.PACK_PLUGIN: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.PACK_SOURCE: grpc.StatusCode.UNAVAILABLE,
}


def status_of(code: ErrorCode) -> grpc.StatusCode:
    """The gRPC status of a code; what is not listed is a fault of the input."""
    return _STATUS.get(code, grpc.StatusCode.INVALID_ARGUMENT)


async def abort(context: Context, error: RadserveError) -> NoReturn:
    """End the call with the rich status of an error."""
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=error.code.value, domain=DOMAIN))
    number: int = status_of(error.code).value[0]
    status = status_pb2.Status(code=number, message=_bounded(error.client_message), details=[info])
    await context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status always raises")


def _as_radserve_error(error: Exception, method: str) -> RadserveError:
    if isinstance(error, RadserveError):
        logger.info("%s refused: %s: %s", method, error.code, _bounded(error.detail))
        return error
    # The text of a foreign exception may hold patient data: its type and place are enough to find the fault.
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}" if trace else "?"
    logger.error("%s failed: %s at %s", method, type(error).__name__, place)
    return RadserveError(ErrorCode.INTERNAL, "the server failed to answer; its log names the place")


async def answered(method: str, context: Context, answer: Awaitable[T]) -> T:
    """Await a unary answer; an error becomes the call's rich status."""
    try:
        return await answer
    except (asyncio.CancelledError, grpc.aio.AbortError):
        raise
    except Exception as error:
        await abort(context, _as_radserve_error(error, method))


async def streamed(method: str, context: Context, answers: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Pass a stream of answers on; an error becomes the call's rich status."""
    try:
        async for answer in answers:
            yield answer
    except (asyncio.CancelledError, grpc.aio.AbortError):
        raise
    except Exception as error:
        await abort(context, _as_radserve_error(error, method))


def radserve_error(error: grpc.RpcError) -> RadserveError:
    """The client's way back: the RadserveError that a failed call carries, or the nearest one to its status."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:  # a proxy, or gRPC itself, put another status in the place of the server's
        status = None
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in ErrorCode.__members__:
            return RadserveError(ErrorCode(info.reason), status.message)
    code = error.code()
    nearest = {
        grpc.StatusCode.DEADLINE_EXCEEDED: ErrorCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED: ErrorCode.CANCELLED,
        grpc.StatusCode.UNAVAILABLE: ErrorCode.SERVER_UNREACHABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED: ErrorCode.REQUEST_TOO_LARGE,
    }
    # Of what is too large gRPC itself says by how much; other texts of it may be anything.
    cause = f": {error.details()}" if code is grpc.StatusCode.RESOURCE_EXHAUSTED else ""
    return RadserveError(nearest.get(code, ErrorCode.INTERNAL), f"the call ended with {code.name}{cause}")


def _bounded(text: str) -> str:
    """A text that fits the headers: a value that a caller sent may be of any length."""
    data = text.encode()
    return text if len(data) <= MESSAGE_BYTES else f"{data[:MESSAGE_BYTES].decode(errors='ignore')} ..."
