"""QIDO-RS: what a DICOMweb service has (PS3.18 section 10.6)."""

from __future__ import annotations

from contextlib import suppress

from radserve._checks import check_uid
from radserve.dicom_io.dicomweb import json_model
from radserve.dicom_io.dicomweb.json_model import Item
from radserve.dicom_io.study_query import FoundStudy, StudyQuery
from radserve.dicom_io.web_peer.peer import Params, WebSession
from radserve.errors import ErrorCode, PeerError, RadserveError
from radserve.references import InstanceRef

PAGE = 500
MAX_MATCHES = 100_000
KEYS = {
    "study_instance_uid": "StudyInstanceUID",
    "patient_id": "PatientID",
    "accession_number": "AccessionNumber",
    "study_date": "StudyDate",
    "modality": "ModalitiesInStudy",
    "study_description": "StudyDescription",
}
STUDY_UID, SERIES_UID, SOP_CLASS_UID, SOP_INSTANCE_UID = "0020000D", "0020000E", "00080016", "00080018"


async def find_studies(session: WebSession, query: StudyQuery) -> list[FoundStudy]:
    """The studies that match. Raises PeerError."""
    given = [(keyword, getattr(query, name)) for name, keyword in KEYS.items() if getattr(query, name)]
    included = ("StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedInstances")
    found = await _all(session, "studies", [*given, *(("includefield", keyword) for keyword in included)])
    return [_study(each) for each in found if json_model.text(each, STUDY_UID)]


async def find_instances(session: WebSession, study_instance_uid: str) -> list[InstanceRef]:
    """The instances of a study; those without readable UIDs are left out. Raises PeerError."""
    check_uid("study_instance_uid", study_instance_uid)
    found = []
    for each in await _all(session, f"studies/{study_instance_uid}/instances", [("includefield", "SOPClassUID")]):
        uids = (json_model.text(each, tag) for tag in (SERIES_UID, SOP_INSTANCE_UID, SOP_CLASS_UID))
        with suppress(RadserveError):
            found.append(InstanceRef(study_instance_uid, *uids))
    return found


async def has_instance(session: WebSession, instance: InstanceRef) -> bool:
    """Whether the service has an instance, in its series. Raises PeerError."""
    path = f"studies/{instance.study_instance_uid}/series/{instance.series_instance_uid}/instances"
    found = await session.json(path, [("SOPInstanceUID", instance.sop_instance_uid)])
    return any(json_model.text(each, SOP_INSTANCE_UID) == instance.sop_instance_uid for each in found)


async def _all(session: WebSession, path: str, params: Params) -> list[Item]:
    """Every match, page by page. A service may give fewer than were asked for; the last page is empty."""
    found: list[Item] = []
    seen: set[str] = set()
    while True:
        page = await session.json(path, [*params, ("limit", str(PAGE)), ("offset", str(len(found)))])
        new = [each for each in page if _identity(each) not in seen]  # a service that knows no offset starts again
        if not new:
            return found
        found += new
        seen.update(map(_identity, new))
        if len(found) > MAX_MATCHES:
            text = f"{session.peer.name} has more than {MAX_MATCHES} matches: narrow the query"
            raise PeerError(ErrorCode.REQUEST_TOO_LARGE, text, is_transient=False)


def _identity(item: Item) -> str:
    return json_model.text(item, SOP_INSTANCE_UID) or json_model.text(item, STUDY_UID)


def _study(item: Item) -> FoundStudy:
    return FoundStudy(
        study_instance_uid=json_model.text(item, STUDY_UID),
        patient_id=json_model.text(item, "00100020"),
        accession_number=json_model.text(item, "00080050"),
        study_date=json_model.text(item, "00080020"),
        study_time=json_model.text(item, "00080030"),
        modalities=tuple(filter(None, json_model.text(item, "00080061").split("\\"))),
        study_description=json_model.text(item, "00081030"),
        instances=json_model.number(item, "00201208"),
    )
