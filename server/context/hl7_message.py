"""HL7 version 2 messages in their standard encoding: segments, fields, components, escapes (HL7 v2.5.1 chapter 2).

Strict: what is not well formed is refused with its place, never guessed. Texts of errors name segments and fields, not
values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from radserve.errors import ErrorCode, RequestError

MAX_BYTES = 1 << 20
SEGMENT_NAME = re.compile(rb"[A-Z][A-Z0-9]{2}")
START_BLOCK, END_BLOCK = b"\x0b", b"\x1c"  # of MLLP, which files at times keep
# HL7 table 0211, as far as Python has the encodings; "" stands for no statement.
CHARACTER_SETS = {
    "": "utf-8",  # ASCII is the default; what goes beyond it is taken where it is UTF-8
    "ASCII": "ascii",
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5",
    "KS X 1001": "euc_kr",
}
FORMATTING = re.compile(r"\.(br|ce|fi|nf|sp\d*|sk\d*|in[+-]?\d*|ti[+-]?\d*)")


def context_error(where: str, problem: str) -> RequestError:
    """The error for a context that cannot be read; neither part may hold a value of the message."""
    return RequestError(ErrorCode.CONTEXT_INVALID, f"{where}: {problem}")


@dataclass(frozen=True, slots=True)
class Encoding:
    """The separators of a message and its character set."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str
    character_set: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment: its name, its place in the message (from 1), and its fields as they stand, from number 1."""

    name: str
    number: int
    fields: tuple[str, ...]
    encoding: Encoding

    def where(self, field: int = 0) -> str:
        """The place for an error's text: "segment 3 (OBX-5)"."""
        return f"segment {self.number} ({self.name}{f'-{field}' if field else ''})"

    def repetitions(self, field: int) -> tuple[tuple[str, ...], ...]:
        """The repetitions of a field, each with its components; subcomponents are joined by a space.

        Escapes are resolved; `""`, the HL7 null, is nothing. Raises RequestError CONTEXT_INVALID for a bad escape.
        """
        raw = self.fields[field - 1] if field <= len(self.fields) else ""
        encoding = self.encoding
        if raw in ("", '""'):
            return ()
        return tuple(
            tuple(
                " ".join(filter(None, (self._text(part, field) for part in component.split(encoding.subcomponent))))
                for component in repetition.split(encoding.component)
            )
            for repetition in raw.split(encoding.repetition)
        )

    def text(self, field: int, component: int = 1) -> str:
        """A component of the first repetition of a field, "" where there is none."""
        first = next(iter(self.repetitions(field)), ())
        return first[component - 1] if component <= len(first) else ""

    def _text(self, raw: str, field: int) -> str:
        escape = self.encoding.escape
        if escape not in raw:
            return "" if raw == '""' else raw
        parts = raw.split(escape)
        if not len(parts) % 2:
            raise context_error(self.where(field), "an escape sequence without its end")
        return "".join(part if not at % 2 else self._unescaped(part, field) for at, part in enumerate(parts))

    def _unescaped(self, code: str, field: int) -> str:
        encoding = self.encoding
        known = {
            "F": encoding.field,
            "S": encoding.component,
            "T": encoding.subcomponent,
            "R": encoding.repetition,
            "E": encoding.escape,
            "H": "",  # highlighting begins and ends
            "N": "",
        }
        if code in known:
            return known[code]
        if FORMATTING.fullmatch(code):
            return _formatting(code)
        if code[:1] == "X" and len(code) > 1:
            try:
                return bytes.fromhex(code[1:]).decode(encoding.character_set)
            except ValueError:
                raise context_error(self.where(field), "a hexadecimal escape that is no text") from None
        raise context_error(self.where(field), "an unknown escape sequence")


@dataclass(frozen=True, slots=True)
class Message:
    """A message; the first segment is MSH, whose fields 1 and 2 are the separators."""

    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        return self.segments[0]

    def named(self, name: str) -> Iterator[Segment]:
        """The segments of a name, in their order."""
        return (segment for segment in self.segments if segment.name == name)


def read_message(data: bytes) -> Message:
    """Read one message. Raises RequestError CONTEXT_INVALID, which names the segment and the field."""
    if len(data) > MAX_BYTES:
        raise context_error("the message", f"it has {len(data)} bytes, expected at most {MAX_BYTES}")
    body = data.strip(b"\r\n").removeprefix(START_BLOCK).rstrip(b"\r\n").removesuffix(END_BLOCK)
    lines = [line for line in re.split(rb"\r\n|\r|\n", body) if line]
    if not lines or lines[0][:3] != b"MSH":
        raise context_error("segment 1", "a message begins with MSH")
    encoding = _encoding(lines[0])
    return Message(tuple(_segment(line, number, encoding) for number, line in enumerate(lines, start=1)))


def _encoding(header: bytes) -> Encoding:
    where = "segment 1 (MSH-2)"
    separator = header[3:4]
    marks = header[4:].split(separator, 1)[0] if separator else b""
    if len(marks) not in (4, 5):  # the fifth, of version 2.7, marks what was cut
        raise context_error(where, f"{len(marks)} encoding characters, expected 4")
    found = (separator + marks).decode("latin-1")
    if len(set(found)) != len(found) or any(not "!" <= each <= "~" or each.isalnum() for each in found):
        raise context_error(where, "the separators are not different printable marks")
    fields = header.split(separator)
    stated = fields[17] if len(fields) > 17 else b""
    name = stated.split(found[2].encode())[0].decode("ascii", "replace").strip()
    if name not in CHARACTER_SETS:
        raise context_error("segment 1 (MSH-18)", f"the character set {name[:20]!r} is not supported")
    return Encoding(found[0], found[1], found[2], found[3], found[4], CHARACTER_SETS[name])


def _segment(line: bytes, number: int, encoding: Encoding) -> Segment:
    name, rest = line[:3], line[3:]
    if not SEGMENT_NAME.fullmatch(name) or rest[:1] not in (b"", encoding.field.encode()):
        raise context_error(f"segment {number}", "it does not begin with a name of three characters and a separator")
    fields = []
    # MSH-1 is the separator itself.
    raw = [encoding.field.encode(), *rest[1:].split(encoding.field.encode())] if name == b"MSH" else []
    for at, value in enumerate(raw or rest[1:].split(encoding.field.encode()), start=1):
        try:
            fields.append(value.decode(encoding.character_set))
        except UnicodeDecodeError:
            where = f"segment {number} ({name.decode()}-{at})"
            raise context_error(where, f"bytes that are not of the character set {encoding.character_set}") from None
    return Segment(name.decode(), number, tuple(fields), encoding)


def _formatting(code: str) -> str:
    """The formatting commands of FT fields (2.7.6) as plain text."""
    kind, count = code[1:3], code[3:]
    if kind in ("br", "ce"):
        return "\n"
    if kind == "sp":
        return "\n" * min(int(count or 1), 10)
    return " " * min(int(count or 1), 80) if kind == "sk" else ""
