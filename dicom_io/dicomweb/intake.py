"""STOW-RS (PS3.18 section 10.5): the parts of a multipart body into the study store, and the answer about each."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from radserve.dicom_io.dicomweb.json_model import JsonElement, element
from radserve.dicom_io.dicomweb.media import DICOM, media_type
from radserve.dicom_io.dicomweb.multipart import Event, MultipartReader, PartEnd, PartStart
from radserve.dicom_io.dimse import statuses
from radserve.dicom_io.file_meta import read_file_meta
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import Incoming, StoredInstance, StudyStore
from radserve.errors import DicomError, ErrorCode, RadserveError, StorageError
from radserve.references import InstanceRef, StudyRef

logger = logging.getLogger(__name__)

COMMITS_AT_ONCE = 4  # of one request: syncing the disk takes longer than receiving a slice
HEAD_BYTES = 4096
# Failure Reason (0008,1197): the statuses of C-STORE, but for what PS3.18 table I.2.2-1 has codes of its own.
REASONS: Mapping[ErrorCode, int] = {
    **statuses.STATUS_OF,
    ErrorCode.UNSUPPORTED_SOP_CLASS: statuses.SOP_CLASS_NOT_SUPPORTED,
    ErrorCode.UNSUPPORTED_TRANSFER_SYNTAX: 0xC122,
    ErrorCode.INVALID_ARGUMENT: statuses.DOES_NOT_MATCH_SOP_CLASS,
}


OTHER_KINDS = frozenset({ErrorCode.UNSUPPORTED_SOP_CLASS, ErrorCode.UNSUPPORTED_TRANSFER_SYNTAX})


class OtherTypeError(DicomError):
    """The part says that it is something else than DICOM, or is encoded."""

    def __init__(self, client_message: str) -> None:
        super().__init__(ErrorCode.NOT_DICOM, client_message)


@dataclass(frozen=True, slots=True)
class Refused:
    """A part that was not stored; the UIDs are those of its file meta information, "" where it has none."""

    error: RadserveError
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the parts, in their order."""

    stored: tuple[InstanceRef, ...]
    refused: tuple[Refused, ...]

    def status(self) -> int:
        """The HTTP status (PS3.18 section 10.5.3): 507, 413 and 415 where nothing was stored for that one reason."""
        if not self.refused:
            return 200
        if self.stored:
            return 202
        if all(_is_of_other_kind(each.error) for each in self.refused):
            return 415
        codes = {each.error.code for each in self.refused}
        if codes == {ErrorCode.STORAGE_FULL}:
            return 507
        return 413 if codes == {ErrorCode.REQUEST_TOO_LARGE} else 409

    @property
    def other_type(self) -> OtherTypeError | None:
        """Why nothing of the body was stored, where every part is of a kind that is not read."""
        errors = [each.error for each in self.refused]
        are_all = not self.stored and all(isinstance(each, OtherTypeError) for each in errors)
        return next((each for each in errors if are_all and isinstance(each, OtherTypeError)), None)

    def document(self, base_url: str) -> dict[str, JsonElement]:
        """The Store Instances Response (PS3.18 table I.1-1) in DICOM JSON."""
        studies = {instance.study_instance_uid for instance in self.stored}
        found: dict[str, JsonElement] = {}
        if len(studies) == 1:
            found["00081190"] = element("UR", f"{base_url}/studies/{next(iter(studies))}")
        sequences = {
            "00081198": [_failed(each) for each in self.refused if each.sop_instance_uid],
            "00081199": [_stored(each, base_url) for each in self.stored],
            "0008119A": [_reason(each) for each in self.refused if not each.sop_instance_uid],
        }
        return found | {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}


def _is_of_other_kind(error: RadserveError) -> bool:
    """Whether it is refused for what it is, which sending it again does not change.

    PS3.18 gives an unsupported SOP class as an example of 409, in a table of common codes, and 415 to the Content-Type;
    RFC 9110 section 15.5.16 has 415 for what inspecting the content shows, too. A client reads the payload with both.
    """
    return isinstance(error, OtherTypeError) or error.code in OTHER_KINDS


def _stored(instance: InstanceRef, base_url: str) -> dict[str, JsonElement]:
    url = f"{base_url}/studies/{instance.study_instance_uid}/series/{instance.series_instance_uid}"
    return {
        "00081150": element("UI", instance.sop_class_uid),
        "00081155": element("UI", instance.sop_instance_uid),
        "00081190": element("UR", f"{url}/instances/{instance.sop_instance_uid}"),
    }


def _failed(refused: Refused) -> dict[str, JsonElement]:
    uids = {"00081150": element("UI", refused.sop_class_uid), "00081155": element("UI", refused.sop_instance_uid)}
    return {**uids, **_reason(refused)}


def _reason(refused: Refused) -> dict[str, JsonElement]:
    return {"00081197": element("US", REASONS.get(refused.error.code, statuses.PROCESSING_FAILURE))}


