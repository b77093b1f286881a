"""No more requests in work than the site wants; the others are told so, and how the server is can always be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc

from radserve.errors import ErrorCode, RequestError
from radserve.server.rpc.errors import Context, abort

OURS = "/radserve."


class RequestLimit(grpc.aio.ServerInterceptor):
    """Ends a call with SERVER_BUSY while `most` others are in work. Health and reflection do not count.

    gRPC's own bound (maximum_concurrent_rpcs) refuses health checks as well: a server with much to do would be taken
    for a dead one and ended.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_work = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(OURS):
            return handler
        return self._limited(handler)

    def _limited(self, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        kind = f"{_shape(handler.request_streaming)}_{_shape(handler.response_streaming)}"
        method = getattr(handler, kind)

        async def answer(request: Any, context: Context) -> Any:
            async with self._place(context):
                return await method(request, context)

        async def answers(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self._place(context), aclosing(method(request, context)) as given:
                async for each in given:
                    yield each

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        limited: grpc.RpcMethodHandler[Any, Any] = make(
            answers if handler.response_streaming else answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return limited

    @asynccontextmanager
    async def _place(self, context: Context) -> AsyncIterator[None]:
        if self._in_work >= self._most:
            text = f"{self._most} requests are in work, which is the most that are taken at once; come back later"
            await abort(context, RequestError(ErrorCode.SERVER_BUSY, text))
        self._in_work += 1
        try:
            yield
        finally:
            self._in_work -= 1


def _shape(streaming: bool) -> str:
    return "stream" if streaming else "unary"
