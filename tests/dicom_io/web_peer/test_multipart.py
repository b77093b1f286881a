"""multipart/related, however the network cuts it; what is written is read by the standard library."""

from __future__ import annotations

import email.policy
from collections.abc import AsyncIterator
from email.parser import BytesParser

import pytest

from radserve.dicom_io.web_peer.multipart import IncomingParts, Outgoing
from radserve.errors import ErrorCode, PeerError

TYPE = 'multipart/related; type="application/dicom"; boundary="b-1"'
PARTS = [b"", b"one\r\n--b-\r\n--b", b"\r\n\r\n" * 3, b"\x00" * 700]


def message(end: bytes = b"--\r\nepilogue") -> bytes:
    parts = (b"--b-1\r\nContent-Type: application/dicom\r\nX-N: %d\r\n\r\n%s\r\n" % each for each in enumerate(PARTS))
    return b"preamble\r\n" + b"".join(parts) + b"--b-1" + end


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def read(data: bytes, size: int = 10_000, content_type: str = TYPE) -> list[tuple[str, bytes]]:
    parts, found = IncomingParts(content_type, pieces(data, size), "archive"), []
    while (head := await parts.next_part()) is not None:
        found.append((head["x-n"], b"".join([piece async for piece in parts.body()])))
    assert await parts.next_part() is None
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64, 10_000])
async def test_the_parts_come_out_however_the_stream_is_cut(size: int) -> None:
    assert await read(message(), size) == [(str(number), part) for number, part in enumerate(PARTS)]


async def test_a_part_that_nobody_reads_is_passed_over() -> None:
    parts = IncomingParts(TYPE, pieces(message(), 3), "archive")
    heads = []
    while (head := await parts.next_part()) is not None:
        heads.append(head["x-n"])
    assert heads == ["0", "1", "2", "3"]


@pytest.mark.parametrize("cut", [5, 30, 60, 120, 400])
async def test_a_message_that_ends_early_is_an_error(cut: int) -> None:
    with pytest.raises(PeerError, match="ends before its last boundary") as caught:
        await read(message()[:cut])
    assert caught.value.code is ErrorCode.SERVER_UNREACHABLE


@pytest.mark.parametrize("content_type", ["", "application/dicom", "multipart/related", "text/html; boundary=b-1"])
async def test_another_content_type_is_an_error(content_type: str) -> None:
    with pytest.raises(PeerError, match="no multipart message"):
        await read(message(), content_type=content_type)


async def test_a_head_without_end_is_an_error() -> None:
    with pytest.raises(PeerError, match="headers of a part have more than 8192 bytes"):
        await read(b"--b-1\r\n" + b"x" * 30_000, 1000)


async def test_what_is_sent_is_read_by_the_standard_library_and_has_the_stated_length() -> None:
    outgoing = Outgoing(PARTS[1:])
    body = b"".join([piece async for piece in outgoing.content()])
    assert len(body) == int(outgoing.headers["Content-Length"])
    head = f"Content-Type: {outgoing.headers['Content-Type']}\r\n\r\n".encode()
    read_back = BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    parts = list(read_back.iter_parts())
    assert [each.get_content_type() for each in parts] == ["application/dicom"] * 3
    assert parts[2].get_payload(decode=True) == PARTS[3]
