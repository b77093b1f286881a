"""UPS-RS: workitems of an origin server, as their performer (PS3.18 section 11, PS3.4 annex CC)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from radserve._checks import check_uid
from radserve.dicom_io.dicomweb import json_model
from radserve.dicom_io.dicomweb.json_model import Item, element, sequence
from radserve.dicom_io.web_peer.peer import JSON, Answer, WebPeer, WebSession, data_sets, refused
from radserve.errors import ErrorCode, PeerError, RadserveError
from radserve.references import InstanceRef

STATE, TRANSACTION_UID, SOP_INSTANCE_UID = "00741000", "00081195", "00080018"
STUDY_UID, SERIES_UID, REFERENCES = "0020000D", "0020000E", "00081199"
INPUTS, SCHEDULED_CODE = "00404021", "00404018"
PROGRESS, PERFORMED = "00741002", "00741216"
CANCELLED_AT, CANCELLATION_REASON, DISCONTINUATION_CODE = "00404052", "00741238", "0074100E"
CANCELLATION_REQUESTED = "a cancellation was requested"  # where no reason is given
MOST = 100  # workitems of one search
DETECTION = ("110004", "DCM", "Computer Aided Detection")  # PS3.16 CID 9231, where nothing was scheduled by code
UNSPECIFIED = ("110513", "DCM", "Discontinued for unspecified reason")  # PS3.16 CID 9300


class StepState(StrEnum):
    """Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


class NotOursError(PeerError):
    """The origin server does not let us do this to the workitem: another has it, or its state does not allow it."""


@dataclass(frozen=True, slots=True)
class InputReference:
    """What a workitem names as input: a study, or of it a series, or of that some instances ("" and (): all)."""

    study_instance_uid: str
    series_instance_uid: str = ""
    sop_instance_uids: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check_uid("study_instance_uid", self.study_instance_uid)

    def has(self, instance: InstanceRef) -> bool:
        """Whether an instance is part of it."""
        return (
            instance.study_instance_uid == self.study_instance_uid
            and self.series_instance_uid in ("", instance.series_instance_uid)
            and (not self.sop_instance_uids or instance.sop_instance_uid in self.sop_instance_uids)
        )


@dataclass(frozen=True, slots=True)
class Workitem:
    """A workitem as far as a performer needs it. `code`: its Scheduled Workitem Code items, as they came.

    `cancellation`: why it is to be cancelled, where the origin server notes requests in the Procedure Step Progress
    Information; "" where nobody asked, or where that cannot be told.
    """

    uid: str
    state: str
    inputs: tuple[InputReference, ...]
    code: tuple[Item, ...] = field(default=(), repr=False)
    cancellation: str = ""


@dataclass(frozen=True, slots=True)
class OutputReference:
    """An object that was made, and where it can be had: an AE title, the URL of a DICOMweb service, or neither."""

    instance: InstanceRef
    ae_title: str = ""
    web_url: str = ""


