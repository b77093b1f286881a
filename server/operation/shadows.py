"""Shadows: versions that see the studies the active version answers, one at a time, after the answer was given."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

from radserve.errors import ErrorCode, RadserveError, RequestError
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.study import Analysis, AnalysisRequest
from radserve.ports import InstanceSource
from radserve.results import StudyResult
from radserve.server.operation.leases import LoadedPack, MakeAnalyser
from radserve.server.operation.shadow_store import ShadowStore

logger = logging.getLogger(__name__)

WAITING = 256  # analyses that may wait; further studies are not seen by the shadows, and are counted
ANALYSIS_SECONDS = 600.0


@dataclass(frozen=True, slots=True, eq=False)
class ShadowJob:
    """A study that was answered, and the shadow that is to see it; `release` gives the shadow free."""

    shadow: LoadedPack
    make_analyser: MakeAnalyser
    source: InstanceSource
    request: AnalysisRequest
    delivered: StudyResult
    release: contextlib.ExitStack


class Shadows:
    """Runs the shadows' analyses. A shadow that fails, is slow or has too much to do never touches an answer."""

    def __init__(self, store: ShadowStore) -> None:
        self.store = store
        self.missed: dict[str, int] = {}  # studies that a shadow (by digest) did not see for want of room
        self._jobs: asyncio.Queue[ShadowJob] = asyncio.Queue(WAITING)

    def add(self, job: ShadowJob) -> None:
        """Take a job, or count it as missed and release it."""
        try:
            self._jobs.put_nowait(job)
        except asyncio.QueueFull:
            job.release.close()
            digest = job.shadow.pack.digest
            self.missed[digest] = self.missed.get(digest, 0) + 1

    async def settled(self) -> None:
        """Wait until every job taken so far is done."""
        await self._jobs.join()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the block runs; what still waits at its end is dropped."""
        await self.store.open()
        task = asyncio.create_task(self._work())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                await self._do(job)
            except RadserveError as error:
                logger.warning("a shadow result of pack %s was not kept: %s", job.shadow.pack.name, error.code)
            except Exception as error:  # its text may hold patient data
                logger.error("a shadow of pack %s failed: %s", job.shadow.pack.name, type(error).__name__)
            finally:
                job.release.close()
                self._jobs.task_done()

    async def _do(self, job: ShadowJob) -> None:
        outcome = await _outcome(job)
        series, pack = job.request.series_instance_uid, job.shadow.pack
        if await _is_stored(job):
            await self.store.keep(job.delivered, series, pack, outcome)
        if not await _is_stored(job):  # erased while its result was written
            await self.store.remove(job.delivered.study_instance_uid)


async def _outcome(job: ShadowJob) -> StudyResult | ErrorCode:
    try:
        analyser = replace(await job.shadow.analyser(job.make_analyser), source=job.source)
        async with aclosing(analyser.analyse(job.request, Deadline.after(ANALYSIS_SECONDS))) as events:
            async for event in events:
                if isinstance(event, Analysis):
                    return event.result
    except RadserveError as error:
        return error.code
    return ErrorCode.INTERNAL


async def _is_stored(job: ShadowJob) -> bool:
    try:
        await job.source.list_instances(job.request.study)
    except RequestError:
        return False
    return True
