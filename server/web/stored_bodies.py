"""Bodies of stored files as they are: their length is known before they are sent, and the next is read meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from radserve.dicom_io.dicomweb.held import Held
from radserve.dicom_io.dicomweb.media import DICOM
from radserve.dicom_io.dicomweb.multipart import MultipartWriter
from radserve.dicom_io.durable import storage_error
from radserve.errors import ErrorCode, RequestError
from radserve.server.web.service import CHUNK_BYTES

READ_AHEAD = 3  # of CHUNK_BYTES, for each answer


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes [start, stop) of a file."""

    path: Path
    start: int
    stop: int

    def read(self) -> bytes:
        """Raises StorageError, RequestError INTERNAL where the file is shorter."""
        try:
            with self.path.open("rb", buffering=0) as file:
                found = os.pread(file.fileno(), self.stop - self.start, self.start)
        except OSError as error:
            raise storage_error(error) from None
        if len(found) < self.stop - self.start:
            raise RequestError(ErrorCode.INTERNAL, "a stored file is shorter than it was")
        return found


Segment = bytes | Span


@dataclass(frozen=True, slots=True)
class StoredBody:
    """Segments one after the other, and how many bytes they have."""

    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        return sum(len(each) if isinstance(each, bytes) else each.stop - each.start for each in self.segments)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes, the next being read while those before are sent. Raises as Span.read.

        They are not put together to equal chunks: that costs far more than reading them.
        """
        groups = iter(_groups(self.segments))
        ahead: deque[asyncio.Task[list[bytes]]] = deque()

        def read_on(count: int) -> None:
            ahead.extend(asyncio.create_task(asyncio.to_thread(_read, group)) for group in islice(groups, count))

        read_on(READ_AHEAD)
        try:
            while ahead:
                chunks = await ahead.popleft()
                read_on(1)
                for chunk in chunks:
                    yield chunk
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)


async def stored_file(held: Held) -> StoredBody:
    """An instance as it was received. Raises StorageError."""
    (size,) = await asyncio.to_thread(_sizes, [held.path])
    return StoredBody((Span(held.path, 0, size),))


async def stored_parts(held: Sequence[Held], writer: MultipartWriter, base_url: str) -> StoredBody:
    """Instances as they were received, as parts of the writer's body. Raises StorageError."""
    sizes = await asyncio.to_thread(_sizes, [each.path for each in held])
    segments: list[Segment] = []
    tail = b""
    for each, size in zip(held, sizes, strict=True):
        content_type = f"{DICOM}; transfer-syntax={each.transfer_syntax_uid}"
        head = writer.head(content_type, size=size, location=base_url + each.url)
        segments += [tail + head, Span(each.path, 0, size)]
        tail = writer.tail()
    return StoredBody((*segments, tail + writer.end()))


def _sizes(paths: Sequence[Path]) -> list[int]:
    try:
        return [path.stat().st_size for path in paths]
    except OSError as error:
        raise storage_error(error) from None


def _groups(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Segments of about CHUNK_BYTES together; of a longer one, a piece each."""
    group: list[Segment] = []
    left = CHUNK_BYTES
    for segment in segments:
        for piece in _pieces(segment):
            group.append(piece)
            left -= len(piece) if isinstance(piece, bytes) else piece.stop - piece.start
            if left <= 0:
                yield group
                group, left = [], CHUNK_BYTES
    if group:
        yield group


def _pieces(segment: Segment) -> Iterator[Segment]:
    if isinstance(segment, bytes):
        yield segment
        return
    for start in range(segment.start, segment.stop, CHUNK_BYTES):
        yield Span(segment.path, start, min(start + CHUNK_BYTES, segment.stop))


def _read(group: Sequence[Segment]) -> list[bytes]:
    return [each if isinstance(each, bytes) else each.read() for each in group]
