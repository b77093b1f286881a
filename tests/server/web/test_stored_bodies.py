"""Stored files come as they are, in the length that was stated, and what goes wrong is told before or cut off."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from radserve.dicom_io.dicomweb.held import Held
from radserve.dicom_io.dicomweb.multipart import MultipartReader, MultipartWriter, PartEnd, PartStart
from radserve.errors import ErrorCode, RadserveError
from radserve.references import InstanceRef
from radserve.server.web.service import CHUNK_BYTES
from radserve.server.web.stored_bodies import READ_AHEAD, stored_file, stored_parts

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
SIZES = (1, 700_000, 700_001, 3 * CHUNK_BYTES + 17, 0, CHUNK_BYTES)


def held(folder: Path) -> list[Held]:
    found = []
    for number, size in enumerate(SIZES, start=1):
        path = folder / f"{number}.dcm"
        path.write_bytes(bytes([number]) * size)
        found.append(Held(InstanceRef("1.2", "1.3", f"1.4.{number}", "1.5"), EXPLICIT_LITTLE, path))
    return found


async def joined(chunks: AsyncGenerator[bytes, None]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_parts_are_the_files_and_as_long_as_was_stated(tmp_path: Path) -> None:
    files = held(tmp_path)
    writer = MultipartWriter()
    body = await stored_parts(files, writer, "http://pacs.example")
    data = await joined(body.chunks())
    assert len(data) == body.size
    reader = MultipartReader(writer.content_type.rpartition("boundary=")[2].encode())
    parts: list[bytearray] = []
    heads: list[dict[str, str]] = []
    ends = 0
    for event in reader.feed(data):
        if isinstance(event, PartStart):
            heads.append(dict(event.headers))
            parts.append(bytearray())
        elif isinstance(event, PartEnd):
            ends += 1
        else:
            parts[-1] += event
    reader.close()
    assert [bytes(part) for part in parts] == [each.path.read_bytes() for each in files] and ends == len(files)
    assert [int(each["content-length"]) for each in heads] == list(SIZES)
    assert heads[0]["content-location"] == "http://pacs.example/studies/1.2/series/1.3/instances/1.4.1"


async def test_a_long_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * (20 * CHUNK_BYTES + 5))
    body = await stored_file(Held(InstanceRef("1.2", "1.3", "1.4", "1.5"), EXPLICIT_LITTLE, path))
    sizes = [len(chunk) async for chunk in body.chunks()]
    assert sum(sizes) == body.size == 20 * CHUNK_BYTES + 5 and max(sizes) == CHUNK_BYTES


async def test_a_file_that_is_gone_is_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    files = held(tmp_path)
    files[3].path.unlink()
    with pytest.raises(RadserveError):
        await stored_parts(files, MultipartWriter(), "")


async def test_a_file_that_has_become_shorter_ends_the_body(tmp_path: Path) -> None:
    files = held(tmp_path)
    body = await stored_parts(files, MultipartWriter(), "")
    files[-1].path.write_bytes(b"short")
    sent = 0
    with pytest.raises(RadserveError) as caught:
        async for chunk in body.chunks():
            sent += len(chunk)
    assert caught.value.code is ErrorCode.INTERNAL and 0 < sent < body.size


async def test_a_body_that_nobody_reads_any_more_stops_reading(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * (20 * CHUNK_BYTES))
    body = await stored_file(Held(InstanceRef("1.2", "1.3", "1.4", "1.5"), EXPLICIT_LITTLE, path))
    async with aclosing(body.chunks()) as chunks:
        await anext(chunks)
        path.write_bytes(b"")  # what is read ahead of now on is not there; nobody is told
    assert READ_AHEAD < 20
