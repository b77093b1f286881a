"""A workitem whose cancellation is asked for stops where it is, unless a result has left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.web_peer.event_channel import open_channel
from radserve.errors import ErrorCode, PeerError
from tests.support.hospital import ITEM, STUDY, Hospital, look, make_real_objects, reason_of, work
from tests.support.workflow import Site, running_site
from tests.support.worklist import event_channel


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
