"""Errors on the wire: codes and causes cross, the texts of foreign exceptions never do."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from radserve.errors import DicomError, ErrorCode, PackError
from radserve.server.rpc.errors import answered, radserve_error, status_of, streamed


class Context:
    """Keeps the status a call is aborted with."""

    def __init__(self) -> None:
        self.status: grpc.Status | None = None

    async def abort_with_status(self, status: grpc.Status) -> None:
        self.status = status
        raise grpc.aio.AbortError

    @property
    def sent(self) -> status_pb2.Status:
        assert self.status is not None
        return status_pb2.Status.FromString(dict(self.status.trailing_metadata)["grpc-status-details-bin"])

    @property
    def reason(self) -> str:
        info = error_details_pb2.ErrorInfo()
        assert self.sent.details[0].Unpack(info)
        return str(info.reason)


async def refuse() -> None:
    raise DicomError(ErrorCode.TRUNCATED, "the file ends at byte 20", detail="more for the log")


async def break_down() -> None:
    raise ValueError("PatientName Doe^Jane is odd")


async def test_an_error_of_ours_crosses_with_code_and_cause() -> None:
    context = Context()
    with pytest.raises(grpc.aio.AbortError):
        await answered("Call", context, refuse())  # type: ignore[arg-type]
    assert context.reason == "TRUNCATED"
    assert context.sent.message == "the file ends at byte 20"
    assert context.sent.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_a_foreign_exception_crosses_as_internal_and_its_text_is_told_to_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = Context()
    with caplog.at_level(logging.DEBUG), pytest.raises(grpc.aio.AbortError):
        await answered("Call", context, break_down())  # type: ignore[arg-type]
    assert context.reason == "INTERNAL"
    assert "Doe" not in str(context.status) + caplog.text
    assert "ValueError at test_errors.py" in caplog.text


async def test_a_stream_passes_on_what_came_before_its_error() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        await refuse()

    context, seen = Context(), []
    with pytest.raises(grpc.aio.AbortError):
        async for number in streamed("Call", context, numbers()):  # type: ignore[arg-type]
            seen.append(number)  # noqa: PERF401 - what came before the error must be kept
    assert seen == [1]
    assert context.reason == "TRUNCATED"


async def test_a_value_of_any_length_leaves_the_message_short_enough_for_the_headers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse_the_name() -> None:
        raise PackError(ErrorCode.UNKNOWN_PACK, f"pack {'名' * 40_000!r} is unknown")

    context = Context()
    with caplog.at_level(logging.DEBUG), pytest.raises(grpc.aio.AbortError):
        await answered("Call", context, refuse_the_name())  # type: ignore[arg-type]
    assert context.sent.message.startswith("pack '名名") and context.sent.message.endswith(" ...")
    percent_encoded = 3 * len(context.sent.message.encode())
    base64 = 4 * context.sent.ByteSize() / 3
    assert percent_encoded + base64 < 8192  # what gRPC for Java takes; for C it is 8 to 16 KiB
    assert len(caplog.text) < 2000


def test_a_status_that_was_put_in_place_of_the_servers_is_read_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(call: object) -> None:
        raise ValueError("Code in Status proto doesn't match status code")

    class TooMuch(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.RESOURCE_EXHAUSTED

        def details(self) -> str:
            return "Received message larger than max (73400325 vs. 67108864)"

    monkeypatch.setattr(rpc_status, "from_call", other)
    error = radserve_error(TooMuch())
    assert error.code is ErrorCode.REQUEST_TOO_LARGE
    assert "73400325 vs. 67108864" in error.client_message


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_has_a_status_that_is_an_error(code: ErrorCode) -> None:
    assert status_of(code) is not grpc.StatusCode.OK


def test_the_client_reads_back_what_the_server_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    status = status_pb2.Status(code=3, message="the file ends at byte 20")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="TRUNCATED", domain="radserve"))
    monkeypatch.setattr(rpc_status, "from_call", lambda call: status)
    error = radserve_error(grpc.RpcError())
    assert (error.code, error.client_message) == (ErrorCode.TRUNCATED, "the file ends at byte 20")
