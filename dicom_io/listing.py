"""The headers of what a store holds, in memory: what is stored, and in which order it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence

from radserve.dicom_io.parse import InstanceHeader
from radserve.errors import ErrorCode, RequestError
from radserve.references import InstanceRef, StudyRef


class Listing:
    """Headers by SOP Instance UID and by study. For one event loop; `get` is for any thread."""

    def __init__(self) -> None:
        self._by_sop: dict[str, InstanceHeader] = {}
        self._studies: dict[str, dict[str, InstanceHeader]] = {}

    def __len__(self) -> int:
        """How many instances there are."""
        return len(self._by_sop)

    def add(self, header: InstanceHeader) -> None:
        """List an instance, in the place of one of the same UID."""
        instance = header.instance
        self._by_sop[instance.sop_instance_uid] = header
        self._studies.setdefault(instance.study_instance_uid, {})[instance.sop_instance_uid] = header

    def drop(self, study_instance_uid: str) -> None:
        """Forget a study."""
        for uid in self._studies.pop(study_instance_uid, {}):
            del self._by_sop[uid]

    def clear(self) -> None:
        """Forget all."""
        self._by_sop.clear()
        self._studies.clear()

    def get(self, sop_instance_uid: str) -> InstanceHeader | None:
        """The header of an instance, None where it is not listed."""
        return self._by_sop.get(sop_instance_uid)

    def studies(self) -> list[str]:
        """The Study Instance UIDs, in order."""
        return sorted(self._studies)

    def headers(self, study: StudyRef, series_instance_uid: str = "") -> Sequence[InstanceHeader]:
        """The headers of a study, or of one of its series, by series number and instance number.

        Raises RequestError STUDY_NOT_FOUND, SERIES_NOT_FOUND.
        """
        uid = study.study_instance_uid
        if uid not in self._studies:
            raise RequestError(ErrorCode.STUDY_NOT_FOUND, f"the study {uid} is not stored here")
        found = sorted(self._studies[uid].values(), key=_order)
        if series_instance_uid:
            found = [header for header in found if header.instance.series_instance_uid == series_instance_uid]
        if not found:
            message = f"the series {series_instance_uid[:64]} is not stored in the study {uid}"
            raise RequestError(ErrorCode.SERIES_NOT_FOUND, message)
        return found

    def check(self, instance: InstanceRef) -> None:
        """Raise RequestError, which says what of it is missing, where an instance is not listed as it is named."""
        listed = self._by_sop.get(instance.sop_instance_uid)
        if listed is None or listed.instance != instance:
            self.headers(StudyRef(instance.study_instance_uid), instance.series_instance_uid)
            text = f"the instance {instance.sop_instance_uid} is not stored here"
            raise RequestError(ErrorCode.INVALID_ARGUMENT, text)


def _order(header: InstanceHeader) -> tuple[float, str, float, str]:
    series_number, number = header.context.series_number, header.instance_number
    return (
        math.inf if series_number is None else series_number,
        header.instance.series_instance_uid,
        math.inf if number is None else number,
        header.instance.sop_instance_uid,
    )
