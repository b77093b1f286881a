"""multipart/related bodies (RFC 2046 section 5.1, RFC 2387) read from and written to a stream, a piece at a time."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from radserve.dicom_io.dicomweb.media import DICOM, MULTIPART, MediaType
from radserve.errors import ErrorCode, RequestError

MOST_BOUNDARY = 200  # RFC 2046 section 5.1.1 has 70; Orthanc 1.10 sends 73
BOUNDARY = re.compile(rf"[0-9A-Za-z'()+_,\-./:=? ]{{0,{MOST_BOUNDARY - 1}}}[0-9A-Za-z'()+_,\-./:=?]")
CRLF = b"\r\n"


@dataclass(frozen=True, slots=True)
class MultipartLimits:
    """What a body may have besides the data of its parts: the reader keeps no more of it than this."""

    header_bytes: int = 8192
    headers: int = 32
    padding_bytes: int = 256
    preamble_bytes: int = 64 << 10
    parts: int = 20_000


@dataclass(frozen=True, slots=True)
class PartStart:
    """A part begins; names of headers in lower case."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is whole."""


Event = PartStart | PartEnd | bytes


def boundary_of(content_type: MediaType) -> bytes:
    """The boundary of a multipart media type. Raises RequestError INVALID_ARGUMENT."""
    boundary = content_type.parameters.get("boundary", "")
    if not BOUNDARY.fullmatch(boundary):
        raise _malformed(f"has no boundary of 1 to {MOST_BOUNDARY} characters (it has {len(boundary)})")
    return boundary.encode("ascii")


class _State(Enum):
    PREAMBLE = auto()
    DELIMITER = auto()
    HEADERS = auto()
    FIRST = auto()
    DATA = auto()
    END = auto()


