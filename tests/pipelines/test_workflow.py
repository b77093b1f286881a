"""The way of a study under a virtual clock: revisions, retries, quarantine, erasure."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.outbox_ledger import SqlOutboxLedger
from radserve.errors import DicomError, ErrorCode, RadserveError, WorkerError
from radserve.pipelines.rules import Is, Rule, RuleSet
from radserve.references import StudyRef
from radserve.work import QuarantineKind, Signal, StudyState
from tests.support.dicoms import uid
from tests.support.postgres import postgres
from tests.support.workflow import Site, instance, running_site, until

STUDY = StudyRef(uid("study", "s"))


# The whole way


async def test_a_study_is_analysed_once_and_delivered_once(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        for number in range(3):
            await site.receive(instance("s", number))
        await site.step()
        assert await site.states() == ["receiving"] and not site.analysis.jobs
        await site.finish(times=4)
        assert await site.states() == ["delivered"]
        (job,) = site.analysis.jobs
        assert len(job.instances) == 3 and not job.result.incomplete and not job.result.predecessor_uid
        assert len(site.destination.sent()) == 2
        assert {row.state for row in await site.rows(schema.deliveries)} == {"delivered"}
        (result,) = await site.rows(schema.results)
        folder = tmp_path / "results" / result.result_uid
        assert sorted(path.name for path in folder.iterdir()) == [
            *("manifest.json", "report.txt", "secondary_capture.dcm", "sr.dcm")
        ]


async def test_a_signal_closes_a_study_at_once(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.receive(instance("s"))
        await site.ledger.signal(STUDY, Signal.COMPLETE)
        await site.step()
        assert await site.states() == ["delivered"]


async def test_a_study_with_fewer_instances_than_announced_is_marked_incomplete(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.receive(instance("s", 1))
        await site.ledger.signal(STUDY, Signal.COMPLETE, expected_instances=2)
        await site.step()
        assert not site.analysis.jobs
        await site.finish()
        assert [job.result.incomplete for job in site.analysis.jobs] == [True]
        await site.receive(instance("s", 2))
        await site.finish()
        assert [job.result.incomplete for job in site.analysis.jobs] == [True, False]


async def test_a_study_that_never_falls_quiet_is_cut_at_the_cap_and_goes_on(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        for number in range(15):
            await site.receive(instance("s", number))
            await site.finish(50)
        await site.finish(61)
        first, second = site.analysis.jobs
        assert (first.result.incomplete, second.result.incomplete) == (True, False)
        assert len(first.instances) < 15 == len(second.instances)
        assert second.result.predecessor_uid == first.result.result_uid


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
async def test_the_order_of_arrival_changes_nothing(tmp_path: Path, order: tuple[int, ...]) -> None:
    async with running_site(tmp_path) as site:
        for number in order:
            await site.receive(instance("s", number))
        await site.finish(times=2)
        (job,) = site.analysis.jobs
        expected = [uid("instance", "s", "series", str(number)) for number in range(4)]
        assert sorted(each.sop_instance_uid for each in job.instances) == sorted(expected)
        seen = {path.name for path in (tmp_path / "pacs").iterdir()}
    twin = tmp_path / "twin"
    twin.mkdir()
    async with running_site(twin) as site:
        for number in range(4):
            await site.receive(instance("s", number))
        await site.finish(times=2)
        assert {path.name for path in (twin / "pacs").iterdir()} == seen


@pytest.mark.parametrize("late", ["before analysis", "after delivery"])
async def test_a_late_instance_gives_a_revised_result_that_names_its_predecessor(tmp_path: Path, late: str) -> None:
    async with running_site(tmp_path) as site:
        await site.receive(instance("s", 1))
        if late == "before analysis":
            site.clock.advance(61)
            revision = await site.ledger.close(STUDY, incomplete=False, now=site.clock.now())
            assert revision is not None
        else:
            await site.finish()
        await site.receive(instance("s", 2))
        assert await site.states() == ["receiving"]
        await site.finish(times=3)
        first, second = sorted(site.analysis.jobs, key=lambda job: job.result.revision)
        assert (len(first.instances), len(second.instances)) == (1, 2)
        assert second.result.predecessor_uid == first.result.result_uid != second.result.result_uid
        assert await site.states() == ["delivered"]
        assert len(site.destination.sent()) == 4 == len(set(site.destination.sent()))


async def test_the_same_instance_again_changes_nothing(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.receive(instance("s", 1))
        await site.finish()
        assert (await site.receive(instance("s", 1))).duplicate
        await site.finish(times=2)
        assert len(site.analysis.jobs) == 1 and await site.states() == ["delivered"]


async def test_a_late_instance_that_the_pack_does_not_see_leaves_its_result_standing(tmp_path: Path) -> None:
    series = uid("series", "s", "a")
    rules = RuleSet((Rule("one", "pack", Is("tag.SeriesInstanceUID", (series,)), destinations=("pacs",)),))
    async with running_site(tmp_path, rules=rules) as site:
        facts = site.analysis.facts

        async def with_tags(*args: Any) -> Any:
            found = await facts(*args)
            for each in found.series:
                object.__setattr__(each, "tags", {"SeriesInstanceUID": (each.series_instance_uid,)})
            return found

        site.analysis.facts = with_tags  # type: ignore[method-assign]
        await site.receive(instance("s", 1, series="a"))
        await site.finish()
        await site.receive(instance("s", 2, series="b"))
        await site.finish(times=2)
        assert len(site.analysis.jobs) == 1
        assert [row.revision for row in await site.rows(schema.studies)] == [2]


async def test_a_study_that_no_rule_takes_is_left_alone(tmp_path: Path) -> None:
    rules = RuleSet((Rule("mr", "pack", Is("modality", ("MR",))),))
    async with running_site(tmp_path, rules=rules) as site:
        await site.receive(instance("s"))
        await site.finish(times=2)
        assert await site.states() == ["not-routed"] and not site.analysis.jobs


async def test_each_destination_gets_what_its_rule_or_its_usual_says(tmp_path: Path) -> None:
    rules = RuleSet(
        (Rule("all", "pack", outputs=("sr",), destinations=("pacs",)), Rule("more", "pack", destinations=("viewer",)))
    )
    async with running_site(tmp_path, rules=rules, usual_outputs={"viewer": ("secondary_capture",)}) as site:
        await site.receive(instance("s"))
        await site.finish()
        assert [row.artifact for row in await site.rows(schema.deliveries)] == ["sr.dcm", "secondary_capture.dcm"]
        assert sorted(line.split()[0] for line in site.destination.sent()) == ["pacs", "viewer"]
        assert site.analysis.jobs[0].outputs == ("sr", "secondary_capture")


# What goes wrong


async def test_poison_among_a_hundred_good_studies_costs_itself_alone(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        bad = uid("study", "bad")

        def poison(job: Any) -> Exception | None:
            is_bad = job.result.study_instance_uid == bad
            return WorkerError(ErrorCode.WORKER_DIED, "the worker died") if is_bad else None

        site.analysis.poison = poison
        for name in (*map(str, range(50)), "bad", *map(str, range(50, 100))):
            await site.receive(instance(name))
        await site.finish(times=6)
        assert len(await site.rows(schema.results)) == 100
        assert len(site.destination.sent()) == 200 == len(set(site.destination.sent()))
        (entry,) = await site.ledger.quarantined()
        assert (entry.kind, entry.code, entry.reason) == (
            *(QuarantineKind.STUDY, ErrorCode.WORKER_DIED),
            "the worker died",
        )
        assert entry.study_instance_uid == bad
        assert sum(job.result.study_instance_uid == bad for job in site.analysis.jobs) == 3
        assert sorted(await site.states()) == ["delivered"] * 100 + ["quarantined"]


@pytest.mark.parametrize(
    ("error", "attempts", "code"),
    [
        (WorkerError(ErrorCode.WORKER_TIMEOUT, "too long"), 3, ErrorCode.WORKER_TIMEOUT),
        (DicomError(ErrorCode.DECODE_FAILED, "broken"), 1, ErrorCode.DECODE_FAILED),
        (ValueError("Doe^Jane"), 3, ErrorCode.INTERNAL),
    ],
)
async def test_what_may_pass_is_tried_three_times_what_cannot_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, attempts: int, code: ErrorCode
) -> None:
    async with running_site(tmp_path) as site:
        site.analysis.poison = lambda job: error
        await site.receive(instance("s"))
        await site.finish(times=6)
        (entry,) = await site.ledger.quarantined()
        assert (entry.code, len(site.analysis.jobs)) == (code, attempts)
        assert "Doe" not in entry.reason + caplog.text


async def test_a_fault_that_passes_leaves_a_result_and_nothing_in_quarantine(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        faults = [WorkerError(ErrorCode.WORKER_DIED, "died")] * 2
        site.analysis.poison = lambda job: faults.pop() if faults else None
        await site.receive(instance("s"))
        await site.finish(times=5)
        assert await site.states() == ["delivered"] and not await site.ledger.quarantined()


async def test_attempts_that_ended_the_process_count(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.receive(instance("s"))
        revision = await site.ledger.close(STUDY, incomplete=False, now=1.0)
        assert revision is not None
        for _ in range(3):  # as processes that were killed would leave it
            await site.ledger.begin_attempt(revision)
        await site.finish()
        (entry,) = await site.ledger.quarantined()
        assert (entry.code, len(site.analysis.jobs)) == (ErrorCode.WORKER_DIED, 0)
        assert entry.reason == "the process ended during each of 3 attempts"


async def test_what_is_in_quarantine_can_be_tried_again_or_dropped(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        site.analysis.poison = lambda job: DicomError(ErrorCode.DECODE_FAILED, "broken")
        await site.receive(instance("s"))
        await site.finish()
        (entry,) = await site.ledger.quarantined()
        site.analysis.poison = lambda job: None
        await site.ledger.release(entry.quarantine_id, retry=True, now=site.clock.now())
        await site.finish(times=2)
        assert await site.states() == ["delivered"] and not await site.ledger.quarantined()
        with pytest.raises(RadserveError, match="nothing in quarantine"):
            await site.ledger.release(entry.quarantine_id, retry=True, now=0)

        site.analysis.poison = lambda job: DicomError(ErrorCode.DECODE_FAILED, "broken")
        await site.receive(instance("t"))
        await site.finish()
        (entry,) = await site.ledger.quarantined()
        await site.ledger.release(entry.quarantine_id, retry=False, now=site.clock.now())
        await site.finish(times=2)
        assert sorted(await site.states()) == ["delivered", "quarantined"] and len(await site.rows(schema.results)) == 1


async def test_one_pack_that_fails_does_not_keep_another_from_its_result(tmp_path: Path) -> None:
    rules = RuleSet((Rule("a", "bad", destinations=("pacs",)), Rule("b", "good", destinations=("pacs",))))
    async with running_site(tmp_path, rules=rules) as site:
        broken = DicomError(ErrorCode.DECODE_FAILED, "broken")
        site.analysis.poison = lambda job: broken if job.result.pack == "bad" else None
        await site.receive(instance("s"))
        await site.finish(times=2)
        assert [row.pack for row in await site.rows(schema.results)] == ["good"]
        assert len(site.destination.sent()) == 2
        (entry,) = await site.ledger.quarantined()
        site.analysis.poison = lambda job: None
        await site.ledger.release(entry.quarantine_id, retry=True, now=site.clock.now())
        await site.finish(times=2)
        assert sorted(row.pack for row in await site.rows(schema.results)) == ["bad", "good"]
        assert len(site.destination.sent()) == 4 == len(set(site.destination.sent()))
        assert await site.states() == ["delivered"]


async def test_an_erased_study_loses_its_results_and_its_outbox(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.receive(instance("s", PatientID="CANARY-9"))
        site.destination.refuse = lambda *_: RadserveError(ErrorCode.SERVER_UNREACHABLE, "no answer")
        await site.finish()
        assert list((tmp_path / "results").glob("2.25.*"))
        await site.store.erase(STUDY)
        assert not list((tmp_path / "results").glob("2.25.*"))
        site.destination.refuse = lambda *_: None
        await site.finish(times=3)
        assert not site.destination.sent()
        for table in (schema.results, schema.deliveries, schema.revisions, schema.studies, schema.instances):
            assert not await site.rows(table)
    needles = (b"CANARY-9", STUDY.study_instance_uid.encode())
    left = [path for path in tmp_path.rglob("*") if path.is_file() and any(n in path.read_bytes() for n in needles)]
    assert not left


async def test_states_follow_the_latest_revision(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.receive(instance("s", 1))
        await site.finish()
        site.analysis.poison = lambda job: DicomError(ErrorCode.DECODE_FAILED, "broken")
        await site.receive(instance("s", 2))
        await site.finish()
        assert await site.states() == ["quarantined"]
        assert [row.state for row in await site.rows(schema.revisions)] == ["delivered", "quarantined"]
        assert not await site.ledger.revisions(StudyState.COMPLETE)


async def test_the_whole_way_on_postgresql(tmp_path: Path) -> None:
    with postgres() as url:
        async with running_site(tmp_path, url=url) as site:
            bad = uid("study", "3")
            broken = DicomError(ErrorCode.DECODE_FAILED, "broken")
            site.analysis.poison = lambda job: broken if job.result.study_instance_uid == bad else None
            for name in range(6):
                await site.receive(instance(str(name), 1))
            await site.finish(times=2)
            await site.receive(instance("0", 2))
            await site.finish(times=2)
            assert sorted(await site.states()) == ["delivered"] * 5 + ["quarantined"]
            assert len(site.destination.sent()) == 12 == len(set(site.destination.sent()))
            await site.store.erase(StudyRef(bad))
            assert await site.states() == ["delivered"] * 5 and not await site.ledger.quarantined()


async def test_what_one_node_has_begun_is_left_to_it(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.receive(instance("s"))
        site.clock.advance(61)
        await site.workflow.tick()
        await until(lambda: is_state(site, "analysed"))
        other = SqlOutboxLedger(site.database, "other")
        first, second = await other.due(site.clock.now(), 10)
        assert await site.outbox_ledger.begin(first.key) == 1
        assert await other.begin(first.key) == 0
        assert [each.key for each in await other.due(site.clock.now(), 10)] == [second.key]
        mine = await site.outbox_ledger.due(site.clock.now(), 10)
        assert [(each.key, each.interrupted) for each in mine] == [(first.key, True), (second.key, False)]


async def is_state(site: Site, state: str) -> bool:
    return await site.states() == [state]
