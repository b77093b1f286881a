"""Find studies and series in an archive and pull them: C-FIND, C-MOVE and C-GET of the study root (PS3.4 annex C)."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, fields

from pydicom.dataset import Dataset

from radserve.dicom_io.dimse import negotiation, statuses
from radserve.dicom_io.dimse.access import check_ae_title
from radserve.dicom_io.dimse.association import Association, Message
from radserve.dicom_io.dimse.command import Operation, Tag
from radserve.dicom_io.dimse.events import Origin
from radserve.dicom_io.dimse.identifiers import decode_identifier, encode_identifier, text_of
from radserve.dicom_io.dimse.negotiation import Context, Proposed
from radserve.dicom_io.dimse.peer import (
    MEDIUM_PRIORITY,
    DimseError,
    Peer,
    answer_to,
    associated,
    check_answers,
    context_of,
    request,
)
from radserve.dicom_io.dimse.receiver import InstanceReceiver
from radserve.dicom_io.parse import IMAGE_STORAGE, TRANSFER_SYNTAXES
from radserve.dicom_io.study_query import FoundStudy, StudyQuery
from radserve.errors import ErrorCode, RadserveError
from radserve.references import InstanceRef

__all__ = ["FoundSeries", "FoundStudy", "QueryScu", "Retrieved", "StudyQuery"]

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
MAX_IDENTIFIER_BYTES = 256 << 10
# Without compression first: an archive that has to convert may take any of the others where it holds that one.
SYNTAXES = (*negotiation.UNCOMPRESSED, *sorted(TRANSFER_SYNTAXES - set(negotiation.UNCOMPRESSED)))


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series as the archive describes it."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    series_number: str
    series_description: str
    body_part: str
    instances: int | None


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The end of a C-MOVE or C-GET: its status and the sub-operations by their ends.

    `failed_uids`: the instances that the archive names as failed (0008,0058); it may name fewer than `failed`.
    """

    status: int
    completed: int
    failed: int
    warning: int
    comment: str = ""
    failed_uids: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the archive says that it sent all there is."""
        return self.status == statuses.SUCCESS and not self.failed


class QueryScu:
    """Asks one archive. `max_matches`: more matches of a query end it with an error."""

    def __init__(self, peer: Peer, *, max_matches: int = 10_000) -> None:
        self._peer = peer
        self._max_matches = max_matches

    async def find_studies(self, query: StudyQuery) -> list[FoundStudy]:
        """The studies that match. Raises DimseError SERVER_UNREACHABLE, UNSUPPORTED_SOP_CLASS, REQUEST_TOO_LARGE."""
        keys = _level("STUDY")
        for each in fields(query):
            setattr(keys, STUDY_KEYS[each.name], getattr(query, each.name))
        for keyword in ("StudyTime", "NumberOfStudyRelatedInstances"):
            setattr(keys, keyword, None)
        return [_study(found) for found in await self._find(keys) if text_of(found, "StudyInstanceUID")]

    async def find_series(self, study_instance_uid: str, modality: str = "") -> list[FoundSeries]:
        """The series of a study. Raises as `find_studies`."""
        keys = _level("SERIES", study_instance_uid)
        for keyword in ("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "BodyPartExamined"):
            setattr(keys, keyword, None)
        keys.NumberOfSeriesRelatedInstances = None
        keys.Modality = modality
        found = await self._find(keys)
        return [_series(study_instance_uid, each) for each in found if text_of(each, "SeriesInstanceUID")]

    async def find_instances(self, study_instance_uid: str, series_instance_uid: str) -> list[InstanceRef]:
        """The instances of a series; those without a readable UID are left out. Raises as `find_studies`."""
        keys = _level("IMAGE", study_instance_uid)
        keys.SeriesInstanceUID = series_instance_uid
        keys.SOPInstanceUID = keys.SOPClassUID = None
        found = []
        for each in await self._find(keys):
            uids = text_of(each, "SOPInstanceUID"), text_of(each, "SOPClassUID")
            with suppress(RadserveError):
                found.append(InstanceRef(study_instance_uid, series_instance_uid, *uids))
        return found

    async def move(self, destination_ae: str, study_instance_uid: str, series_instance_uid: str = "") -> Retrieved:
        """Let the archive send a study, or one series, to an AE title that it knows: as a rule our own storage SCP.

        Raises DimseError as `find_studies`; a refusal by the archive is a status.
        """
        check_ae_title(destination_ae)
        async with associated(self._peer, [Proposed(STUDY_ROOT_MOVE, negotiation.UNCOMPRESSED)]) as association:
            context = context_of(association, STUDY_ROOT_MOVE, self._peer)
            extra: dict[Tag, int | str] = {Tag.MOVE_DESTINATION: destination_ae}
            keys = _retrieve_level(study_instance_uid, series_instance_uid)
            command = await self._begin(association, context, Operation.C_MOVE, keys, extra)
            while True:
                message = await answer_to(association, self._peer, command)
                data = await association.whole_data(message, MAX_IDENTIFIER_BYTES)
                if message.command.status not in statuses.PENDING:
                    return _retrieved(message, data)

    async def get(
        self,
        receiver: InstanceReceiver,
        origin: Origin,
        study_instance_uid: str,
        series_instance_uid: str = "",
        sop_class_uids: Collection[str] = IMAGE_STORAGE,
    ) -> Retrieved:
        """Pull a study, or one series, over the association of the request; `receiver` stores what comes.

        Raises DimseError as `find_studies`; a refusal by the archive is a status.
        """
        proposed = [Proposed(STUDY_ROOT_GET, negotiation.UNCOMPRESSED)]
        proposed += [Proposed(uid, SYNTAXES, as_scp=True) for uid in sorted(sop_class_uids)]
        async with associated(self._peer, proposed) as association:
            context = context_of(association, STUDY_ROOT_GET, self._peer)
            keys = _retrieve_level(study_instance_uid, series_instance_uid)
            command = await self._begin(association, context, Operation.C_GET, keys, {})
            while True:
                message = await association.receive(self._peer.response_seconds)
                if message.command.operation == Operation.C_STORE:
                    await receiver.take(association, message, origin)
                    continue
                check_answers(message, command)
                data = await association.whole_data(message, MAX_IDENTIFIER_BYTES)
                if message.command.status not in statuses.PENDING:
                    return _retrieved(message, data)

    async def _find(self, keys: Dataset) -> list[Dataset]:
        found: list[Dataset] = []
        async with associated(self._peer, [Proposed(STUDY_ROOT_FIND, negotiation.UNCOMPRESSED)]) as association:
            context = context_of(association, STUDY_ROOT_FIND, self._peer)
            command = await self._begin(association, context, Operation.C_FIND, keys, {})
            while True:
                message = await answer_to(association, self._peer, command)
                data = await association.whole_data(message, MAX_IDENTIFIER_BYTES)
                if message.command.status not in statuses.PENDING:
                    break
                if len(found) == self._max_matches:
                    text = f"{self._peer.ae_title} has more than {self._max_matches} matches: narrow the query"
                    raise DimseError(ErrorCode.REQUEST_TOO_LARGE, text, is_transient=False)
                found.append(decode_identifier(data, context.transfer_syntax_uid))
        if message.command.status != statuses.SUCCESS:
            text = f"{self._peer.ae_title} answered the query with the status {message.command.status:04X}"
            raise DimseError(ErrorCode.SERVER_UNREACHABLE, text)
        return found

    async def _begin(
        self,
        association: Association,
        context: Context,
        operation: Operation,
        keys: Dataset,
        extra: dict[Tag, int | str],
    ) -> dict[Tag, int | str]:
        command = request(association, operation, context.abstract_syntax, has_data=True)
        command |= {Tag.PRIORITY: MEDIUM_PRIORITY, **extra}
        await association.send(context, command, encode_identifier(keys, context.transfer_syntax_uid))
        return command


STUDY_KEYS = {
    "study_instance_uid": "StudyInstanceUID",
    "patient_id": "PatientID",
    "accession_number": "AccessionNumber",
    "study_date": "StudyDate",
    "modality": "ModalitiesInStudy",
    "study_description": "StudyDescription",
}


def _level(level: str, study_instance_uid: str = "") -> Dataset:
    keys = Dataset()
    keys.QueryRetrieveLevel = level
    keys.StudyInstanceUID = study_instance_uid
    return keys


def _retrieve_level(study_instance_uid: str, series_instance_uid: str) -> Dataset:
    keys = _level("SERIES" if series_instance_uid else "STUDY", study_instance_uid)
    if series_instance_uid:
        keys.SeriesInstanceUID = series_instance_uid
    return keys


def _study(found: Dataset) -> FoundStudy:
    values = {name: text_of(found, keyword) for name, keyword in STUDY_KEYS.items() if name != "modality"}
    modalities = tuple(filter(None, text_of(found, "ModalitiesInStudy").split("\\")))
    instances = _number(found, "NumberOfStudyRelatedInstances")
    return FoundStudy(**values, study_time=text_of(found, "StudyTime"), modalities=modalities, instances=instances)


def _series(study_instance_uid: str, found: Dataset) -> FoundSeries:
    return FoundSeries(
        study_instance_uid=study_instance_uid,
        series_instance_uid=text_of(found, "SeriesInstanceUID"),
        modality=text_of(found, "Modality"),
        series_number=text_of(found, "SeriesNumber"),
        series_description=text_of(found, "SeriesDescription"),
        body_part=text_of(found, "BodyPartExamined"),
        instances=_number(found, "NumberOfSeriesRelatedInstances"),
    )


def _number(found: Dataset, keyword: str) -> int | None:
    text = text_of(found, keyword)
    return int(text) if text.isascii() and text.isdigit() else None


def _retrieved(message: Message, data: bytes) -> Retrieved:
    command = message.command
    failed: tuple[str, ...] = ()
    if data:
        with suppress(RadserveError):  # the list is a courtesy: what came is known without it
            named = decode_identifier(data, message.context.transfer_syntax_uid)
            failed = tuple(filter(None, text_of(named, "FailedSOPInstanceUIDList").split("\\")))
    return Retrieved(
        status=command.status,
        completed=command.number(Tag.COMPLETED_SUBOPERATIONS, 0),
        failed=command.number(Tag.FAILED_SUBOPERATIONS, 0),
        warning=command.number(Tag.WARNING_SUBOPERATIONS, 0),
        comment=command.text(Tag.ERROR_COMMENT),
        failed_uids=failed,
    )
