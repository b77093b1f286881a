"""What the requester said of a study."""

from __future__ import annotations

from dataclasses import dataclass

from radserve._checks import check_uid, invalid


@dataclass(frozen=True, slots=True)
class LaboratoryValue:
    """A laboratory value as the requester gave it."""

    name: str
    value: str
    unit: str = ""


DIAGNOSIS, ALLERGY = "Diagnosis: ", "Allergy: "
HISTORY_LINES = (DIAGNOSIS, ALLERGY)


@dataclass(frozen=True, slots=True)
class ClinicalContext:
    """What the requester said of the patient. It stands in the draft word for word and is never silently dropped.

    `indication` may have several lines; those that begin with one of HISTORY_LINES are of the patient's history.
    """

    indication: str = ""
    age_years: float | None = None
    sex: str = ""
    laboratory_values: tuple[LaboratoryValue, ...] = ()
    prior_study_instance_uid: str = ""

    def __post_init__(self) -> None:
        if self.age_years is not None:
            if not 0 <= self.age_years < 200:
                raise invalid("context age_years", self.age_years, "a number from 0 to 200")
            object.__setattr__(self, "age_years", float(self.age_years))
        if self.sex not in ("", "M", "F", "O"):
            raise invalid("context sex", self.sex, "M, F, O (PS3.3 C.7.1.1) or nothing")
        if self.prior_study_instance_uid:
            check_uid("context prior_study_instance_uid", self.prior_study_instance_uid)
