"""Workitems are claimed, performed by the workflow, and completed or cancelled; also after a kill at any point."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import Request, Response
from pydicom import Dataset

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.study_progress import SqlStudyProgress
from radserve.dicom_io.web_peer.archive import WebArchive as Archive
from radserve.dicom_io.web_peer.event_channel import open_channel
from radserve.dicom_io.web_peer.peer import WebPeer
from radserve.dicom_io.web_peer.ups import Worklist
from radserve.errors import DicomError, ErrorCode, PeerError, RadserveError
from radserve.pipelines.rules import Is, Rule, RuleSet
from radserve.results import Artifact
from radserve.server.settings import Settings
from radserve.server.ups import performing
from radserve.server.ups_claims import ClaimFolder
from radserve.server.ups_outputs import Outputs
from radserve.server.ups_performer import RETRIEVE_ATTEMPTS, PerformerOptions, UpsPerformer
from radserve.work import ResultObject
from tests.support.dicoms import uid
from tests.support.dicomweb import WebArchive, header, served
from tests.support.workflow import Site, instance, running_site
from tests.support.worklist import OriginServer, Step, event_channel

ITEM = "1.2.3.4"
STUDY = uid("study", "s")
URLS = {"pacs": "dicomweb+https://archive.example/dicom-web"}


class KilledError(BaseException):
    """The end of a process."""


@dataclass
class Hospital:
    """An origin server and an archive with a study of two images, as they listen."""

    origin: OriginServer
    archive: WebArchive
    origin_url: str
    archive_url: str

    def performer(self, site: Site, kill: str = "", **options: Any) -> UpsPerformer:
        """A performer over what is on disk; it is killed at a point."""
        worklist, archive = Worklist(WebPeer(self.origin_url), "RADSERVE"), Archive(WebPeer(self.archive_url))
        ledger: Any = Through(site.ledger)
        performer = UpsPerformer(
            worklist,
            archive,
            site.store,
            ledger,
            SqlStudyProgress(site.database),
            Outputs(site.results, URLS),
            ClaimFolder(site.root / "ups"),
            site.clock,
            PerformerOptions(**options),
        )
        mortal = Mortal(kill)
        mortal.watch(worklist, "get", "_update", "_change_state")
        mortal.watch(ledger, "signal")
        mortal.watch(archive, "list_instances")
        mortal.watch(performer, "_put", "_forget")
        return performer

    @property
    def step(self) -> Step:
        return self.origin.steps[ITEM]


class Through:
    """A part whose methods can be replaced for one user of it."""

    def __init__(self, part: Any) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


class Mortal:
    """Kills at `METHOD:before:N` or `METHOD:after:N`, the N-th time that it comes there."""

    def __init__(self, point: str) -> None:
        self._method, self._when, number = point.split(":") if point else ("", "", "1")
        self._left = int(number)

    def watch(self, part: Any, *methods: str) -> None:
        for name in methods:
            if name == self._method:
                setattr(part, name, self._deadly(getattr(part, name)))

    def _deadly(self, method: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0 and self._when == "before":
                raise KilledError
            result = await method(*args, **kwargs)
            if self._left == 0:
                raise KilledError
            return result

        return call


@pytest.fixture(scope="module")
def listening() -> Iterator[Hospital]:
    origin, archive = OriginServer(), WebArchive()
    with served(origin.app()) as ups, served(archive.app()) as web:
        yield Hospital(origin, archive, f"{ups}/ups", f"{web}/dicom-web")


@pytest.fixture
def hospital(listening: Hospital) -> Hospital:
    """The same servers with nothing in them but the study and the workitem."""
    listening.origin.__init__()  # type: ignore[misc]
    listening.archive.__init__()  # type: ignore[misc]
    listening.archive.add(instance("s", 1), instance("s", 2))
    listening.origin.schedule(ITEM, (STUDY, ""))
    return listening


def make_real_objects(site: Site) -> None:
    """Let the results be DICOM objects, and the destination name them."""
    analyse, send = site.analysis.analyse, site.destination.send

    async def made(job: Any) -> Any:
        objects = []
        for each in await analyse(job):
            name, uid = each.artifact.name, each.sop_instance_uid
            data = instance("s", 90, SOPInstanceUID=uid) if uid else b"text"
            objects.append(ResultObject(Artifact(name, each.artifact.media_type, data), each.output, uid))
        return objects

    async def sent(destination: str, artifact: Artifact) -> None:
        text = f"x {header(artifact.data).SOPInstanceUID}".encode()
        await send(destination, Artifact(artifact.name, artifact.media_type, text))

    site.analysis.analyse = made  # type: ignore[method-assign]
    site.destination.send = sent  # type: ignore[method-assign]


async def look(performer: UpsPerformer) -> None:
    await performer.tick()
    await performer.settled()


async def work(site: Site, performer: UpsPerformer, times: int = 4) -> None:
    for _ in range(times):
        await look(performer)
        await site.step()


async def test_a_workitem_is_claimed_performed_and_completed_with_its_outputs(
    hospital: Hospital, tmp_path: Path
) -> None:
    async with running_site(tmp_path) as site:
        make_real_objects(site)
        performer = hospital.performer(site)
        await look(performer)
        assert hospital.step.states == ["SCHEDULED", "IN PROGRESS"]
        assert hospital.step.data["00741002"]["Value"][0]["00741004"]["Value"] == [50]
        await work(site, performer)
        assert hospital.step.states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
        (performed,) = Dataset.from_json(hospital.step.data).UnifiedProcedureStepPerformedProcedureSequence
        assert performed.PerformedStationNameCodeSequence[0].CodeValue == "RADSERVE"
        outputs = performed.OutputInformationSequence
        sent = {line.split()[1] for line in site.destination.sent()}
        assert {each.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for each in outputs} == sent
        assert {each.StudyInstanceUID for each in outputs} == {STUDY}
        url = outputs[0].WADORSRetrievalSequence[0].RetrieveURL
        assert url.startswith("https://archive.example/dicom-web/studies/")
        assert len(site.analysis.jobs) == 1 and not list((tmp_path / "ups").iterdir())


def points() -> list[str]:
    """Each place at which a performer can end, on the way to a completed workitem."""
    several = {"get": 2, "_update": 3, "_change_state": 2, "_put": 5, "_forget": 1, "signal": 1, "list_instances": 1}
    return [
        f"{method}:{when}:{number}"
        for method, count in several.items()
        for number in range(1, count + 1)
        for when in ("before", "after")
    ]


@pytest.mark.parametrize("point", points())
async def test_a_kill_at_any_point_leaves_one_result_and_a_completed_workitem(
    hospital: Hospital, tmp_path: Path, point: str
) -> None:
    async with running_site(tmp_path) as site:
        make_real_objects(site)
        with pytest.raises(KilledError):
            await work(site, hospital.performer(site, point), 6)
        await work(site, hospital.performer(site), 6)
        assert hospital.step.states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
        assert len(site.analysis.jobs) == 1 and len(await site.rows(schema.results)) == 1
        assert len(site.destination.sent()) == 2 == len(set(site.destination.sent()))
        assert not list((tmp_path / "ups").iterdir())


async def test_a_study_that_was_analysed_before_gives_its_result_and_no_second_one(
    hospital: Hospital, tmp_path: Path
) -> None:
    async with running_site(tmp_path) as site:
        make_real_objects(site)
        await site.receive(instance("s", 1))
        await site.receive(instance("s", 2))
        await site.finish()
        await work(site, hospital.performer(site))
        assert hospital.step.state == "COMPLETED"
        assert len(site.analysis.jobs) == 1


async def test_another_performer_keeps_what_it_has_claimed(hospital: Hospital, tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        with pytest.raises(KilledError):
            await work(site, hospital.performer(site, "_change_state:before:1"))
        hospital.origin.change(hospital.step, "IN PROGRESS", "9.9.9")
        await work(site, hospital.performer(site))
        assert (hospital.step.state, hospital.step.transaction_uid) == ("IN PROGRESS", "9.9.9")
        assert not site.analysis.jobs and not list((tmp_path / "ups").iterdir())


async def test_only_the_workitems_that_are_asked_for_are_taken(hospital: Hospital, tmp_path: Path) -> None:
    hospital.origin.schedule("1.2.5", (STUDY, ""), label="PRINT")
    async with running_site(tmp_path) as site:
        await look(hospital.performer(site, keys={"WorklistLabel": "AI"}))
        assert [step.state for step in hospital.origin.steps.values()] == ["IN PROGRESS", "SCHEDULED"]


async def test_of_the_inputs_only_the_named_series_is_retrieved(hospital: Hospital, tmp_path: Path) -> None:
    hospital.archive.add(other := instance("s", 3, SeriesInstanceUID="1.2.9"))
    hospital.origin.schedule(ITEM, (STUDY, "1.2.9"))
    async with running_site(tmp_path) as site:
        await look(hospital.performer(site))
        assert [path.read_bytes() for path in (tmp_path / "studies").rglob("*.dcm")] == [other]


def reason_of(step: Step) -> str:
    return str(step.data["00741002"]["Value"][0]["00741238"]["Value"][0])


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [((), "names no study"), ((("../x", ""),), "names no study"), ((("1.2.99", ""),), "no images of the study 1.2.99")],
)
async def test_a_workitem_that_cannot_be_done_is_cancelled_with_the_reason(
    hospital: Hospital, tmp_path: Path, inputs: tuple[tuple[str, str], ...], expected: str
) -> None:
    hospital.origin.schedule(ITEM, *inputs)
    async with running_site(tmp_path) as site:
        await work(site, hospital.performer(site))
        assert hospital.step.states == ["SCHEDULED", "IN PROGRESS", "CANCELED"]
        assert expected in reason_of(hospital.step)
        assert not list((tmp_path / "ups").iterdir())


async def test_a_study_that_no_rule_takes_or_that_fails_is_cancelled_with_the_reason(
    hospital: Hospital, tmp_path: Path
) -> None:
    rules = RuleSet((Rule("ct", "pack", Is("modality", ("CT",))),))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with running_site(tmp_path / "a", rules=rules) as site:
        await work(site, hospital.performer(site))
        assert hospital.step.state == "CANCELED" and "no routing rule" in reason_of(hospital.step)
    hospital.origin.schedule(ITEM, (STUDY, ""))
    async with running_site(tmp_path / "b") as site:
        site.analysis.poison = lambda job: DicomError(ErrorCode.DECODE_FAILED, "the pixels cannot be decoded")
        await work(site, hospital.performer(site))
        assert hospital.step.state == "CANCELED" and "the pixels cannot be decoded" in reason_of(hospital.step)


async def test_an_archive_that_is_away_is_waited_for_but_not_for_ever(hospital: Hospital, tmp_path: Path) -> None:
    hospital.archive.answer = lambda request: Response(status_code=503)
    async with running_site(tmp_path) as site:
        make_real_objects(site)
        performer = hospital.performer(site)
        await work(site, performer, RETRIEVE_ATTEMPTS - 1)
        assert hospital.step.state == "IN PROGRESS"
        hospital.archive.answer = lambda request: None
        await work(site, performer)
        assert hospital.step.state == "COMPLETED"
        hospital.archive.answer = lambda request: Response(status_code=503)
        hospital.origin.schedule(ITEM, (STUDY, ""))
        await work(site, performer, RETRIEVE_ATTEMPTS + 1)
        assert hospital.step.state == "CANCELED" and "503" in reason_of(hospital.step)


async def test_an_origin_server_that_is_away_costs_nothing_but_time(hospital: Hospital, tmp_path: Path) -> None:
    chance = random.Random(7)  # always the same: every third request or so fails

    def answer(request: Request) -> Response | None:
        return Response(status_code=503) if chance.random() < 0.3 else None

    hospital.origin.answer = answer
    async with running_site(tmp_path) as site:
        make_real_objects(site)
        performer = hospital.performer(site)
        for _ in range(40):
            try:
                await look(performer)
            except RadserveError as error:
                assert error.code is ErrorCode.SERVER_UNREACHABLE
            await site.step()
            if hospital.step.state == "COMPLETED":
                break
        assert hospital.step.states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
        assert len(site.analysis.jobs) == 1


async def test_a_cancel_request_is_honoured_even_after_a_kill(hospital: Hospital, tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        performer = hospital.performer(site)
        await look(performer)
        await performer.request_cancel("9.9.9", "of another")
        await performer.request_cancel(ITEM, "the wrong patient")
        await work(site, hospital.performer(site))
        assert hospital.step.states == ["SCHEDULED", "IN PROGRESS", "CANCELED"]
        assert reason_of(hospital.step) == "the wrong patient"


def ask_for_cancellation(hospital: Hospital, reason: str) -> None:
    body = [{"00741238": {"vr": "LT", "Value": [reason]}}]
    answer = httpx2.post(f"{hospital.origin_url}/workitems/{ITEM}/cancelrequest", json=body)
    assert answer.status_code == 202


async def eventually(condition: Callable[[], Any], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_cancel_request_comes_by_the_event_channel_also_after_it_was_lost(
    hospital: Hospital, tmp_path: Path
) -> None:
    async with event_channel(hospital.origin) as peer, running_site(tmp_path) as site:
        performer = hospital.performer(site)
        await look(performer)
        assert hospital.origin.subscribers == [(ITEM, "RADSERVE")]
        listening = asyncio.create_task(performer.listen(partial(open_channel, peer, "RADSERVE")))
        await eventually(lambda: hospital.origin.channels and hospital.origin.subscribers)
        await hospital.origin.channels[0].close()
        hospital.origin.subscribers.clear()
        ask_for_cancellation(hospital, "not needed any more")
        async with asyncio.timeout(60):
            while hospital.step.state == "IN PROGRESS":  # by the report alone, no further look at the worklist
                site.clock.advance(10.0)
                await asyncio.sleep(0.02)
        assert len(hospital.origin.channels) == 2 and hospital.origin.subscribers == [(ITEM, "RADSERVE")]
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await performer.settled()
        assert (hospital.step.state, reason_of(hospital.step)) == ("CANCELED", "not needed any more")


async def test_a_request_that_the_origin_server_notes_is_seen_without_a_channel(
    hospital: Hospital, tmp_path: Path
) -> None:
    hospital.origin.notes_requests = True
    async with running_site(tmp_path) as site:
        performer = hospital.performer(site)
        await look(performer)
        ask_for_cancellation(hospital, "the wrong patient")
        await work(site, performer)
        assert (hospital.step.state, reason_of(hospital.step)) == ("CANCELED", "the wrong patient")
        assert await site.states() == ["called-off"] and not site.analysis.jobs


class Endless:
    """An analysis that never ends by itself."""

    def __init__(self, site: Site) -> None:
        self.began, self.stopped = asyncio.Event(), asyncio.Event()
        site.analysis.analyse = self.analyse  # type: ignore[method-assign]

    async def analyse(self, job: Any) -> Any:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.set()


async def test_a_request_stops_the_analysis_and_nothing_is_delivered(hospital: Hospital, tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        analyse = site.analysis.analyse
        analysis = Endless(site)
        performer = hospital.performer(site)
        await look(performer)
        await site.workflow.tick()
        async with asyncio.timeout(60):
            await analysis.began.wait()
        await performer.request_cancel(ITEM, "the wrong patient")
        await performer.settled()
        assert (hospital.step.state, reason_of(hospital.step)) == ("CANCELED", "the wrong patient")
        await site.workflow.tick()
        async with asyncio.timeout(60):
            await analysis.stopped.wait()
        await site.finish(times=4)
        assert await site.states() == ["called-off"] and not site.destination.sent()
        assert not await site.rows(schema.results) and not await site.rows(schema.quarantine)
        # who asks again gets it, once
        site.analysis.analyse = analyse  # type: ignore[method-assign]
        make_real_objects(site)
        hospital.origin.schedule(ITEM, (STUDY, ""))
        await work(site, performer)
        assert hospital.step.state == "COMPLETED" and len(site.destination.sent()) == 2


async def test_a_request_stops_a_retrieval(hospital: Hospital, tmp_path: Path) -> None:
    hospital.origin.notes_requests = True
    async with running_site(tmp_path) as site:
        performer = hospital.performer(site)
        list_instances = performer._archive.list_instances

        async def slow(study: Any) -> Any:
            ask_for_cancellation(hospital, "too late")
            await asyncio.Event().wait()

        performer._archive.list_instances = slow  # type: ignore[method-assign]
        await performer.tick()
        async with asyncio.timeout(60):
            while hospital.step.state != "CANCELED":
                site.clock.advance(10.0)
                await asyncio.sleep(0.01)
        await performer.settled()
        assert not await site.states() and not list((tmp_path / "ups").iterdir())
        performer._archive.list_instances = list_instances  # type: ignore[method-assign]


async def test_what_is_here_for_others_goes_on(hospital: Hospital, tmp_path: Path) -> None:
    hospital.origin.schedule("1.2.5", (STUDY, ""))
    async with running_site(tmp_path) as site:
        make_real_objects(site)
        performer = hospital.performer(site)
        await look(performer)
        await performer.request_cancel(ITEM, "not for this one")
        await work(site, performer)
        assert [step.state for step in hospital.origin.steps.values()] == ["CANCELED", "COMPLETED"]
        assert len(site.destination.sent()) == 2


async def test_a_request_after_the_first_delivery_is_too_late(hospital: Hospital, tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        make_real_objects(site)
        performer = hospital.performer(site)
        await look(performer)
        refuse = site.destination.refuse
        away = PeerError(ErrorCode.SERVER_UNREACHABLE, "away")
        site.destination.refuse = lambda name, artifact: away if site.destination.sent() else None
        await site.step()
        assert len(site.destination.sent()) == 1
        await performer.request_cancel(ITEM, "too late")
        await work(site, performer, 1)
        assert hospital.step.state == "IN PROGRESS"
        site.destination.refuse = refuse
        await site.finish(100, times=2)
        await work(site, performer, 1)
        assert hospital.step.state == "COMPLETED" and len(site.destination.sent()) == 2


async def test_a_workitem_that_the_origin_server_cancels_itself_is_forgotten(
    hospital: Hospital, tmp_path: Path
) -> None:
    async with running_site(tmp_path) as site:
        await look(hospital.performer(site))
        hospital.origin.change(hospital.step, "CANCELED", hospital.step.transaction_uid)
        await work(site, hospital.performer(site))
        assert not list((tmp_path / "ups").iterdir())
        assert await site.states() == ["called-off"] and not site.destination.sent()


async def test_without_the_workflow_there_is_no_performer(tmp_path: Path) -> None:
    unused: Any = None
    with pytest.raises(RadserveError, match="RADSERVE_WORKFLOW"):
        async with performing(Settings(data_dir=tmp_path, ups_url="https://x.example/ups"), unused, unused):
            pass
    async with performing(Settings(data_dir=tmp_path), unused, unused) as performer:
        assert performer is None
