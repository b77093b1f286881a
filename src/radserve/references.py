"""Which study, series and instance a value speaks of, and what of their headers travels with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from radserve._checks import check_uid, invalid


@dataclass(frozen=True, slots=True)
class StudyRef:
    """A study, by its Study Instance UID (0020,000D)."""

    study_instance_uid: str

    def __post_init__(self) -> None:
        check_uid("study_instance_uid", self.study_instance_uid)


@dataclass(frozen=True, slots=True)
class SeriesRef:
    """A series of a study, by its Series Instance UID (0020,000E)."""

    study_instance_uid: str
    series_instance_uid: str

    def __post_init__(self) -> None:
        check_uid("study_instance_uid", self.study_instance_uid)
        check_uid("series_instance_uid", self.series_instance_uid)

    @property
    def study(self) -> StudyRef:
        return StudyRef(self.study_instance_uid)


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """An instance (SOP Instance UID, 0008,0018) with its class and its place in study and series."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str

    def __post_init__(self) -> None:
        for name in ("study_instance_uid", "series_instance_uid", "sop_instance_uid", "sop_class_uid"):
            check_uid(name, getattr(self, name))

    @property
    def series(self) -> SeriesRef:
        return SeriesRef(self.study_instance_uid, self.series_instance_uid)


@dataclass(frozen=True, slots=True)
class AcquisitionContext:
    """What the headers say of how an image came about; what routing, intended use and wording read.

    Empty strings and None mean that the header does not say. `age_years` comes from Patient's Age (0010,1010), or from
    the birth date and the study date where only these are there.
    """

    modality: str
    body_part: str = ""
    view_position: str = ""
    laterality: str = ""
    patient_sex: str = ""
    age_years: float | None = None
    study_date: str = ""
    study_description: str = ""
    series_number: int | None = None
    series_description: str = ""
    manufacturer: str = ""
    manufacturer_model_name: str = ""

    def __post_init__(self) -> None:
        if self.age_years is not None and not 0 <= self.age_years < 200:
            raise invalid("age_years", self.age_years, "a number from 0 to 200, or None")


@dataclass(frozen=True, slots=True)
class SourceContext:
    """The header of one instance without its pixels, as opaque Part 10 bytes.

    Only dicom_io looks inside: derived objects (SR and others) copy patient and study attributes from it without
    asking the store again. `repr` never shows the bytes: they hold patient data.
    """

    instance: InstanceRef
    header: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not self.header:
            raise invalid("SourceContext.header", "0 bytes", "a DICOM header")
