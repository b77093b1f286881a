"""The elements of a little-endian data set as they stand in its bytes: read when they are asked for, one by one.

Of the hundred elements of a slice two dozen are looked at. Making pydicom's objects of all takes longer than decoding
the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from radserve.dicom_io.nested import Buffer

SPECIFIC_CHARACTER_SET = 0x00080005
PIXEL_REPRESENTATION = 0x00280103  # by it pydicom takes one of two VRs that an attribute may have
Place = tuple[str | None, int, int]  # VR (None where implicit), where the value begins, its length


class ElementTable:
    """The elements of `data`: `places` says where each is, by tag, in the order of the tags.

    `encoding` are the character sets of its texts, by their names in Python. What pydicom raises for ones that are no
    names at all is raised on construction, as by its own reading of a data set. `asked` notes the tags of the elements
    that were looked at: another data set that has the same ones says the same.
    """

    def __init__(
        self, data: Buffer, places: Mapping[int, Place], implicit: bool, encoding: str | list[str] | None = None
    ) -> None:
        self.data = data
        self.places = places
        self.implicit = implicit
        self.encoding = encoding or self._encoding()
        self.asked: set[int] = set()
        self._dataset: Dataset | None = None

    def __contains__(self, keyword: str) -> bool:
        tag = tag_for_keyword(keyword)
        if tag is not None:
            self.asked.add(tag)
        return tag in self.places

    def get(self, keyword: str) -> object:
        """As Dataset.get."""
        tag = tag_for_keyword(keyword)
        if tag is not None:
            self.asked |= {tag, SPECIFIC_CHARACTER_SET, PIXEL_REPRESENTATION}
        return self._all().get(keyword)

    def raw(self, tag: int) -> tuple[str | None, bytes] | None:
        """VR and value as it stands there; None where absent."""
        self.asked.add(tag)
        place = self.places.get(tag)
        if place is None:
            return None
        vr, at, length = place
        return vr, self.data[at : at + length]

    def value_of(self, tag: int) -> bytes:
        """The value of an element that is there; this is no question that `asked` would note."""
        _, at, length = self.places[tag]
        return self.data[at : at + length]

    @property
    def dataset(self) -> Dataset:
        """All elements, the same object each time."""
        self.asked |= self.places.keys()
        return self._all()

    def _all(self) -> Dataset:
        if self._dataset is None:
            self._dataset = Dataset({BaseTag(tag): self._element(tag) for tag in self.places})
            self._dataset.set_original_encoding(self.implicit, True, self.encoding)
        return self._dataset

    def _encoding(self) -> str | list[str]:
        if SPECIFIC_CHARACTER_SET not in self.places:
            return default_encoding
        stated = convert_raw_data_element(self._element(SPECIFIC_CHARACTER_SET))
        return list(convert_encodings(stated.value))

    def _element(self, tag: int) -> RawDataElement:
        vr, at, length = self.places[tag]
        value = self.data[at : at + length] if length else empty_value_for_VR(vr, raw=True)
        return RawDataElement(BaseTag(tag), vr, length, value, at, self.implicit, True)  # type: ignore[arg-type]