class Worklist:
    """The workitems of one origin server. Raises PeerError; NotOursError where the state or the claim forbids it."""

    def __init__(self, peer: WebPeer, ae_title: str) -> None:
        self._peer = peer
        self._ae_title = ae_title

    async def scheduled(self, keys: Mapping[str, str]) -> list[str]:
        """The UIDs of workitems that wait for a performer and match `keys` (attribute and value)."""
        params = [("ProcedureStepState", StepState.SCHEDULED.value), *keys.items(), ("limit", str(MOST))]
        async with self._peer.connected() as session:
            found = await session.json("workitems", params)
        # a server may ignore a key that it does not know, but not the state
        waiting = [each for each in found if json_model.text(each, STATE) == StepState.SCHEDULED]
        uids = []
        for uid in (json_model.text(each, SOP_INSTANCE_UID) for each in waiting):
            with suppress(RadserveError):
                check_uid("workitem", uid)
                uids.append(uid)
        return uids

    async def get(self, uid: str) -> Workitem | None:
        """A workitem, None for one that is gone."""
        async with self._peer.connected() as session:
            answer = await session.request("GET", f"workitems/{uid}")
        if answer.status in (404, 410):
            return None
        if answer.status != 200:
            raise refused(self._peer.name, answer.status)
        found = await asyncio.to_thread(data_sets, answer.content, self._peer.name)
        return _workitem(uid, found[0] if found else {})

    async def claim(self, uid: str, transaction_uid: str) -> None:
        """SCHEDULED -> IN PROGRESS, with a transaction UID that only we know."""
        await self._change_state(uid, transaction_uid, StepState.IN_PROGRESS)

    async def subscribe(self, uid: str) -> None:
        """Ask for the event reports of a workitem, on the event channel."""
        path = f"workitems/{uid}/subscribers/{quote(self._ae_title)}"
        async with self._peer.connected() as session:
            session.check(await session.request("POST", path), 200, 201)

    async def progress(self, uid: str, transaction_uid: str, percent: int, description: str) -> None:
        """Say how far it is."""
        item = {"00741004": element("DS", percent), "00741006": element("ST", description)}
        await self._update(uid, transaction_uid, {PROGRESS: sequence([item])})

    async def complete(
        self, item: Workitem, transaction_uid: str, started_at: float, outputs: Sequence[OutputReference]
    ) -> None:
        """IN PROGRESS -> COMPLETED, with what was made. Doing it again after an unseen end is NotOursError."""
        station = _code(self._ae_title, "99RADSERVE", "radserve")
        performed = {
            "00404028": sequence([station]),
            "00404019": sequence(item.code or [_code(*DETECTION)]),
            "00404050": element("DT", _time(started_at)),
            "00404051": element("DT", _now()),
            "00404033": sequence([_output(each) for each in outputs]),
        }
        done = {"00741004": element("DS", 100), "00741006": element("ST", "done")}
        changes = {PERFORMED: sequence([performed]), PROGRESS: sequence([done])}
        await self._update(item.uid, transaction_uid, changes)
        await self._change_state(item.uid, transaction_uid, StepState.COMPLETED)

    async def cancel(self, uid: str, transaction_uid: str, reason: str) -> None:
        """IN PROGRESS -> CANCELED, with the reason."""
        item = {
            CANCELLED_AT: element("DT", _now()),
            CANCELLATION_REASON: element("LT", reason),
            DISCONTINUATION_CODE: sequence([_code(*UNSPECIFIED)]),
        }
        await self._update(uid, transaction_uid, {PROGRESS: sequence([item])})
        await self._change_state(uid, transaction_uid, StepState.CANCELED)

    async def _update(self, uid: str, transaction_uid: str, changes: dict[str, Any]) -> None:
        """N-SET: the Transaction UID stands in the URL (PS3.18 11.6.1) and in the data set (PS3.4 CC.2.6.2)."""
        data = {TRANSACTION_UID: element("UI", transaction_uid), **changes}
        await self._send("POST", f"workitems/{uid}?{transaction_uid}", data)

    async def _change_state(self, uid: str, transaction_uid: str, state: StepState) -> None:
        data = {TRANSACTION_UID: element("UI", transaction_uid), STATE: element("CS", state.value)}
        await self._send("PUT", f"workitems/{uid}/state", data)

    async def _send(self, method: str, path: str, data: dict[str, Any]) -> None:
        async with self._peer.connected() as session:
            self._check(await _sent(session, method, path, data))

    def _check(self, answer: Answer) -> None:
        if answer.status in (400, 404, 409, 410):
            text = f"{self._peer.name} answered with the HTTP status {answer.status}: it is not ours to change"
            raise NotOursError(ErrorCode.INVALID_ARGUMENT, text, is_transient=False)
        if answer.status not in (200, 202, 204):
            raise refused(self._peer.name, answer.status)


async def _sent(session: WebSession, method: str, path: str, data: dict[str, Any]) -> Answer:
    content = json.dumps([data]).encode()
    return await session.request(method, path, content=content, headers={"Content-Type": JSON})


def _workitem(uid: str, item: Item) -> Workitem:
    inputs = []
    for each in json_model.items(item, INPUTS):
        named = (json_model.text(one, "00081155") for one in json_model.items(each, REFERENCES))
        with suppress(RadserveError):
            study, series = json_model.text(each, STUDY_UID), json_model.text(each, SERIES_UID)
            inputs.append(InputReference(study, series, frozenset(filter(None, named))))
    code = tuple(json_model.items(item, SCHEDULED_CODE))
    return Workitem(uid, json_model.text(item, STATE), tuple(inputs), code, _cancellation(item))


def _cancellation(item: Item) -> str:
    """Why a workitem is to be cancelled: its reason, else the meaning of the code, else that it is."""
    for progress in json_model.items(item, PROGRESS):
        codes = json_model.items(progress, DISCONTINUATION_CODE)
        found = [json_model.text(progress, CANCELLATION_REASON), *(json_model.text(each, "00080104") for each in codes)]
        if codes or any(found) or json_model.text(progress, CANCELLED_AT):
            return next(filter(None, found), CANCELLATION_REQUESTED)
    return ""


def _output(output: OutputReference) -> dict[str, Any]:
    """An item of the Output Information Sequence (PS3.4 table CC.2.5-2c)."""
    instance = output.instance
    reference = {
        "00081150": element("UI", instance.sop_class_uid),
        "00081155": element("UI", instance.sop_instance_uid),
    }
    item = {
        "0040E020": element("CS", "DICOM"),
        STUDY_UID: element("UI", instance.study_instance_uid),
        SERIES_UID: element("UI", instance.series_instance_uid),
        REFERENCES: sequence([reference]),
    }
    if output.ae_title:
        item["0040E021"] = sequence([{"00080054": element("AE", output.ae_title)}])
    if output.web_url:
        base = f"{output.web_url.rstrip('/')}/studies/{instance.study_instance_uid}"
        url = f"{base}/series/{instance.series_instance_uid}/instances/{instance.sop_instance_uid}"
        item["0040E025"] = sequence([{"00081190": element("UR", url)}])
    return item


def _code(value: str, scheme: str, meaning: str) -> dict[str, Any]:
    return {"00080100": element("SH", value), "00080102": element("SH", scheme), "00080104": element("LO", meaning)}


def _now() -> str:
    return _time(datetime.now(UTC).timestamp())


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%d%H%M%S+0000")
