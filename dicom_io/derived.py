"""What objects made from a study (SR and others) take over from the headers of their sources."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue

from radserve.errors import DicomError, ErrorCode
from radserve.references import SourceContext

# Type 2 in every IOD (PS3.3 C.7.1.1, C.7.2.1): present, if empty, even where an old source lacks them.
PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_OPTIONAL_PATIENT_AND_STUDY = ("IssuerOfPatientID", "PatientAge", "StudyDescription", "TimezoneOffsetFromUTC")
COPIED = (*PATIENT_AND_STUDY, *_OPTIONAL_PATIENT_AND_STUDY)  # from a source into every derived object
_IMAGE_SINGLE = ("Modality", "Rows", "Columns", "NumberOfFrames", "FrameOfReferenceUID", "SliceThickness")
_IMAGE_MULTIPLE = {
    "PatientOrientation": 2,
    "ImagerPixelSpacing": 2,
    "PixelSpacing": 2,
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
}
_FORMS = {
    "PatientSex": re.compile(r"[MFO]"),
    "PatientBirthDate": re.compile(r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"),
    "StudyDate": re.compile(r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"),
    "StudyTime": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
    "PatientAge": re.compile(r"\d{3}[DWMY]"),
    "TimezoneOffsetFromUTC": re.compile(r"[+-]\d{4}"),
}
_LONGEST = {"PatientID": 64, "StudyID": 16, "AccessionNumber": 16, "IssuerOfPatientID": 64, "StudyDescription": 64}


def source_dataset(source: SourceContext) -> Dataset:
    """Return a clean dataset of the patient, the study and the image plane of a source, without its pixels.

    Type 2 attributes that the source lacks are empty; a value that breaks its VR (a date that is none, a text longer
    than allowed) is left empty too, since a derived object has to be valid. Specific Character Set is kept. UIDs are
    those of `source.instance`. Raises DicomError INVALID_HEADER.
    """
    header = read_header(source.header)
    ds = Dataset()
    if charset := _raw(header, "SpecificCharacterSet"):
        ds.SpecificCharacterSet = charset
    for keyword in PATIENT_AND_STUDY:
        setattr(ds, keyword, _single(header, keyword) or "")
    for keyword in (*_OPTIONAL_PATIENT_AND_STUDY, *_IMAGE_SINGLE):
        if (value := _single(header, keyword)) not in (None, ""):
            setattr(ds, keyword, value)
    for keyword, count in _IMAGE_MULTIPLE.items():
        values = _raw(header, keyword)
        if isinstance(values, MultiValue) and len(values) == count and all(str(value) for value in values):
            setattr(ds, keyword, list(values))
    ds.StudyInstanceUID = source.instance.study_instance_uid
    ds.SeriesInstanceUID = source.instance.series_instance_uid
    ds.SOPInstanceUID = source.instance.sop_instance_uid
    ds.SOPClassUID = source.instance.sop_class_uid
    return ds


def read_header(header: bytes) -> Dataset:
    """The kept header of a source as a dataset. Raises DicomError INVALID_HEADER."""
    try:
        return dcmread(io.BytesIO(header), stop_before_pixels=True)
    except Exception as error:
        raise DicomError(
            ErrorCode.INVALID_HEADER, f"the kept header of a source cannot be read ({type(error).__name__})"
        ) from None


def _raw(header: Dataset, keyword: str) -> Any:
    """The value of an attribute, or None where it is absent or cannot be read as its VR."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote the value
        try:
            return header.get(keyword)
        except Exception:
            return None


def _single(header: Dataset, keyword: str) -> Any:
    value = _raw(header, keyword)
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    if value is None:
        return None
    text = str(value)
    form = _FORMS.get(keyword)
    too_long = len(text) > _LONGEST.get(keyword, len(text))
    return None if too_long or (form and not form.fullmatch(text)) else value
