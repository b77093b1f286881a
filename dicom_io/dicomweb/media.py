"""Media types and what a client accepts (RFC 9110 section 12.5.1, PS3.18 section 8.7)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from radserve.errors import ErrorCode, RequestError

DICOM, DICOM_JSON, OCTETS, MULTIPART = (
    *("application/dicom", "application/dicom+json", "application/octet-stream", "multipart/related"),
)
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
ANY = "*"
# PS3.18 table 8.7.3-5: what the frames of a transfer syntax are outside of DICOM; the first name is answered with.
IMAGE_TYPES: Mapping[str, tuple[str, ...]] = {
    "1.2.840.10008.1.2.5": ("image/dicom-rle", "image/x-dicom-rle"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{tail}" for tail in (50, 51, 57, 70)), ("image/jpeg",)),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{tail}" for tail in (80, 81)), ("image/jls", "image/x-jls")),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{tail}" for tail in (90, 91)), ("image/jp2",)),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{tail}" for tail in (201, 202, 203)), ("image/jphc",)),
}
_TYPE = re.compile(r"\s*([\w!#$&^.+*-]{1,127}/[\w!#$&^.+*-]{1,127})\s*")
_PARAMETER = re.compile(r'\s*;\s*([\w!#$&^.+*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*')
_EMPTY_PARAMETER = re.compile(r"\s*;\s*(?=[;,]|$)")


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type or range, in lower case, with its parameters (names in lower case, values as they are)."""

    name: str
    parameters: Mapping[str, str]

    def covers(self, name: str) -> bool:
        """Whether a range covers a media type."""
        return covers(self.name, name)


def covers(wanted: str, name: str) -> bool:
    """Whether the range `wanted` (*/*, image/*, image/png) covers the media type `name`."""
    kind = name.partition("/")[0]
    return wanted in (name, "*/*", f"{kind}/*")


def media_type(text: str) -> MediaType:
    """Read one media type, as of Content-Type.

    Raises RequestError INVALID_ARGUMENT for text that is none, or a parameter that is there twice.
    """
    found, end = _read(text, 0)
    if end != len(text):
        raise _malformed("media type")
    return found


def accepted(text: str) -> list[MediaType]:
    """The ranges of an Accept header, the most wanted first, without those of quality 0.

    Nothing, or only blanks, accepts everything. Raises RequestError INVALID_ARGUMENT.
    """
    if not text.strip():
        return [MediaType("*/*", {})]
    ranges: list[tuple[float, MediaType]] = []
    at = 0
    while at < len(text):
        found, at = _read(text, at)
        if at < len(text):
            if text[at] != ",":
                raise _malformed("Accept header")
            at += 1
        ranges.append((_quality(found), found))
    wanted = [each for each in ranges if each[0] > 0]
    return [found for _, found in sorted(wanted, key=lambda each: -each[0])]


def _read(text: str, at: int) -> tuple[MediaType, int]:
    head = _TYPE.match(text, at)
    if head is None:
        raise _malformed("media type")
    at = head.end()
    parameters: dict[str, str] = {}
    while at < len(text) and text[at] == ";":
        if empty := _EMPTY_PARAMETER.match(text, at):
            at = empty.end()
            continue
        match = _PARAMETER.match(text, at)
        if match is None:
            raise _malformed("media type parameter")
        name, quoted, plain = match[1].lower(), match[2], match[3]
        if name in parameters:
            raise RequestError(ErrorCode.INVALID_ARGUMENT, f"a media type has the parameter {name[:32]} twice")
        parameters[name] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        at = match.end()
    return MediaType(head[1].lower(), parameters), at


def _quality(found: MediaType) -> float:
    stated = found.parameters.get("q", "1")
    if not re.fullmatch(r"[01](\.\d{0,3})?", stated):
        raise _malformed("quality in the Accept header")
    return float(stated)


def _malformed(what: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_ARGUMENT, f"a {what} cannot be read")


