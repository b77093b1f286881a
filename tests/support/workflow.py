"""A whole site around the workflow, with a fake analysis and a destination that writes files.

async with running_site(tmp_path) as site:
    await site.receive(instance_bytes)
    await site.finish()
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.database import Database, sqlite_url
from radserve.dicom_io.index import StudyIndex
from radserve.dicom_io.outbox_ledger import SqlOutboxLedger
from radserve.dicom_io.quarantine import QuarantineFolder
from radserve.dicom_io.result_folders import ResultFolders
from radserve.dicom_io.store import IndexedOptions, StoredInstance, StudyStore
from radserve.dicom_io.work_ledger import SqlWorkLedger
from radserve.errors import RadserveError
from radserve.pipelines.outbox import Outbox
from radserve.pipelines.rules import Rule, RuleSet, SeriesFacts, StudyFacts
from radserve.pipelines.shipping import Shipper
from radserve.pipelines.timing import CompletionPolicy, RetryPolicy
from radserve.pipelines.workflow import AnalysisJob, StudyWorkflow, WorkflowOptions
from radserve.ports import Begin, Outcome, Step, WorkStatus
from radserve.references import InstanceRef, StudyRef
from radserve.results import Artifact
from radserve.uids import derive_uid
from radserve.work import ResultObject
from tests.support.dicoms import cr, part10

IMAGE = np.zeros((8, 8), np.uint16)
RULES = RuleSet((Rule("all", "pack", destinations=("pacs",)),))


def instance(study: str, number: int = 1, **attributes: Any) -> bytes:
    """Small Part 10 bytes."""
    given = {"study": study, "instance": str(number), "InstanceNumber": number, **attributes}
    return part10(cr(IMAGE + number, **given))


class VirtualClock:
    """Time that passes when told to; whoever sleeps goes on when it is late enough."""

    def __init__(self, now: float = 1000.0) -> None:
        self._now = now
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        sleeper = (self._now + seconds, asyncio.Event())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1].wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)

    @property
    def sleepers(self) -> int:
        """How many wait for time to pass."""
        return len(self._sleepers)

    def advance(self, seconds: float) -> None:
        self._now += seconds
        for until, woken in self._sleepers:
            if until <= self._now:
                woken.set()
        self._sleepers = [each for each in self._sleepers if not each[1].is_set()]


class InlineWorkers:
    """Runs tasks in this process."""

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args)


class InlineWork:
    """Durable work without the durability: one task for each id."""

    def __init__(self) -> None:
        self._steps: Sequence[tuple[str, Step]] = ()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def register(self, kind: str, steps: Sequence[tuple[str, Step]]) -> None:
        self._steps = steps

    async def open(self) -> None:
        """Nothing was under way."""

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def start(self, kind: str, work_id: str) -> None:
        if work_id not in self._tasks:
            self._tasks[work_id] = asyncio.create_task(self._run(work_id))

    async def list(self) -> Mapping[str, WorkStatus]:
        return {name: WorkStatus.RUNNING for name, task in self._tasks.items() if not task.done()}

    async def retry(self, work_id: str) -> None:
        self._tasks[work_id] = asyncio.create_task(self._run(work_id))

    async def _run(self, work_id: str) -> None:
        for _, step in self._steps:
            await step(work_id)


class FakeAnalysis:
    """Two objects and a text for each job. `poison` tells of which jobs raise which error."""

    def __init__(self) -> None:
        self.jobs: list[AnalysisJob] = []
        self.poison: Callable[[AnalysisJob], Exception | None] = lambda job: None

    async def facts(self, study: StudyRef, instances: Sequence[InstanceRef]) -> StudyFacts:
        series = sorted({each.series_instance_uid for each in instances})
        return StudyFacts(study.study_instance_uid, tuple(SeriesFacts(uid, modality="CR") for uid in series))

    async def digest(self, pack: str) -> str:
        return f"digest of {pack}"

    async def analyse(self, job: AnalysisJob) -> Sequence[ResultObject]:
        self.jobs.append(job)
        if error := self.poison(job):
            raise error
        await asyncio.sleep(0)
        made = []
        for output in ("sr", "secondary_capture"):
            uid = derive_uid(output, job.result.result_uid)
            data = f"{output} {uid} after {job.result.predecessor_uid}".encode()
            made.append(ResultObject(Artifact(f"{output}.dcm", "application/dicom", data), output, uid))
        return [*made, ResultObject(Artifact("report.txt", "text/plain", b"text"), "report")]


class FolderDestination:
    """Writes what it is sent, and a line for each time it is sent something. `refuse` raises instead."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.refuse: Callable[[str, Artifact], Exception | None] = lambda destination, artifact: None

    async def send(self, destination: str, artifact: Artifact) -> None:
        if error := self.refuse(destination, artifact):
            raise error
        uid = artifact.data.split()[1].decode()
        aside = self.root / "aside"
        aside.write_bytes(artifact.data)
        aside.rename(self.root / f"{destination}-{uid}")
        number = os.open(self.root / "log", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(number, f"{destination} {uid}\n".encode())
        os.close(number)

    async def has(self, destination: str, artifact: Artifact) -> bool:
        return (self.root / f"{destination}-{artifact.data.split()[1].decode()}").exists()

    def sent(self) -> list[str]:
        log = self.root / "log"
        return log.read_text().splitlines() if log.exists() else []


class OneByOne:
    """ports.ArtifactSender over a destination that takes one object at a time."""

    def __init__(self, destination: FolderDestination) -> None:
        self._destination = destination

    async def send(
        self, destination: str, artifacts: Sequence[Artifact], begin: Begin
    ) -> AsyncGenerator[Outcome, None]:
        for index, artifact in enumerate(artifacts):
            if await begin(index):
                try:
                    await self._destination.send(destination, artifact)
                except RadserveError as error:
                    yield index, error
                else:
                    yield index, None


class Site:
    """All parts, open to be looked at and to be broken."""

    def __init__(
        self,
        root: Path,
        *,
        work: Any = None,
        clock: Any = None,
        rules: RuleSet = RULES,
        url: str = "",
        wrap: Callable[[str, Any], Any] = lambda name, part: part,
        connections: int = 1,
        **options: Any,
    ) -> None:
        self.root = root
        self.clock = clock or VirtualClock()
        self.database = Database(url or sqlite_url(root / "index.db"))
        self.index = wrap("index", StudyIndex(self.database))
        self.ledger = SqlWorkLedger(self.database)
        self.outbox_ledger = SqlOutboxLedger(self.database)
        self.results = ResultFolders(root / "results")
        quarantine = QuarantineFolder(root / "quarantine", self.ledger, self.clock.now)
        indexed = IndexedOptions(quarantine, remove_result=self.results.remove, now=self.clock.now)
        workers: Any = InlineWorkers()
        self.store = StudyStore(root / "studies", workers, index=self.index, options=indexed)
        self.analysis = FakeAnalysis()
        self.destination = FolderDestination(root / "pacs")
        self.work = work or InlineWork()
        given = {"completion": CompletionPolicy(60, 600), "retries": RetryPolicy(3, 1.0), **options}
        self.workflow = StudyWorkflow(
            wrap("ledger", self.ledger),
            wrap("results", self.results),
            wrap("analysis", self.analysis),
            wrap("work", self.work),
            self.clock,
            WorkflowOptions(rules, **given),
        )
        ledger = wrap("outbox", self.outbox_ledger)
        sender = OneByOne(wrap("sender", self.destination))
        self.shipper = Shipper(ledger, wrap("results", self.results), sender, self.clock, probe=self.destination)
        self.outbox = Outbox(ledger, self.shipper, self.clock, connections)

    async def open(self) -> None:
        await self.database.open()
        await self.results.open()
        await self.store.open()
        await self.work.open()

    async def close(self) -> None:
        await self.work.close()
        await self.store.close()
        await self.database.close()

    async def receive(self, data: bytes, calling_ae: str = "") -> StoredInstance:
        async with self.store.receive(calling_ae) as incoming:
            incoming.write(data)
            return await incoming.commit()

    async def step(self) -> None:
        """One look of the workflow and of the outbox, and all that follows from it until what is left of it sleeps."""
        await self.workflow.tick()
        async with asyncio.timeout(120):
            while list((await self.work.list()).values()).count(WorkStatus.RUNNING) > self.clock.sleepers:
                await asyncio.sleep(0.0005)
        await self.outbox.tick()
        await self.outbox.settled()

    async def finish(self, seconds: float = 61.0, times: int = 1) -> None:
        """Let time pass and do what is to be done."""
        for _ in range(times):
            self.clock.advance(seconds)
            await self.step()

    async def rows(self, table: sa.Table) -> list[Any]:
        query = sa.select(table).order_by(*table.primary_key)
        return await self.database.run(lambda connection: list(connection.execute(query).all()))

    async def states(self) -> list[str]:
        return [row.state for row in await self.rows(schema.studies)]


@asynccontextmanager
async def running_site(root: Path, **options: Any) -> AsyncIterator[Site]:
    site = Site(root, **options)
    await site.open()
    try:
        yield site
    finally:
        await site.close()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)
