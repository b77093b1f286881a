"""The event channel of UPS-RS: event reports over a WebSocket (PS3.18 section 8.10, PS3.4 CC.2.4, RFC 6455).

Only what a listener needs of RFC 6455 is here: text in, pings answered, no extension.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import ssl
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from radserve._checks import check_uid
from radserve.dicom_io.dicomweb import json_model
from radserve.dicom_io.web_peer.peer import WebPeer, data_sets, refused
from radserve.errors import ErrorCode, PeerError, RadserveError

ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
CONTINUATION, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA
MAX_EVENT_BYTES = 1 << 20
SILENCE_SECONDS = 300.0  # then the connection is taken for dead, and opened again by the caller
CANCEL_REQUESTED = 2  # PS3.4 table CC.2.4-1


@dataclass(frozen=True, slots=True)
class UpsEvent:
    """An event report: its type, the workitem, and the reason that it states."""

    event_type: int
    workitem_uid: str
    reason: str = ""


@asynccontextmanager
async def open_channel(peer: WebPeer, ae_title: str) -> AsyncIterator[AsyncGenerator[UpsEvent, None]]:
    """The event reports for a subscriber, until the connection ends. Raises PeerError where there is no channel."""
    reader, writer = await _opened(peer, f"subscribers/{quote(ae_title)}")
    try:
        async with aclosing(_events(peer, reader, writer)) as events:
            yield events
    finally:
        writer.close()


async def _events(
    peer: WebPeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> AsyncGenerator[UpsEvent, None]:
    message = b""
    try:
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                is_last, operation, data = await _frame(reader)
            if operation == CLOSE:
                return
            if operation == PING:
                writer.write(_masked(PONG, data))
                await writer.drain()
            elif operation in (TEXT, CONTINUATION):
                message += data
                if len(message) > MAX_EVENT_BYTES:
                    raise _broken(peer)
                if is_last:
                    if event := _event(message, peer.name):
                        yield event
                    message = b""
    except (OSError, EOFError, TimeoutError, ValueError):
        raise _broken(peer) from None


async def _opened(peer: WebPeer, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection and upgrade it."""
    parts = urlsplit(f"{peer.base_url.rstrip('/')}/{path}")
    secure = parts.scheme == "https"
    tls = (peer.tls or ssl.create_default_context()) if secure else None
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    lines = [
        f"GET {parts.path} HTTP/1.1",
        f"Host: {peer.name}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    if peer.authorization:
        lines.append(f"Authorization: {peer.authorization}")
    try:
        async with asyncio.timeout(peer.connect_seconds):
            host, port = str(parts.hostname), parts.port or (443 if secure else 80)
            reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        try:
            async with asyncio.timeout(peer.response_seconds):
                writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
                await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            _check_upgrade(peer, head, key)
        except BaseException:
            writer.close()
            raise
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
        raise _broken(peer) from None
    return reader, writer


def _check_upgrade(peer: WebPeer, head: list[str], key: str) -> None:
    status = head[0].split(" ")[1:2]
    if status != ["101"]:
        raise refused(peer.name, int(status[0]) if status and status[0].isdigit() else 0)
    fields = {name.strip().lower(): value.strip() for name, mark, value in (line.partition(":") for line in head[1:])}
    if fields.get("sec-websocket-accept") != accept_of(key):
        raise _broken(peer)


def accept_of(key: str) -> str:
    """What a server answers to a key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + ACCEPT_GUID).encode()).digest()).decode()  # noqa: S324 - no secret


async def _frame(reader: asyncio.StreamReader) -> tuple[bool, int, bytes]:
    """Whether it is the last of its message, its operation, its data. Raises ValueError for one that is not allowed."""
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack(">Q", await reader.readexactly(8))
    if second & 0x80 or first & 0x70 or length > MAX_EVENT_BYTES:  # servers mask nothing; no extension was asked for
        raise ValueError
    return bool(first & 0x80), first & 0x0F, await reader.readexactly(length)


def _masked(operation: int, data: bytes) -> bytes:
    """A frame of a client: at most 125 bytes, masked."""
    mask = secrets.token_bytes(4)
    body = bytes(each ^ mask[at % 4] for at, each in enumerate(data[:125]))
    return bytes([0x80 | operation, 0x80 | len(body)]) + mask + body


def _event(message: bytes, name: str) -> UpsEvent | None:
    """The event of a message, None for one that cannot be read: it is one among many."""
    try:
        (item,) = data_sets(message, name)
        event_type, uid = json_model.number(item, "00001002"), json_model.text(item, "00001000")
        check_uid("workitem", uid)
        return UpsEvent(event_type or 0, uid, json_model.text(item, "00741238"))
    except (RadserveError, ValueError):
        return None


def _broken(peer: WebPeer) -> PeerError:
    return PeerError(ErrorCode.SERVER_UNREACHABLE, f"the event channel of {peer.name} cannot be had, or has ended")
