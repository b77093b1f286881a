"""Where the pixels of an instance are in the patient, as its header or its functional groups say it."""

from __future__ import annotations

from radserve.dicom_io import attributes
from radserve.dicom_io.lookup import functional_groups
from radserve.dicom_io.plain import Elements
from radserve.image import PlanePosition


def pixel_spacing(ds: Elements, frames: int) -> tuple[float, float] | None:
    """(row, column) in mm: Pixel Spacing, else Imager Pixel Spacing; None where frames have different ones."""
    shared, per_frame = functional_groups(ds, "PixelMeasuresSequence", frames)
    own = {attributes.numbers(item, "PixelSpacing", 2) for item in per_frame if item is not None}
    if len(own) > 1:
        return None
    measures = next((item for item in per_frame if item is not None), shared)
    for source, keyword in ((measures, "PixelSpacing"), (ds, "PixelSpacing"), (ds, "ImagerPixelSpacing")):
        found = attributes.numbers(source, keyword, 2) if source is not None else None
        if found and min(found) > 0:
            return found[0], found[1]
    return None


def planes(ds: Elements, frames: int) -> tuple[PlanePosition, ...]:
    """The place of each frame; nothing unless all are known."""
    shared_orientation, orientations = functional_groups(ds, "PlaneOrientationSequence", frames)
    shared_position, positions = functional_groups(ds, "PlanePositionSequence", frames)
    reference = attributes.text(ds, "FrameOfReferenceUID")
    found = []
    for index in range(frames if frames == 1 or positions else 0):
        own_orientation = orientations[index] if orientations else None
        own_position = positions[index] if positions else None
        orientation = attributes.numbers(own_orientation or shared_orientation or ds, "ImageOrientationPatient", 6)
        position = attributes.numbers(own_position or shared_position or ds, "ImagePositionPatient", 3)
        if orientation is None or position is None:
            return ()
        a, b, c, d, e, f = orientation
        x, y, z = position
        found.append(PlanePosition((a, b, c, d, e, f), (x, y, z), reference))
    return tuple(found)
