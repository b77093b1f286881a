"""What stands between the network and the application: deadlines for slow clients, one place for errors, the token."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from radserve.errors import ErrorCode, RadserveError, RequestError
from radserve.server.web.errors import UnauthorisedError, error_response, failure
from radserve.server.web.limits import WebLimits

logger = logging.getLogger(__name__)

OPEN_PATHS = ("/health",)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Guard:
    """The outermost layer. Log lines name the route, not the address: a query holds patient data."""

    def __init__(self, app: ASGIApp, limits: WebLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(scope, receive, self._limits)
        answer = _Answer(body, send)
        try:
            await self._app(scope, body.receive, answer.send)
        except ClientDisconnect:
            logger.info("HTTP: %s: the client went away", _route(scope))
            return
        except RadserveError as error:
            await answer.instead(error, scope)
        except Exception as error:
            cause = error.__cause__  # Starlette says so of an error behind the start of an answer
            await answer.instead(cause if isinstance(cause, RadserveError) else failure(error), scope)
        level = logging.DEBUG if answer.status < 400 else logging.INFO
        logger.log(level, "HTTP: %s: %d", _route(scope), answer.status)


def _route(scope: Scope) -> str:
    method = scope["method"] if scope["method"] in METHODS else "?"
    return f"{method} {getattr(scope.get('route'), 'path', 'no route')}"


class _Body:
    """The body of a request as it comes, with a deadline that grows with what came."""

    def __init__(self, scope: Scope, receive: Receive, limits: WebLimits) -> None:
        headers = dict(scope["headers"])
        self._receive = receive
        self._limits = limits
        self._bytes = 0
        self._waited = 0.0
        self._asked = False
        self._may_wait_for_leave = b"expect" in headers
        self.complete = not (headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers)

    async def receive(self) -> Message:
        """The next message; without an end once the body is complete: then it is the end of the connection.

        Raises RequestError DEADLINE_EXCEEDED.
        """
        self._asked = True
        if self.complete:
            return await self._receive()
        left = self._limits.body_seconds + self._bytes / self._limits.body_bytes_per_second - self._waited
        begun = time.monotonic()
        try:
            async with asyncio.timeout(max(left, 0.001)):
                message = await self._receive()
        except TimeoutError:
            raise RequestError(ErrorCode.DEADLINE_EXCEEDED, "the body of the request came too slowly") from None
        self._waited += time.monotonic() - begun
        self._bytes += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read a small rest, so that a client that is still sending sees the answer, not a reset connection."""
        if self._may_wait_for_leave and not self._asked:
            return
        end = self._bytes + self._limits.drain_bytes
        try:
            async with asyncio.timeout(self._limits.drain_seconds):
                while not self.complete and self._bytes < end:
                    await self.receive()
        except (TimeoutError, RadserveError):
            return


class _Answer:
    """The answer on its way out; one to a body that was not read to its end closes the connection."""

    def __init__(self, body: _Body, send: Send) -> None:
        self._body = body
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if not self._body.complete:
                await self._body.drain()
            headers = [*message.get("headers", []), (b"x-content-type-options", b"nosniff")]
            if not self._body.complete:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)

    async def instead(self, error: RadserveError, scope: Scope) -> None:
        """Answer with an error; what has begun already is cut off, so that the client sees that it is not whole."""
        if not self.status:
            await error_response(error)(scope, self._body.receive, self.send)
        else:
            logger.warning("HTTP: %s: cut off: %s", _route(scope), error.code)


class TokenCheck:
    """Lets nobody in without the token; health may be asked by anybody."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"")
        if scope["path"] not in OPEN_PATHS and not hmac.compare_digest(given, self._expected):
            await error_response(UnauthorisedError())(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with an end to waiting: for the head of a request, and for a client to read its answer."""

    limits = WebLimits()

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head()
        self._stop_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_stall()
        self._stall_timer = self.loop.call_later(self.limits.stall_seconds, self._cut)

    def resume_writing(self) -> None:
        self._stop_stall()
        super().resume_writing()

    def _watch_head(self) -> None:
        is_waiting = self.cycle is None or self.cycle.response_complete
        if not is_waiting:
            self._stop_head()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_seconds, self._cut)

    def _stop_head(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
        self._head_timer = None

    def _stop_stall(self) -> None:
        if self._stall_timer:
            self._stall_timer.cancel()
        self._stall_timer = None

    def _cut(self) -> None:
        logger.info("HTTP: a connection that stood still is cut")
        self.transport.abort()
