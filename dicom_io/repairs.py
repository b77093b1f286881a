"""What was read otherwise than the file says it, each with the words before and after: a result lists every one.

The file itself is never changed; a repair holds for what is read from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement

from radserve.dicom_io.element_table import ElementTable
from radserve.dicom_io.plain import Elements, dataset_of, raw_value

SHOWN_KEYWORDS = 3
SPECIFIC_CHARACTER_SET = 0x00080005


@dataclass(frozen=True, slots=True)
class Repair:
    """`what` was `before` and is read as `after`, because of `why`. Plain words without patient data."""

    what: str
    before: str
    after: str
    why: str = ""

    def __str__(self) -> str:
        reason = f" ({self.why})" if self.why else ""
        return f"repair: {self.what}: {self.before} -> {self.after}{reason}"


def header_repairs(elements: Elements) -> tuple[Repair, ...]:
    """The repairs that pydicom makes while it converts the elements of a data set that was just read."""
    return (*_unknown_vrs(elements), *_character_set(elements))


def _unknown_vrs(elements: Elements) -> Iterable[Repair]:
    """PS3.5 6.2.2 note 2: an attribute sent as UN is read with the VR of the data dictionary."""
    if isinstance(elements, ElementTable):
        unknown = [tag for tag, (vr, _, _) in elements.places.items() if vr == "UN"]
    else:
        values = dataset_of(elements).values()
        unknown = [each.tag for each in values if isinstance(each, RawDataElement) and each.VR == "UN"]
    known = [tag for tag in unknown if dictionary_has_tag(tag)]
    if not known:
        return
    named = ", ".join(f"{keyword_for_tag(tag)} {dictionary_VR(tag)}" for tag in known[:SHOWN_KEYWORDS])
    more = f" and {len(known) - SHOWN_KEYWORDS} others" if len(known) > SHOWN_KEYWORDS else ""
    yield Repair("VR", "UN", f"{named}{more}", "data dictionary, PS3.6")


def _character_set(elements: Elements) -> Iterable[Repair]:
    """pydicom reads text of a character set that it does not know as if it were plain ASCII or Latin-1."""
    value = raw_value(elements, SPECIFIC_CHARACTER_SET)
    terms = value.decode("latin-1").split("\\") if isinstance(value, bytes) else []
    unknown = sum(term.strip(" \0") not in python_encoding for term in terms)
    if unknown:
        yield Repair("SpecificCharacterSet", "a term that PS3.3 C.12.1.1.2 does not define", "the nearest that it does")
