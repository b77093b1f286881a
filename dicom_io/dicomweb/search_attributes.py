"""Which attributes QIDO-RS (PS3.18 section 10.6) matches and returns here, and where the index or a header has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from pydicom.datadict import dictionary_VR, tag_for_keyword

# Keywords and columns of the index; those without one are computed.
STUDY = {
    "StudyDate": "study_date",
    "StudyTime": "study_time",
    "AccessionNumber": "accession_number",
    "InstanceAvailability": "",
    "ModalitiesInStudy": "modality",
    "ReferringPhysicianName": "referring_physician_name",
    "StudyDescription": "study_description",
    "RetrieveURL": "",
    "PatientName": "patient_name",
    "PatientID": "patient_id",
    "PatientBirthDate": "patient_birth_date",
    "PatientSex": "patient_sex",
    "StudyInstanceUID": "study_instance_uid",
    "StudyID": "study_id",
    "NumberOfStudyRelatedSeries": "",
    "NumberOfStudyRelatedInstances": "",
}
SERIES = {
    "Modality": "modality",
    "SeriesDescription": "series_description",
    "SeriesInstanceUID": "series_instance_uid",
    "SeriesNumber": "series_number",
    "NumberOfSeriesRelatedInstances": "",
}
SERIES_IF_ASKED = {
    "BodyPartExamined": "body_part",
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "manufacturer_model_name",
}
INSTANCE = {
    "SOPClassUID": "sop_class_uid",
    "SOPInstanceUID": "sop_instance_uid",
    "InstanceNumber": "instance_number",
    "Rows": "image_rows",
    "Columns": "image_columns",
    "NumberOfFrames": "frames",
    "AvailableTransferSyntaxUID": "transfer_syntax_uid",
}
# PS3.18 tables 10.6.3-4 and 10.6.3-5: what is returned if it is known. Of the other attributes of patient, study and
# series those that worklists and viewers ask for; at the level of instances whatever is asked for is returned.
REQUIRED_OF_SERIES = (
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "RequestAttributesSequence",
)
STEPS = {"PerformedProcedureStepStartDate": "start_date", "PerformedProcedureStepStartTime": "start_time"}
STUDY_IN_HEADER = (
    *("IssuerOfPatientID", "OtherPatientIDs", "PatientBirthTime", "PatientAge", "PatientSize", "PatientWeight"),
    *("EthnicGroup", "PatientComments", "NameOfPhysiciansReadingStudy", "AdmittingDiagnosesDescription"),
    *("ProcedureCodeSequence", "InstitutionName"),
)
SERIES_IN_HEADER = (
    *("SeriesDate", "SeriesTime", "ProtocolName", "Laterality", "PatientPosition", "FrameOfReferenceUID"),
    *("PerformingPhysicianName", "OperatorsName", "InstitutionalDepartmentName", "StationName"),
    *("DeviceSerialNumber", "SoftwareVersions", "PerformedProcedureStepID", "PerformedProcedureStepDescription"),
)
_OF_REQUESTS = {
    "ScheduledProcedureStepID": "scheduled_procedure_step_id",
    "RequestedProcedureID": "requested_procedure_id",
}


class Level(IntEnum):
    """What one result stands for."""

    STUDY = 0
    SERIES = 1
    INSTANCE = 2


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute that can be matched (`column` of the index) or is only returned (no column: it is computed).

    `always`: it is returned without being asked for. `in_header`: it is read from the header of an instance, and left
    out where that does not have it. `within`: the sequence whose items have it; these are returned with the sequence.
    """

    keyword: str
    level: Level
    column: str = ""
    always: bool = True
    in_header: bool = False
    within: str = ""

    @property
    def tag(self) -> str:
        """Its tag; behind that of the sequence that it is within, and a dot (PS3.18 8.3.4.1)."""
        tags = [f"{tag_for_keyword(keyword):08X}" for keyword in (self.within, self.keyword) if keyword]
        return ".".join(tags)

    @property
    def vr(self) -> str:
        return dictionary_VR(self.keyword)

    @property
    def matching(self) -> str:
        """How it is matched, in words."""
        if not self.column:
            return "none"
        kinds = {"UI": "list of UIDs", "DA": "date or range", "TM": "time or range", "IS": "number", "US": "number"}
        return kinds.get(self.vr, "wildcards")


def _attributes() -> Iterable[Attribute]:
    for keywords, level, always in (
        (STUDY, Level.STUDY, True),
        (SERIES, Level.SERIES, True),
        (SERIES_IF_ASKED, Level.SERIES, False),
        (INSTANCE, Level.INSTANCE, True),
    ):
        for keyword, column in keywords.items():
            yield Attribute(keyword, level, column, always)
    for names, level, always in (
        (("TimezoneOffsetFromUTC",), Level.STUDY, True),
        (STUDY_IN_HEADER, Level.STUDY, False),
        (REQUIRED_OF_SERIES, Level.SERIES, True),
        (SERIES_IN_HEADER, Level.SERIES, False),
        (("BitsAllocated",), Level.INSTANCE, True),
    ):
        for keyword in names:
            yield Attribute(keyword, level, STEPS.get(keyword, ""), always, in_header=True)


def _by_tag(attributes: Iterable[Attribute]) -> Mapping[str, Attribute]:
    return {each.tag: each for each in attributes}


ATTRIBUTES = _by_tag(_attributes())
OF_REQUESTS = _by_tag(
    Attribute(keyword, Level.SERIES, column, within="RequestAttributesSequence")
    for keyword, column in _OF_REQUESTS.items()
)
