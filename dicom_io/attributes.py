"""Typed reading of header attributes: required ones are refused by keyword, optional ones become "unknown"."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from radserve._checks import check_uid
from radserve.dicom_io.plain import ODD, Elements, PlainElements, plain_value
from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.references import AcquisitionContext

TEXT_LENGTH = 1024
DAYS_PER_YEAR = 365.25
YEARS_PER_UNIT = {"D": 1 / DAYS_PER_YEAR, "W": 7 / DAYS_PER_YEAR, "M": 1 / 12, "Y": 1.0}  # PS3.5 6.2, VR AS


def invalid_header(keyword: str, problem: str) -> DicomError:
    """The error of an attribute that breaks the header. `problem` quotes no text from the header."""
    return DicomError(ErrorCode.INVALID_HEADER, f"{keyword} {problem}")


def value(ds: Elements, keyword: str) -> Any:
    """The value of an attribute, None where absent or empty. Raises INVALID_HEADER where it cannot be converted."""
    found = plain_value(ds, keyword)
    if found is not ODD:
        return None if found == "" else found
    try:
        found = ds.get(keyword)
        if isinstance(found, MultiValue):
            found = list(found)
    except MemoryError:
        raise
    except Exception as error:  # pydicom has no common base; its texts quote values
        raise invalid_header(keyword, f"cannot be read ({type(error).__name__})") from None
    return None if found is None or found in ("", []) else found


def uid(ds: Elements, keyword: str) -> str:
    """A required UID."""
    found = value(ds, keyword)
    if found is None:
        raise invalid_header(keyword, "is missing")
    if not isinstance(found, str):
        raise invalid_header(keyword, "has several values")
    try:
        check_uid(keyword, found)
    except RadserveError:
        raise invalid_header(keyword, f"is not a UID ({len(found)} characters)") from None
    return str(found)


def integer(ds: Elements, keyword: str, *, default: int | None = None, least: int = 0, most: int | None = None) -> int:
    """An integer in [least, most]; required unless there is a default."""
    found = value(ds, keyword)
    if found is None:
        if default is None:
            raise invalid_header(keyword, "is missing")
        return default
    if not isinstance(found, int):
        raise invalid_header(keyword, "is not an integer")
    if found < least or (most is not None and found > most):
        raise invalid_header(keyword, f"is {found}, expected {least} to {most}" if most else f"is {found}")
    return int(found)


def numbers(ds: Elements, keyword: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, or None where the attribute is absent or something else."""
    try:
        found = value(ds, keyword)
        items = found if isinstance(found, Sequence) and not isinstance(found, str) else [found]
        result = tuple(float(item) for item in items)
    except (RadserveError, TypeError, ValueError, OverflowError):
        return None
    return result if len(result) == count and all(map(math.isfinite, result)) else None


def number(ds: Elements, keyword: str) -> float | None:
    """The first of one or more finite numbers, None where there is none."""
    try:
        found = value(ds, keyword)
        first = float(found[0] if isinstance(found, list) else found)
    except (RadserveError, TypeError, ValueError, OverflowError):
        return None
    return first if math.isfinite(first) else None


def text(ds: Elements, keyword: str) -> str:
    """The (first) text of an attribute, "" where absent or unreadable."""
    try:
        found = value(ds, keyword)
    except RadserveError:
        return ""
    if isinstance(found, list):
        found = found[0]
    return str(found).strip(" \0")[:TEXT_LENGTH] if isinstance(found, str | int | float) else ""


def items(ds: Elements, keyword: str) -> list[Dataset]:
    """The items of a sequence, none where it is absent. Raises INVALID_HEADER where it is no sequence."""
    found = value(ds, keyword)
    if found is None:
        return []
    try:
        result = list(found)
    except TypeError:
        result = [found]
    if not all(isinstance(item, Dataset | PlainElements) for item in result):
        raise invalid_header(keyword, "is not a sequence")
    return result


def acquisition_context(ds: Elements) -> AcquisitionContext:
    """What the header says of how the image came about; a value that makes no sense is unknown."""
    sex = text(ds, "PatientSex").upper()
    study_day = _date(text(ds, "StudyDate"))
    return AcquisitionContext(
        modality=text(ds, "Modality").upper(),
        body_part=text(ds, "BodyPartExamined").upper(),
        view_position=text(ds, "ViewPosition").upper(),
        laterality=(text(ds, "ImageLaterality") or text(ds, "Laterality")).upper(),
        patient_sex=sex if sex in ("M", "F", "O") else "",
        age_years=_age_years(text(ds, "PatientAge"), _date(text(ds, "PatientBirthDate")), study_day),
        study_date=study_day.strftime("%Y%m%d") if study_day else "",
        study_description=text(ds, "StudyDescription"),
        series_number=optional_integer(ds, "SeriesNumber"),
        series_description=text(ds, "SeriesDescription"),
        manufacturer=text(ds, "Manufacturer"),
        manufacturer_model_name=text(ds, "ManufacturerModelName"),
    )


def optional_integer(ds: Elements, keyword: str) -> int | None:
    """An integer, None where absent or something else."""
    found = number(ds, keyword)
    return int(found) if found is not None and found.is_integer() else None


def _date(digits: str) -> date | None:
    match = re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)", digits)  # with dots: ACR-NEMA, PS3.5 6.2 note on VR DA
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


def _age_years(age: str, birth: date | None, study: date | None) -> float | None:
    match = re.fullmatch(r"(\d{1,3})([DWMY])", age.upper())
    if match and match[0] != "000Y":  # what de-identification leaves behind; an infant's age is in months
        years = int(match[1]) * YEARS_PER_UNIT[match[2]]
    elif birth and study:
        years = (study - birth).days / DAYS_PER_YEAR
    else:
        return None
    return years if 0 <= years < 200 else None
