"""What the requester said of a study."""

from __future__ import annotations

from dataclasses import dataclass

from radserve._checks import check_uid, invalid

MOST_CHARACTERS = 100_000  # of an indication: some fifty pages
MOST_VALUES = 1_000
MOST_VALUE_CHARACTERS = 2_000  # of each text of a laboratory value


def _check_length(name: str, text: str, most: int) -> None:
    """Raise for a text that is too long. The message does not hold it: it is of a patient."""
    if len(text) > most:
        raise invalid(f"{name}, characters", len(text), f"at most {most}")


@dataclass(frozen=True, slots=True)
class LaboratoryValue:
    """A laboratory value as the requester gave it: a name and a value, with its unit where it has one."""

    name: str
    value: str
    unit: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "value", "unit"):
            _check_length(f"laboratory value, its {field}", getattr(self, field), MOST_VALUE_CHARACTERS)
        if not (self.name.strip() and self.value.strip()):
            raise invalid("laboratory value", "one without a name or a value", "both")


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
        _check_length("context indication", self.indication, MOST_CHARACTERS)
        if len(self.laboratory_values) > MOST_VALUES:
            raise invalid("context laboratory_values", len(self.laboratory_values), f"at most {MOST_VALUES}")
        if self.age_years is not None:
            if not 0 <= self.age_years < 200:
                raise invalid("context age_years", self.age_years, "a number from 0 to 200")
            object.__setattr__(self, "age_years", float(self.age_years))
        if self.sex not in ("", "M", "F", "O"):
            raise invalid("context sex", self.sex, "M, F, O (PS3.3 C.7.1.1) or nothing")
        if self.prior_study_instance_uid:
            check_uid("context prior_study_instance_uid", self.prior_study_instance_uid)
