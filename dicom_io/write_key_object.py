"""The images that count as a Key Object Selection: those with positive findings, or those that were found negative.

Positive: title Of Interest (113000, DCM), the frames that positive findings stand on, each finding in the description.
Negative: title For Report Attachment (113020, DCM), the frames that were looked at, and words that say so: an
explicit negative result for archives that show no SR. Titles are of CID 7010.
"""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
from pydicom import Dataset
from pydicom.sr.codedict import codes

from radserve.dicom_io.part10 import quiet
from radserve.dicom_io.write_base import (
    DRAFT,
    OutputKind,
    identify,
    join_study,
    negative_text,
    on_image,
    positives,
    reference,
    sources_of,
    to_bytes,
)
from radserve.dicom_io.write_sr import device_observer, texts_of
from radserve.findings import Finding
from radserve.image import Image
from radserve.results import StudyResult


def write_key_object(result: StudyResult, images: Sequence[Image]) -> tuple[bytes, ...]:
    """Return one Key Object Selection Document as Part 10 bytes; `images` are not looked at.

    Raises RadserveError INVALID_ARGUMENT for a source that is missing, DicomError INVALID_HEADER.
    """
    del images
    with quiet():
        return (to_bytes(_document(result)),)


def _document(result: StudyResult) -> Dataset:
    sources = sources_of(result)
    found = positives(result)
    frames = _frames(found or result.findings)
    chosen = [sources[uid] for uid in frames]
    content = hd.ko.KeyObjectSelection(
        document_title=codes.DCM.OfInterest if found else codes.DCM.ForReportAttachment,
        referenced_objects=chosen,
        observer_device_context=device_observer(result.pack),
        description=_description(result, found),
    )
    for item in content[0].ContentSequence:
        if "ReferencedSOPSequence" in item:
            uid = item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            item.ValueType = "IMAGE"  # highdicom says COMPOSITE of a source whose header has no size
            item.ReferencedSOPSequence = [_referenced(sources[uid], frames[uid])]
    identity = identify(result, OutputKind.KEY_OBJECT)
    document = hd.ko.KeyObjectSelectionDocument(
        evidence=chosen,
        content=content,
        series_instance_uid=identity.series_instance_uid,
        series_number=identity.series_number,
        sop_instance_uid=identity.sop_instance_uid,
        instance_number=identity.instance_number,
        specific_character_set=None,
    )
    return join_study(document, chosen[0], result.pack, identity.series_description, texts_of(result))


def _frames(findings: Sequence[Finding]) -> dict[str, list[int]]:
    """The frames to show of each instance, ascending."""
    frames: dict[str, set[int]] = {}
    for finding in findings:
        frames.setdefault(finding.region.instance.sop_instance_uid, set()).add(finding.region.frame)
    return {uid: sorted(numbers) for uid, numbers in frames.items()}


def _referenced(source: Dataset, frames: list[int]) -> Dataset:
    item = reference(source, frames[0])
    if "ReferencedFrameNumber" in item:
        item.ReferencedFrameNumber = frames
    return item


def _description(result: StudyResult, found: Sequence[Finding]) -> str:
    listed = ", ".join(on_image(finding) for finding in found)
    return f"{DRAFT}: {listed or negative_text(result.findings)}"