@dataclass(slots=True)
class _Part:
    """The part that is being received."""

    incoming: Incoming | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    error: RadserveError | None = None
    head: bytes = b""


class StowIntake:
    """Takes one request. Parts are committed while the next ones come; `take` returns when all are on disk.

    `part_type`: what a part without a Content-Type is; "" where the body does not say it either. `noted` is told of
    each instance that is stored.
    """

    def __init__(
        self,
        store: StudyStore,
        reserve: DiskReserve,
        study: StudyRef | None = None,
        part_type: str = DICOM,
        noted: Callable[[InstanceRef], None] = lambda instance: None,
    ) -> None:
        self._store = store
        self._reserve = reserve
        self._study = study
        self._part_type = part_type
        self._noted = noted
        self._outcomes: list[InstanceRef | Refused | None] = []
        self._part: _Part | None = None
        self._commits: set[asyncio.Task[None]] = set()

    async def take(self, reader: MultipartReader, chunks: AsyncIterator[bytes]) -> Outcome:
        """Store the parts of a body.

        Raises what `chunks` and the reader raise; parts that were whole may be stored then, none is acknowledged.
        """
        try:
            async for chunk in chunks:
                for event in reader.feed(chunk):
                    await self._on(event)
            reader.close()
        finally:
            if self._part:
                await self._part.stack.aclose()  # it leaves nothing behind
            await asyncio.gather(*self._commits, return_exceptions=True)
        outcome = Outcome(
            tuple(each for each in self._outcomes if isinstance(each, InstanceRef)),
            tuple(each for each in self._outcomes if isinstance(each, Refused)),
        )
        if outcome.refused:
            counts = Counter(each.error.code.value for each in outcome.refused)
            logger.warning("STOW-RS: %d instances are stored, refused: %s", len(outcome.stored), dict(counts))
        return outcome

    async def _on(self, event: Event) -> None:
        match event:
            case PartStart(headers):
                self._start(headers)
            case PartEnd():
                await self._end()
            case bytes(data):
                await self._write(data)

    def _start(self, headers: Mapping[str, str]) -> None:
        self._part = part = _Part()
        try:
            _check_headers(headers, self._part_type)
            self._reserve.check()
        except RadserveError as error:
            part.error = error

    async def _write(self, data: bytes) -> None:
        part = self._part
        if part is None or part.error is not None:
            return
        if len(part.head) < HEAD_BYTES:
            part.head += data[: HEAD_BYTES - len(part.head)]
        try:
            if part.incoming is None:
                part.incoming = await part.stack.enter_async_context(self._store.receive(study=self._study))
            part.incoming.write(data)
        except RadserveError as error:
            part.error = error
            if part.incoming:
                part.incoming.discard()

    async def _end(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        place = len(self._outcomes)
        self._outcomes.append(None)
        while len(self._commits) >= COMMITS_AT_ONCE:
            await asyncio.wait(self._commits, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._commit(part, place))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)

    async def _commit(self, part: _Part, place: int) -> None:
        """Note the outcome of a part; nothing is raised."""
        try:
            async with part.stack:
                if part.error is not None or part.incoming is None:
                    raise part.error or DicomError(ErrorCode.EMPTY_INPUT, "the part is empty")
                stored: StoredInstance = await part.incoming.commit()
            self._outcomes[place] = stored.header.instance
            self._noted(stored.header.instance)
        except RadserveError as error:
            self._refuse(part, place, error)
        except Exception as error:
            logger.warning("storing an instance failed: %s", type(error).__name__)
            self._refuse(part, place, StorageError(ErrorCode.INTERNAL, "the service failed"))

    def _refuse(self, part: _Part, place: int, error: RadserveError) -> None:
        try:
            meta = read_file_meta(part.head)
        except RadserveError:
            self._outcomes[place] = Refused(error)
            return
        self._outcomes[place] = Refused(error, *(_uid(uid) for uid in (meta.sop_class_uid, meta.sop_instance_uid)))


def _uid(text: str) -> str:
    """A UID to be told to the sender; nothing where it is none."""
    return text if len(text) <= 64 and text.replace(".", "").isdecimal() and text.isascii() else ""


def _check_headers(headers: Mapping[str, str], part_type: str) -> None:
    stated = headers.get("content-type", part_type)
    if not stated:
        raise OtherTypeError("neither the body nor its part states the content type application/dicom")
    if not _is_dicom(stated):
        raise OtherTypeError("a part has another content type than application/dicom")
    encodings: list[Any] = [
        headers.get("content-encoding", "identity"),
        headers.get("content-transfer-encoding", "binary"),
    ]
    if encodings[0].lower() != "identity" or encodings[1].lower() not in ("binary", "8bit", "7bit"):
        raise OtherTypeError("a part is encoded in a way that is not read: send it as it is")


def _is_dicom(text: str) -> bool:
    try:
        return media_type(text).name == DICOM
    except RadserveError:
        return False