class MultipartReader:
    """Give it the bytes in any pieces; it gives starts, data and ends of parts, and keeps only what is undecided.

    All raise RequestError: INVALID_ARGUMENT where the body is not multipart or has another boundary, TRUNCATED at
    `close` where it ended early, REQUEST_TOO_LARGE beyond a limit.
    """

    def __init__(self, boundary: bytes, limits: MultipartLimits | None = None) -> None:
        self._delimiter = CRLF + b"--" + boundary
        self._limits = limits or MultipartLimits()
        self._buffer = bytearray(CRLF)  # the first delimiter needs none before it
        self._state = _State.PREAMBLE
        self._parts = 0
        self._skipped = 0

    @property
    def at_end(self) -> bool:
        """Whether the last delimiter was read; what follows is ignored."""
        return self._state is _State.END

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes."""
        if self.at_end:
            return
        self._buffer += data
        while (events := self._step()) is not None:
            yield from events

    def close(self) -> None:
        """The body ended."""
        if self._state is _State.PREAMBLE and self._skipped:
            raise _malformed("ends before its last boundary: it has none like that of its Content-Type")
        if not self.at_end:
            raise RequestError(ErrorCode.TRUNCATED, "the multipart body ends before its last boundary")
        if not self._parts:
            raise _malformed("has no part")

    def _step(self) -> list[Event] | None:
        """Go on by one state; None where more bytes are needed or none are wanted."""
        match self._state:
            case _State.PREAMBLE:
                return self._preamble()
            case _State.DELIMITER:
                return self._after_delimiter()
            case _State.HEADERS:
                return self._headers()
            case _State.FIRST:
                return self._first()
            case _State.DATA:
                return self._data()
            case _State.END:
                return None

    def _preamble(self) -> list[Event] | None:
        before, found = self._until_delimiter()
        self._skipped += len(before)
        if self._skipped > self._limits.preamble_bytes:
            raise _malformed(f"does not show its boundary within {self._limits.preamble_bytes} bytes")
        return [] if found else None

    def _after_delimiter(self) -> list[Event] | None:
        if len(self._buffer) < 2:
            return None
        if self._buffer.startswith(b"--"):
            self._buffer.clear()
            self._state = _State.END
            return None
        at = self._buffer.find(CRLF)
        padding = bytes(self._buffer[: at if at >= 0 else len(self._buffer)]).rstrip(b"\r")
        if padding.strip(b" \t") or len(padding) > self._limits.padding_bytes:
            raise _malformed("has something else behind a boundary")
        if at < 0:
            return None
        self._parts += 1
        if self._parts > self._limits.parts:
            raise RequestError(ErrorCode.REQUEST_TOO_LARGE, f"the body has more than {self._limits.parts} parts")
        del self._buffer[:at]
        self._state = _State.HEADERS
        return []

    def _headers(self) -> list[Event] | None:
        at = self._buffer.find(CRLF + CRLF)
        if at > self._limits.header_bytes or (at < 0 and len(self._buffer) > self._limits.header_bytes):
            text = f"the headers of a part have more than {self._limits.header_bytes} bytes"
            raise RequestError(ErrorCode.REQUEST_TOO_LARGE, text)
        if at < 0:
            return None
        headers = self._parsed(bytes(self._buffer[:at]))
        del self._buffer[: at + len(CRLF)]  # the second may be that of a delimiter
        self._state = _State.FIRST
        return [PartStart(headers)]

    def _first(self) -> list[Event] | None:
        """The line end before the data may be that of the next delimiter: then there is no data."""
        if self._buffer.startswith(self._delimiter):
            del self._buffer[: len(self._delimiter)]
            self._state = _State.DELIMITER
            return [PartEnd()]
        if self._delimiter.startswith(self._buffer):
            return None
        del self._buffer[: len(CRLF)]
        self._state = _State.DATA
        return []

    def _data(self) -> list[Event] | None:
        before, found = self._until_delimiter()
        events: list[Event] = [before] if before else []
        if found:
            return [*events, PartEnd()]
        return events or None

    def _until_delimiter(self) -> tuple[bytes, bool]:
        """Take what comes before the next delimiter, and the delimiter with it; or what is certainly before it."""
        at = self._buffer.find(self._delimiter)
        size = at if at >= 0 else self._certain()
        before = bytes(self._buffer[:size])
        del self._buffer[: size + (len(self._delimiter) if at >= 0 else 0)]
        if at >= 0:
            self._state = _State.DELIMITER
        return before, at >= 0

    def _certain(self) -> int:
        """How many bytes cannot be part of a delimiter that is not whole yet."""
        start = max(0, len(self._buffer) - len(self._delimiter) + 1)
        at = self._buffer.find(b"\r", start)
        while at >= 0 and not self._delimiter.startswith(self._buffer[at:]):
            at = self._buffer.find(b"\r", at + 1)
        return at if at >= 0 else len(self._buffer)

    def _parsed(self, block: bytes) -> Mapping[str, str]:
        headers: dict[str, str] = {}
        lines = re.sub(rb"\r\n[ \t]+", b" ", block).split(CRLF)[1:]
        if len(lines) > self._limits.headers:
            raise RequestError(ErrorCode.REQUEST_TOO_LARGE, f"a part has more than {self._limits.headers} headers")
        for line in lines:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or name.lower() in headers:
                raise _malformed("has a part with headers that cannot be read")
            headers[name.lower()] = value.strip()
        return headers


class MultipartWriter:
    """Heads of parts and the end of a body with a boundary of its own."""

    def __init__(self, part_type: str = DICOM) -> None:
        self._boundary = secrets.token_hex(16)
        self.content_type = f'{MULTIPART}; type="{part_type}"; boundary={self._boundary}'

    def head(self, content_type: str, *, size: int | None = None, location: str = "") -> bytes:
        """What comes before the data of a part."""
        lines = [f"--{self._boundary}", f"Content-Type: {content_type}"]
        if size is not None:
            lines.append(f"Content-Length: {size}")
        if location:
            lines.append(f"Content-Location: {location}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def tail(self) -> bytes:
        """What comes after the data of a part."""
        return CRLF

    def end(self) -> bytes:
        """What comes after the last part."""
        return f"--{self._boundary}--\r\n".encode("ascii")


def _malformed(problem: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_ARGUMENT, f"the multipart body {problem}")
