"""Headers of slices that are alike but for a few elements: what one of them says need not be read from the next again.

The header of a slice is a row of bytes, of which nearly all are those of the slice before. Where they are, nothing that
was read from them can be different; the elements between them, those that differ (instance UID, number, position,
times), are stepped over by their lengths.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace

from radserve.dicom_io.element_table import SPECIFIC_CHARACTER_SET, ElementTable, Place
from radserve.dicom_io.nested import LONG_VRS, UNDEFINED_LENGTH, Buffer, OddError, element_at, end_of_items
from radserve.dicom_io.part10 import DicomFile, PixelElement
from radserve.dicom_io.scan import DELIMITER_BYTES

TRANSFER_SYNTAX_UID = 0x00020010
NO_LENGTH = b"\xff\xff\xff\xff"  # two bytes of VR and two of a short length never are
READ_TO_OPEN = frozenset((TRANSFER_SYNTAX_UID, SPECIFIC_CHARACTER_SET))


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes that are the same, the places in them, and the element that follows, None at the pixels."""

    same: bytes
    places: tuple[tuple[int, Place], ...]
    differing: tuple[int, str | None] | None
    implicit: bool


@dataclass(frozen=True, slots=True)
class HeaderForm:
    """A header as the parts of it that others have too. Made by `form_of`."""

    file: DicomFile
    meta: ElementTable
    elements: ElementTable
    pixels: PixelElement
    parts: tuple[_Part, ...]

    def read(self, data: Buffer) -> DicomFile | None:
        """What `open_dicom` makes of a file with these bytes; None where its header has another form."""
        try:
            found = self._places(data)
        except (OddError, struct.error):
            return None
        if found is None:
            return None
        places, at = found
        rows, count = list(places.items()), len(self.meta.places)
        return replace(
            self.file,
            elements=ElementTable(data, dict(rows[count:]), self.elements.implicit, self.elements.encoding),
            meta_elements=ElementTable(data, dict(rows[:count]), self.meta.implicit, self.meta.encoding),
            data=data,
            pixels=replace(self.pixels, offset=at),
            end=at - (self.pixels.offset - self.file.end),
        )

    def _places(self, data: Buffer) -> tuple[dict[int, Place], int] | None:
        """The places of all elements, and where the pixels begin."""
        places: dict[int, Place] = {}
        at = 0
        for part in self.parts:
            end = at + len(part.same)
            if data[at:end] != part.same:
                return None
            for tag, (vr, offset, length) in part.places:
                places[tag] = vr, at + offset, length
            at = end
            if part.differing is not None:
                tag, vr = part.differing
                own_tag, own_vr, length, value_at = element_at(data, at, part.implicit)
                if length != UNDEFINED_LENGTH:
                    at = value_at + length
                elif part.implicit or own_vr == "SQ":
                    at, own_vr = end_of_items(data, value_at, part.implicit), "SQ"
                    length = at - DELIMITER_BYTES - value_at
                if (own_tag, own_vr) != (tag, vr):
                    return None
                places[tag] = vr, value_at, length
        return places, at


def form_of(file: DicomFile, differing: Set[int]) -> HeaderForm | None:
    """The form of the header of a file with other values of the elements `differing`; None where it has none.

    What a file is opened by is the same in all files of a form.
    """
    meta, elements = file.meta_elements, file.elements
    if not isinstance(meta, ElementTable) or not isinstance(elements, ElementTable) or file.pixels is None:
        return None
    if meta.data is not file.data or elements.data is not file.data:
        return None
    parts: list[_Part] = []
    begin = 0
    within: list[tuple[int, Place]] = []
    for table in (meta, elements):
        for tag, place in table.places.items():
            vr, value_at, length = place
            if tag not in differing or tag in READ_TO_OPEN:
                within.append((tag, (vr, value_at - begin, length)))
                continue
            start = value_at - (12 if vr in LONG_VRS and not table.implicit else 8)
            parts.append(_Part(file.data[begin:start], tuple(within), (tag, vr), table.implicit))
            begin, within = value_at + length, []
            if file.data[value_at - 4 : value_at] == NO_LENGTH:
                begin += DELIMITER_BYTES
    parts.append(_Part(file.data[begin : file.pixels.offset], tuple(within), None, elements.implicit))
    return HeaderForm(file, meta, elements, file.pixels, tuple(parts))


def differences(one: DicomFile, other: DicomFile) -> frozenset[int] | None:
    """The tags of elements with other values; None where the files do not have the same elements."""
    found: list[int] = []
    for first, second in ((one.meta_elements, other.meta_elements), (one.elements, other.elements)):
        if not isinstance(first, ElementTable) or not isinstance(second, ElementTable):
            return None
        if list(_kinds(first)) != list(_kinds(second)):
            return None
        found += [tag for tag in first.places if first.value_of(tag) != second.value_of(tag)]
    return frozenset(found)


def _kinds(table: ElementTable) -> Iterable[tuple[int, str | None]]:
    return ((tag, place[0]) for tag, place in table.places.items())
