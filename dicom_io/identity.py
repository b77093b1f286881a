"""Which instance an object of ours is: results are read back, whose bytes this software wrote."""

from __future__ import annotations

import io

from pydicom import dcmread

from radserve.references import InstanceRef

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def instance_of(part10: bytes) -> InstanceRef:
    """The UIDs of a Part 10 object."""
    found = dcmread(io.BytesIO(part10), specific_tags=list(UIDS))
    return InstanceRef(*(str(found[uid].value) for uid in UIDS))
