"""Each object reaches each destination once, or quarantine; under a virtual clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from radserve.dicom_io import index_schema as schema
from radserve.errors import ErrorCode, PeerError, RadserveError
from radserve.pipelines.rules import Rule, RuleSet
from radserve.work import QuarantineKind
from tests.support.workflow import instance, running_site


async def test_each_object_is_retried_on_its_own_and_sent_once(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        refusals = 2

        def refuse(destination: str, artifact: Any) -> Exception | None:
            nonlocal refusals
            if artifact.name == "sr.dcm" and refusals:
                refusals -= 1
                return RadserveError(ErrorCode.SERVER_UNREACHABLE, "no answer")
            return None

        site.destination.refuse = refuse
        await site.receive(instance("s"))
        await site.finish()
        assert await site.states() == ["analysed"] and len(site.destination.sent()) == 1
        await site.finish(times=3)
        assert await site.states() == ["delivered"]
        assert len(site.destination.sent()) == 2 == len(set(site.destination.sent()))


async def test_a_delivery_that_fails_three_times_goes_to_quarantine_and_can_be_retried(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        site.destination.refuse = lambda *_: RadserveError(ErrorCode.SERVER_UNREACHABLE, "no answer")
        await site.receive(instance("s"))
        await site.finish(times=6)
        entries = await site.ledger.quarantined()
        assert [(entry.kind, entry.destination) for entry in entries] == [(QuarantineKind.DELIVERY, "pacs")] * 2
        assert {row.attempts for row in await site.rows(schema.deliveries)} == {3}
        assert await site.states() == ["quarantined"]
        site.destination.refuse = lambda *_: None
        for entry in entries:
            await site.ledger.release(entry.quarantine_id, retry=True, now=site.clock.now())
        await site.finish()
        assert await site.states() == ["delivered"] and len(site.analysis.jobs) == 1
        assert len(site.destination.sent()) == 2


async def test_what_will_never_be_taken_goes_to_quarantine_at_once(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        final = PeerError(ErrorCode.SERVER_UNREACHABLE, "A900", is_transient=False)
        site.destination.refuse = lambda _, artifact: final if artifact.name == "sr.dcm" else None
        await site.receive(instance("s"))
        await site.finish()
        (entry,) = await site.ledger.quarantined()
        assert (entry.kind, entry.reason) == (QuarantineKind.DELIVERY, "A900")
        assert sorted(row.attempts for row in await site.rows(schema.deliveries)) == [1, 1]


async def test_an_object_that_arrived_though_the_answer_was_lost_is_not_sent_again(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        send = site.destination.send

        async def answer_is_lost(destination: str, artifact: Any) -> None:
            await send(destination, artifact)
            raise PeerError(ErrorCode.SERVER_UNREACHABLE, "the connection ended")

        site.destination.send = answer_is_lost  # type: ignore[method-assign]
        await site.receive(instance("s"))
        await site.finish()
        assert await site.states() == ["analysed"]
        await site.finish()
        assert await site.states() == ["delivered"]
        assert len(site.destination.sent()) == 2 == len(set(site.destination.sent()))


async def test_a_destination_that_is_down_does_not_hold_up_another(tmp_path: Path) -> None:
    rules = RuleSet((Rule("all", "pack", destinations=("down", "up")),))
    async with running_site(tmp_path, rules=rules) as site:
        down = RadserveError(ErrorCode.SERVER_UNREACHABLE, "no answer")
        site.destination.refuse = lambda destination, _: down if destination == "down" else None
        for name in range(5):
            await site.receive(instance(str(name)))
        await site.finish()
        assert len(site.destination.sent()) == 10
        assert {line.split()[0] for line in site.destination.sent()} == {"up"}


async def test_a_delivery_whose_end_was_not_seen_is_not_made_again_where_the_destination_has_it(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.receive(instance("s"))
        site.clock.advance(61)
        await site.workflow.tick()
        delivered = site.outbox_ledger.delivered

        async def dies(*args: Any) -> None:
            raise RuntimeError

        site.outbox_ledger.delivered = dies  # type: ignore[method-assign]
        await site.step()
        assert len(site.destination.sent()) == 1
        site.outbox_ledger.delivered = delivered  # type: ignore[method-assign]
        await site.step()
        assert len(site.destination.sent()) == 2 == len(set(site.destination.sent()))
        assert await site.states() == ["delivered"]
