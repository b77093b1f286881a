"""Deliveries over several connections: in the order of a study, never twice, and none waiting for another's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from radserve.dicom_io import index_schema as schema
from radserve.errors import ErrorCode, PeerError
from radserve.pipelines.rules import Rule, RuleSet
from radserve.ports import Begin, Outcome
from radserve.results import Artifact
from tests.support.dicoms import uid
from tests.support.workflow import Site, instance, running_site, until

TWO = RuleSet((Rule("all", "pack", destinations=("slow", "pacs")),))
AWAY = PeerError(ErrorCode.SERVER_UNREACHABLE, "away")


def sop_uid(artifact: Artifact) -> str:
    return artifact.data.split()[1].decode()


class Connections:
    """A sender that holds each object back until it is let go, and sees what is under way at once."""

    def __init__(self, site: Site) -> None:
        self.gate, self.opened = asyncio.Event(), 0
        self.under_way: dict[int, str] = {}
        self.most = 0
        self.held = ("slow",)
        self.sent: list[str] = []
        site.shipper._sender = self

    async def send(self, destination: str, artifacts: Sequence[Artifact], begin: Begin) -> AsyncGenerator[Outcome, Any]:
        self.opened += 1
        number = self.opened
        for index, artifact in enumerate(artifacts):
            if await begin(index):
                if destination in self.held:
                    self.under_way[number] = sop_uid(artifact)
                    self.most = max(self.most, len(self.under_way))
                    await self.gate.wait()
                    del self.under_way[number]
                self.sent.append(f"{destination} {sop_uid(artifact)}")
                yield index, None


async def received(site: Site, *names: str) -> None:
    for name in names:
        await site.receive(instance(name))
    site.clock.advance(61)
    await site.workflow.tick()
    await until(lambda: _done(site))


async def _done(site: Site) -> bool:
    return not await site.work.list()


async def test_several_connections_carry_several_studies_and_each_study_goes_over_one(tmp_path: Path) -> None:
    async with running_site(tmp_path, rules=TWO, connections=2) as site:
        sender = Connections(site)
        await received(site, *"abcde")
        await site.outbox.tick()
        async with asyncio.timeout(60):
            while len(sender.under_way) < 2 or sum(line.startswith("pacs") for line in sender.sent) < 10:
                await asyncio.sleep(0.001)
        rows = {row.sop_instance_uid: row.study_instance_uid for row in await site.rows(schema.deliveries)}
        assert len({rows[each] for each in sender.under_way.values()}) == 2
        for _ in range(3):  # a look while both connections are in use starts nothing
            await site.outbox.tick()
        assert sender.most == 2
        sender.gate.set()
        await site.outbox.settled()
        await site.outbox.tick()
        await site.outbox.settled()
        assert len(sender.sent) == 20 == len(set(sender.sent)) and sender.most == 2
        assert sender.opened < 10, "several studies share a connection"
        assert set(await site.states()) == {"delivered"}
        slow = [rows[line.split()[1]] for line in sender.sent if line.startswith("slow")]
        places = {study: [at for at, each in enumerate(slow) if each == study] for study in slow}
        assert all(len(each) == 2 for each in places.values())


async def test_what_comes_meanwhile_takes_the_connection_that_is_free(tmp_path: Path) -> None:
    rules = RuleSet((Rule("all", "pack", destinations=("slow",)),))
    async with running_site(tmp_path, rules=rules, connections=2) as site:
        sender = Connections(site)
        for name in ("a", "b"):
            await received(site, name)
            await site.outbox.tick()
        async with asyncio.timeout(60):
            while len(sender.under_way) < 2:
                await asyncio.sleep(0.001)
        assert sender.opened == 2
        sender.gate.set()
        await site.outbox.settled()
        assert len(set(sender.sent)) == 4 == len(sender.sent)


class Breaking:
    """One association for all: a poisonous object ends it, and nothing after that leaves. `away`: none at all."""

    def __init__(self, site: Site, poison: str) -> None:
        self.poison, self.away, self.sent = poison, False, list[str]()
        site.shipper._sender = self

    async def send(self, destination: str, artifacts: Sequence[Artifact], begin: Begin) -> AsyncGenerator[Outcome, Any]:
        broken = self.away
        for index, artifact in enumerate(artifacts):
            if broken:
                yield index, AWAY
            elif await begin(index):
                broken = sop_uid(artifact) == self.poison
                if not broken:
                    self.sent.append(sop_uid(artifact))
                yield index, AWAY if broken else None


async def test_an_object_that_breaks_the_connection_costs_the_others_nothing(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        sender = Breaking(site, "")
        sender.away = True
        await received(site, *"abcdef")
        await site.outbox.tick()
        await site.outbox.settled()
        rows = await site.rows(schema.deliveries)
        assert {row.attempts for row in rows} == {1}, "a destination that is not there is an attempt for each"
        sender.away = False
        sender.poison = rows[5].sop_instance_uid
        for _ in range(10):
            await site.finish(100)
        rows = await site.rows(schema.deliveries)
        assert {row.state for row in rows if row.sop_instance_uid == sender.poison} == {"given-up"}
        assert [row.state for row in rows].count("delivered") == 11 == len(set(sender.sent)) == len(sender.sent)
        assert max(row.attempts for row in rows if row.sop_instance_uid != sender.poison) == 2


async def test_of_two_revisions_the_earlier_one_goes_first(tmp_path: Path) -> None:
    async with running_site(tmp_path, connections=2) as site:
        sender = Breaking(site, "")
        await received(site, "s")
        await site.receive(instance("s", 2))
        site.clock.advance(61)
        await site.workflow.tick()
        await until(lambda: _done(site))
        await site.outbox.tick()
        await site.outbox.settled()
        revisions = {row.sop_instance_uid: row.revision for row in await site.rows(schema.deliveries)}
        assert [revisions[each] for each in sender.sent] == [1, 1, 2, 2]
        assert uid("study", "s") in {row.study_instance_uid for row in await site.rows(schema.deliveries)}
