"""A small UPS-RS origin server: the state machine of PS3.4 table CC.1.1-2 behind the resources of PS3.18 section 11."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from fastapi import FastAPI, Request, Response
from pydicom import Dataset

from radserve.dicom_io.web_peer.peer import WebPeer

JSON = "application/dicom+json"
STATE, TRANSACTION, PROGRESS = "00741000", "00081195", "00741002"
REASON = "00741238"
FINAL = ("COMPLETED", "CANCELED")
# PS3.4 table CC.2.5-3: what has to be there at the end, within Performed Procedure (0074,1216)
PERFORMED = ("00404028", "00404050", "00404019", "00404051", "00404033")


@dataclass
class Step:
    """A workitem, who has it, and the states that it was given."""

    data: dict[str, Any]
    transaction_uid: str = ""
    states: list[str] = field(default_factory=lambda: ["SCHEDULED"])

    @property
    def state(self) -> str:
        return self.states[-1]


@dataclass
class OriginServer:
    """The worklist. `answer` gives an answer in the place of the usual one.

    `notes_requests`: whether a request for a cancellation is written into the workitem. `reports`: event reports for
    the subscribers of a workitem.
    """

    steps: dict[str, Step] = field(default_factory=dict)
    subscribers: list[tuple[str, str]] = field(default_factory=list)
    answer: Callable[[Request], Response | None] = lambda request: None
    notes_requests: bool = False
    reports: list[tuple[str, str]] = field(default_factory=list)
    channels: list[web.WebSocketResponse] = field(default_factory=list)

    def schedule(self, uid: str, *inputs: tuple[str, str], label: str = "AI") -> Step:
        """Add a workitem whose inputs are (study, series or "")."""
        items = []
        for study, series in inputs:
            item = Dataset()
            item.TypeOfInstances, item.StudyInstanceUID = "DICOM", study
            if series:
                item.SeriesInstanceUID = series
            items.append(item)
        step = Dataset()
        step.SOPInstanceUID, step.ProcedureStepState, step.WorklistLabel = uid, "SCHEDULED", label
        step.InputInformationSequence = items
        self.steps[uid] = Step(step.to_json_dict())
        return self.steps[uid]

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def first(request: Request, call_next: Any) -> Response:
            return self.answer(request) or await call_next(request)

        @app.get("/ups/workitems")
        async def search(request: Request) -> Response:
            label, state = request.query_params.get("WorklistLabel"), request.query_params.get("ProcedureStepState")
            found = [
                step.data
                for step in self.steps.values()
                if step.state == state and label in (None, step.data["00741202"]["Value"][0])
            ]
            return Response(json.dumps(found), media_type=JSON) if found else Response(status_code=204)

        @app.get("/ups/workitems/{uid}")
        async def retrieve(uid: str) -> Response:
            step = self.steps.get(uid)
            return Response(json.dumps([step.data]), media_type=JSON) if step else Response(status_code=404)

        @app.put("/ups/workitems/{uid}/state")
        async def change_state(uid: str, request: Request) -> Response:
            step, (data,) = self.steps.get(uid), await request.json()
            if step is None:
                return Response(status_code=404)
            return Response(status_code=self.change(step, value(data, STATE), value(data, TRANSACTION)))

        @app.post("/ups/workitems/{uid}/subscribers/{ae_title}")
        async def subscribe(uid: str, ae_title: str) -> Response:
            if uid not in self.steps:
                return Response(status_code=404)
            self.subscribers.append((uid, ae_title))
            return Response(status_code=201)

        @app.post("/ups/workitems/{uid}/cancelrequest")
        async def request_cancel(uid: str, request: Request) -> Response:
            step, (data,) = self.steps.get(uid), await request.json()
            if step is None:
                return Response(status_code=404)
            if step.state in FINAL:
                return Response(status_code=409)
            if self.notes_requests:  # as its text says: CC.2.2.3.2 leaves that to the server
                step.data[PROGRESS] = {"vr": "SQ", "Value": [data]}
            event = {"00001000": {"vr": "UI", "Value": [uid]}, "00001002": {"vr": "US", "Value": [2]}, **data}
            self.reports.append((uid, json.dumps(event)))
            return Response(status_code=202)

        @app.post("/ups/workitems/{uid}")
        async def update(uid: str, request: Request) -> Response:
            step, (data,) = self.steps.get(uid), await request.json()
            if step is None:
                return Response(status_code=404)
            given = {request.url.query, value(data, TRANSACTION)}
            if step.state in FINAL or (step.state == "IN PROGRESS" and given != {step.transaction_uid}):
                return Response(status_code=400)
            step.data |= {tag: each for tag, each in data.items() if tag != TRANSACTION}
            return Response()

        return app

    def change(self, step: Step, wanted: str, transaction_uid: str) -> int:
        """PS3.4 table CC.1.1-2, its statuses as those of HTTP (PS3.18 table 11.7.3-1)."""
        if not transaction_uid:
            return 400
        if wanted == "IN PROGRESS":
            if step.state != "SCHEDULED":
                return 409  # C302, C300
            step.transaction_uid = transaction_uid
        elif wanted in FINAL:
            if step.state == "SCHEDULED":
                return 409  # C310
            if transaction_uid != step.transaction_uid:
                return 400  # C301
            if step.state in FINAL:
                return 200 if step.state == wanted else 409  # B304, B306; C300
            if wanted == "COMPLETED" and not self._may_complete(step):
                return 409  # C304
        else:
            return 409  # C303
        step.states.append(wanted)
        step.data[STATE] = {"vr": "CS", "Value": [wanted]}
        return 200

    def _may_complete(self, step: Step) -> bool:
        performed = step.data.get("00741216", {}).get("Value", [{}])[0]
        return all(tag in performed for tag in PERFORMED)


@asynccontextmanager
async def event_channel(origin: OriginServer) -> AsyncIterator[WebPeer]:
    """The origin's event channel by aiohttp: it forgets a subscriber whose channel closes, and its reports."""

    async def channel(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=0.5)
        await socket.prepare(request)
        origin.channels.append(socket)
        origin.subscribers.clear()
        while not socket.closed:
            due = [each for each in origin.reports if (each[0], request.match_info["ae_title"]) in origin.subscribers]
            for report in due:
                origin.reports.remove(report)
                await socket.send_str(report[1])
            with suppress(TimeoutError):
                await socket.receive(timeout=0.02)
        return socket

    app = web.Application()
    app.router.add_get("/ups/subscribers/{ae_title}", channel)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield WebPeer(f"http://127.0.0.1:{runner.addresses[0][1]}/ups")
    finally:
        await runner.cleanup()


def value(data: dict[str, Any], tag: str) -> str:
    return str(data.get(tag, {}).get("Value", [""])[0])
