"""Bodies of answers of retrieval, made while they are sent: never a whole study, or a whole instance, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from radserve.dicom_io.dicomweb.frames import Piece, check_frames, decoded_pieces, put_aside, stored_pieces
from radserve.dicom_io.dicomweb.header_cache import with_address
from radserve.dicom_io.dicomweb.held import Held
from radserve.dicom_io.dicomweb.media import DICOM
from radserve.dicom_io.dicomweb.multipart import MultipartWriter
from radserve.dicom_io.dicomweb.transcode import write_explicit_little
from radserve.errors import RadserveError
from radserve.server.web.service import WebService, file_chunks

Place = tuple[Path, Piece]
Places = AsyncGenerator[Place, None]


async def instances(
    service: WebService, given: Sequence[tuple[Held, str]], writer: MultipartWriter, base_url: str
) -> AsyncGenerator[bytes, None]:
    """Instances, each with the transfer syntax it is to have, as parts."""
    for held, syntax in given:
        async with _file(service, held, syntax) as path:
            size = (await asyncio.to_thread(path.stat)).st_size
            yield writer.head(f"{DICOM}; transfer-syntax={syntax}", size=size, location=base_url + held.url)
            async for chunk in file_chunks(path):
                yield chunk
            yield writer.tail()
    yield writer.end()


async def alone(service: WebService, held: Held, syntax: str) -> AsyncGenerator[bytes, None]:
    """One instance as a Part 10 file."""
    async with _file(service, held, syntax) as path:
        async for chunk in file_chunks(path):
            yield chunk


@asynccontextmanager
async def _file(service: WebService, held: Held, syntax: str) -> AsyncIterator[Path]:
    """The received bytes, or a file in Explicit VR Little Endian that is made of them."""
    if syntax == held.transfer_syntax_uid:
        yield held.path
        return
    async with service.scratch_file() as made:
        await service.holdings.workers.run(write_explicit_little, held.path, made)
        yield made


async def metadata(service: WebService, held: Sequence[Held], base_url: str) -> AsyncGenerator[bytes, None]:
    """A JSON array of the headers; the next ones are read while those before are sent."""
    before = b"["
    async with aclosing(service.holdings.headers(held)) as batches:
        async for found in batches:
            headers = []
            for each in found:
                if isinstance(each, RadserveError):
                    raise each
                headers.append(with_address(each, base_url))
            yield before + b",".join(headers)
            before = b","
    yield b"]"


async def frames(service: WebService, held: Held, numbers: Sequence[int], *, decoded: bool) -> Places:
    """Frames, as they are stored or decoded one after the other."""
    if not decoded:
        asked = [places(service, held, stored_pieces, numbers)]
    else:
        await service.holdings.workers.run(check_frames, held.path, numbers)  # before the first is sent
        asked = [places(service, held, decoded_pieces, number) for number in numbers]
    for each in asked:
        async with aclosing(each):
            async for found in each:
                yield found


async def places(
    service: WebService, held: Held, make: Callable[..., list[Piece]], argument: int | Sequence[int]
) -> Places:
    """The pieces that a worker makes of an instance, each with the file it is in."""
    async with service.scratch_file() as made:
        found = await service.holdings.workers.run(put_aside, made, make, held.path, argument)
        for piece in found:
            yield (made if piece.aside else held.path), piece


async def pieces(
    found: AsyncGenerator[Place, None], writer: MultipartWriter | None = None, content_type: str = ""
) -> AsyncGenerator[bytes, None]:
    """Pieces as parts of the writer's body, or one after the other."""
    async with aclosing(found):
        async for path, piece in found:
            if writer:
                yield writer.head(content_type, size=piece.size)
            if piece.size:
                async for chunk in file_chunks(path, piece.spans):
                    yield chunk
            if writer:
                yield writer.tail()
    if writer:
        yield writer.end()