class NotAcceptableError(RequestError):
    """No representation that is offered is accepted (HTTP 406)."""

    def __init__(self, offered: Sequence[str]) -> None:
        super().__init__(
            ErrorCode.INVALID_ARGUMENT, f"none of the accepted media types is offered: {', '.join(offered)}"
        )


@dataclass(frozen=True, slots=True)
class InstanceForm:
    """How instances are to be given: in a multipart body or alone, in one of the transfer syntaxes, best first.

    "*" stands for the one they are stored in.
    """

    multipart: bool
    transfer_syntaxes: tuple[str, ...]

    def choose(self, stored: str) -> str | None:
        """The syntax for an instance that is stored in `stored`; None where none fits."""
        for wanted in self.transfer_syntaxes:
            if wanted in (ANY, stored):
                return stored
            if wanted == EXPLICIT_LITTLE:
                return wanted
        return None


def instance_form(accept: Sequence[MediaType], *, single: bool) -> InstanceForm:
    """The form of instances; `single`: the resource is one instance, which may also be given alone.

    Without a transfer-syntax parameter it is Explicit VR Little Endian (PS3.18 section 8.7.3.5.2). Raises
    NotAcceptableError.
    """
    found: list[tuple[bool, str]] = []
    for each in accept:
        syntax = each.parameters.get("transfer-syntax", EXPLICIT_LITTLE)
        if each.covers(MULTIPART) and covers(each.parameters.get("type", DICOM).lower(), DICOM):
            found.append((True, syntax))
        elif single and each.covers(DICOM):
            found.append((False, syntax))
    if not found:
        raise NotAcceptableError([f'{MULTIPART}; type="{DICOM}"', *([DICOM] if single else [])])
    multipart = found[0][0]
    return InstanceForm(multipart, tuple(dict.fromkeys(syntax for form, syntax in found if form == multipart)))


@dataclass(frozen=True, slots=True)
class FrameForm:
    """How frames are to be given: each of `media_type`, as stored or decoded to Explicit VR Little Endian."""

    multipart: bool
    media_type: str
    transfer_syntax: str
    decoded: bool


def frame_form(accept: Sequence[MediaType], stored: str, *, single: bool) -> FrameForm:
    """The form of frames that are stored in the transfer syntax `stored`; `single`: one is asked for.

    Raises NotAcceptableError.
    """
    for each in accept:
        for multipart, wanted in _wanted_of_frames(each, single):
            if chosen := _frame_of(wanted, each.parameters.get("transfer-syntax"), stored, multipart):
                return chosen
    offered = [OCTETS, *IMAGE_TYPES.get(stored, ())]
    raise NotAcceptableError([f'{MULTIPART}; type="{each}"' for each in offered])


def _wanted_of_frames(each: MediaType, single: bool) -> list[tuple[bool, str]]:
    if each.covers(MULTIPART):
        return [(True, each.parameters.get("type", OCTETS).lower())]
    return [(False, each.name)] if single else []


def _frame_of(wanted: str, syntax: str | None, stored: str, multipart: bool) -> FrameForm | None:
    if syntax in (ANY, stored) and stored != EXPLICIT_LITTLE:
        names = (OCTETS, *IMAGE_TYPES.get(stored, ()))
        name = next((name for name in names if covers(wanted, name)), None)
        return FrameForm(multipart, name, stored, decoded=False) if name else None
    if covers(wanted, OCTETS) and syntax in (None, ANY, EXPLICIT_LITTLE):
        return FrameForm(multipart, OCTETS, EXPLICIT_LITTLE, decoded=True)
    if syntax is None:
        name = next((name for name in IMAGE_TYPES.get(stored, ()) if covers(wanted, name)), None)
        return FrameForm(multipart, name, stored, decoded=False) if name else None
    return None


def choose(accept: Sequence[MediaType], offered: Sequence[str]) -> str:
    """The first of the offered media types that the most wanted range covers. Raises NotAcceptableError."""
    for each in accept:
        for name in offered:
            if each.covers(name):
                return name
    raise NotAcceptableError(offered)
