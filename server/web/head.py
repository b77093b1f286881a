"""HEAD of every resource that has GET (RFC 9110 section 9.3.2): the same head, and no body is made for it."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Asks the application with GET, and stops it where the body of its answer begins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "HEAD":
            await self._app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}
        is_answered = False

        async def send_head(message: Message) -> None:
            nonlocal is_answered
            if message["type"] != "http.response.body":
                await send(message)
                return
            if not is_answered:
                is_answered = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            if message.get("more_body", False):
                raise _EnoughError

        try:
            await self._app(asked, receive, send_head)
        except Exception:
            if not is_answered:
                raise
        finally:
            if "route" in asked:
                scope["route"] = asked["route"]  # for the log


class _EnoughError(Exception):
    """Nobody will see the rest of the body."""
