"""The event channel against a server that writes the bytes of RFC 6455's own examples."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from radserve.dicom_io.web_peer import event_channel
from radserve.dicom_io.web_peer.event_channel import CANCEL_REQUESTED, UpsEvent, accept_of, open_channel
from radserve.dicom_io.web_peer.peer import WebPeer
from radserve.errors import PeerError

CANCEL = json.dumps(
    {
        "00001000": {"vr": "UI", "Value": ["1.2.3"]},
        "00001002": {"vr": "US", "Value": [2]},
        "00741238": {"vr": "LT", "Value": ["the wrong patient"]},
    }
).encode()
EXPECTED = UpsEvent(CANCEL_REQUESTED, "1.2.3", "the wrong patient")


def text(data: bytes) -> bytes:
    """An unmasked text frame with a 16-bit length (RFC 6455 section 5.2)."""
    return b"\x81\x7e" + len(data).to_bytes(2, "big") + data


@asynccontextmanager
async def channel(*frames: bytes, status: str = "101 Switching Protocols", accept: str = "") -> AsyncIterator[WebPeer]:
    """A server that upgrades, sends the frames, and keeps what comes back in `received`."""
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        received.append(head.encode())
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
        answer = f"HTTP/1.1 {status}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(f"{answer}Sec-WebSocket-Accept: {accept or accept_of(key)}\r\n\r\n".encode() + b"".join(frames))
        received.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    peer = WebPeer(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/ups", "Bearer sesame", response_seconds=20)
    channel.received = received  # type: ignore[attr-defined]
    yield peer
    server.close()


async def heard(peer: WebPeer) -> list[UpsEvent]:
    async with open_channel(peer, "RAD SERVE") as events:
        return [event async for event in events]


def test_the_handshake_is_that_of_the_standard() -> None:
    assert accept_of("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3


async def test_event_reports_come_whole_or_in_fragments_and_pings_are_answered() -> None:
    ping = b"\x89\x05Hello"  # RFC 6455 section 5.7
    fragments = b"\x01\x7e\x00\x0a" + CANCEL[:10], b"\x80\x7e" + (len(CANCEL) - 10).to_bytes(2, "big") + CANCEL[10:]
    close = b"\x88\x00"
    async with channel(text(CANCEL), ping, fragments[0], ping, fragments[1], text(b"{"), text(b"[1]"), close) as peer:
        assert await heard(peer) == [EXPECTED, EXPECTED]
        received = channel.received  # type: ignore[attr-defined]
        assert b"GET /ups/subscribers/RAD%20SERVE HTTP/1.1" in received[0]
        assert b"Authorization: Bearer sesame" in received[0]
        async with asyncio.timeout(30):
            while len(received) < 2:
                await asyncio.sleep(0.01)
    first, length, *rest = received[1]
    mask, body = rest[:4], rest[4:9]
    assert (first, length) == (0x8A, 0x85)
    assert bytes(each ^ mask[at % 4] for at, each in enumerate(body)) == b"Hello"


@pytest.mark.parametrize(
    "frames",
    [
        b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",  # masked, which a server must not do
        b"\xc1\x05Hello",  # with an extension bit
        b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",  # endless
        b"\x81",  # cut off
    ],
)
async def test_what_breaks_the_protocol_ends_the_channel(frames: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_channel, "SILENCE_SECONDS", 1.0)
    async with channel(frames) as peer:
        with pytest.raises(PeerError, match="event channel"):
            await heard(peer)


async def test_a_server_without_a_channel_says_so() -> None:
    async with channel(status="404 Not Found") as peer:
        with pytest.raises(PeerError, match="404"):
            await heard(peer)
    async with channel(accept="wrong") as peer:
        with pytest.raises(PeerError, match="event channel"):
            await heard(peer)
    with pytest.raises(PeerError, match="event channel"):
        await heard(WebPeer("http://127.0.0.1:9/ups"))
