"""What the HTTP resources work with, given to them by the composition root, and what they all do."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from radserve.dicom_io.dicomweb.holdings import Holdings
from radserve.dicom_io.dicomweb.media import MediaType, accepted
from radserve.dicom_io.durable import storage_error
from radserve.dicom_io.reserve import DiskReserve
from radserve.errors import ErrorCode, RequestError
from radserve.ports import WorkLedger
from radserve.server.web.limits import WebLimits

ROOT = "/dicom-web"
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WebService:
    """The parts. `scratch` is an empty folder of ours; `public_url` is how clients reach the server, "" as they say."""

    holdings: Holdings
    ledger: WorkLedger
    reserve: DiskReserve
    scratch: Path
    public_url: str = ""
    limits: WebLimits = field(default_factory=WebLimits)

    def base_url(self, request: Request) -> str:
        """The address of the DICOMweb service, for links in answers."""
        origin = self.public_url.rstrip("/") or f"{request.url.scheme}://{request.url.netloc}"
        return f"{origin}{ROOT}"

    def parameters(self, request: Request) -> list[tuple[str, str]]:
        """The query parameters but for `accept`. Raises RequestError INVALID_ARGUMENT."""
        return [(key, value) for key, value in self._query(request) if key != "accept"]

    def accept(self, request: Request) -> list[MediaType]:
        """What the client accepts; the query parameter wins (PS3.18 section 8.3.3.1)."""
        in_query = [value for key, value in self._query(request) if key == "accept"]
        return accepted(",".join(in_query) or ",".join(request.headers.getlist("accept")))

    def _query(self, request: Request) -> list[tuple[str, str]]:
        try:
            return parse_qsl(
                request.scope["query_string"].decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=self.limits.query_fields,
            )
        except ValueError:  # its text may quote a value
            raise RequestError(ErrorCode.INVALID_ARGUMENT, "the query string cannot be read") from None

    @asynccontextmanager
    async def scratch_file(self) -> AsyncIterator[Path]:
        """A path for a file that is gone afterwards."""
        path = self.scratch / secrets.token_hex(16)
        try:
            yield path
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)


class Streamed(StreamingResponse):
    """Bytes as they are made, `size` of them where that is known.

    What makes them is closed in any case, also when the client goes away.
    """

    def __init__(self, chunks: AsyncGenerator[bytes, None], media_type: str, *, size: int | None = None) -> None:
        headers = {} if size is None else {"Content-Length": str(size)}
        super().__init__(chunks, headers=headers, media_type=media_type)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._chunks.aclose()


async def begun(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same chunks, the first of which is made already: what fails at the start can still be answered."""
    try:
        first = await anext(chunks)
    except BaseException:
        await chunks.aclose()
        raise

    async def rest() -> AsyncGenerator[bytes, None]:
        try:
            yield first
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    return rest()


async def file_chunks(path: Path, spans: Sequence[tuple[int, int]] | None = None) -> AsyncGenerator[bytes, None]:
    """A file, or spans (start, stop) of it, in chunks. Raises StorageError."""
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise storage_error(error) from None
    with file:
        for start, stop in spans or ((0, path.stat().st_size),):
            file.seek(start)
            left = stop - start
            while left:
                chunk = await asyncio.to_thread(file.read, min(CHUNK_BYTES, left))
                if not chunk:
                    raise RequestError(ErrorCode.INTERNAL, "a stored file is shorter than it was")
                left -= len(chunk)
                yield chunk
