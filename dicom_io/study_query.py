"""What is asked of an archive about its studies, and what it says of them: by C-FIND or by QIDO-RS."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """Matching keys of a study (PS3.4 C.2.2.2: wildcards, ranges of dates); empty ones match all."""

    study_instance_uid: str = ""
    patient_id: str = ""
    accession_number: str = ""
    study_date: str = ""
    modality: str = ""
    study_description: str = ""


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study as the archive describes it. It holds patient data: not for logs."""

    study_instance_uid: str
    patient_id: str
    accession_number: str
    study_date: str
    study_time: str
    modalities: tuple[str, ...]
    study_description: str
    instances: int | None
