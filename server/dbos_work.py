"""Durable work (ports.DurableWork) over DBOS: a queue and a log of steps in SQLite or PostgreSQL.

DBOS is one per process and wants threads and an event loop of its own; that stays in here: its calls run in one thread
of ours, its workflows in its own loop, and the steps in the loop that opened the adapter. Only what is free is used: no
Conductor, no sharding, no automatic upgrade. Its log holds ids and names of steps, nothing of a study.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID

from radserve.dicom_io.database import database_failure, database_name, unusable_url
from radserve.errors import ErrorCode, RadserveError, StorageError
from radserve.ports import Step, WorkStatus

logger = logging.getLogger(__name__)

T = TypeVar("T")
Steps = Sequence[tuple[str, Step]]
QUEUE = "radserve"
# DBOS goes on only with work of its own application version, which by default is a hash of the code: fixed, so that an
# upgrade of radserve goes on with what its predecessor began.
APPLICATION_VERSION = "1"
KEPT_FOR = timedelta(days=7)  # finished work, for whoever looks into the database
STARTS_PER_PRUNING = 500
MOST_RECOVERIES = 1_000_000  # attempts are counted by the workflow
STATUS = {"ENQUEUED": WorkStatus.WAITING, "DELAYED": WorkStatus.WAITING, "PENDING": WorkStatus.RUNNING}
UNFINISHED = [*STATUS, "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


class DbosWork:
    """At most `concurrency` pieces of work at once. `node` names this process among those that share a PostgreSQL

    database: a node that starts again goes on with what it had under way, so its name has to stay the same. One in a
    process; all raise StorageError INTERNAL where the database fails, `open` also INVALID_ARGUMENT for no URL.
    """

    def __init__(self, url: str, *, node: str = "local", concurrency: int = 2, poll_s: float = 0.5) -> None:
        self._url = url
        self._node = node
        self._concurrency = concurrency
        self._poll_s = poll_s
        self._kinds: dict[str, Steps] = {}
        self._workflows: dict[str, Callable[[str], Any]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="durable-work")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._starts = itertools.count()

    def register(self, kind: str, steps: Steps) -> None:
        self._kinds[kind] = tuple(steps)

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._call(self._launch_or_say_why)

    async def close(self) -> None:
        self._loop = None
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._call(lambda: DBOS.destroy(destroy_registry=True))
        self._thread.shutdown(wait=False)

    async def start(self, kind: str, work_id: str) -> None:
        def enqueue() -> None:
            if next(self._starts) % STARTS_PER_PRUNING == 0:
                _prune()
            with SetWorkflowID(work_id):
                DBOS.enqueue_workflow(QUEUE, self._workflows[kind], work_id)

        await self._call(enqueue)

    async def list(self) -> Mapping[str, WorkStatus]:
        found = await self._call(lambda: DBOS.list_workflows(status=UNFINISHED, load_input=False, load_output=False))
        return {each.workflow_id: STATUS.get(each.status, WorkStatus.FAILED) for each in found}

    async def retry(self, work_id: str) -> None:
        def again() -> None:
            done = [step for step in DBOS.list_workflow_steps(work_id) if step["error"] is None]
            DBOS.rewind_workflow(work_id, start_step=len(done) + 1, queue_name=QUEUE)

        await self._call(again)

    def _launch_or_say_why(self) -> None:
        try:
            self._launch()
        except (sa.exc.ArgumentError, ImportError) as error:
            raise unusable_url(error) from None
        except sa.exc.DBAPIError as error:
            name, cause = database_name(self._url), database_failure(error, self._url)
            raise StorageError(ErrorCode.INTERNAL, f"durable work: {name} cannot be used: {cause}") from None

    def _launch(self) -> None:
        config = DBOSConfig(
            name="radserve",
            system_database_url=self._url,
            application_version=APPLICATION_VERSION,
            executor_id=self._node,
            serializer=DBOSPortableJSONSerializer(),
            log_level="CRITICAL",  # it logs exceptions with their texts; failures are logged here
            notification_listener_polling_interval_sec=self._poll_s,
        )
        for kind, steps in self._kinds.items():
            self._workflows[kind] = DBOS.workflow(name=kind, max_recovery_attempts=MOST_RECOVERIES)(self._chain(steps))
        DBOS(config=config)
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=self._concurrency,
            polling_interval_sec=self._poll_s,
            on_conflict="always_update",
        )

    def _chain(self, steps: Steps) -> Callable[[str], Awaitable[None]]:
        async def chain(work_id: str) -> None:
            for name, step in steps:
                await DBOS.run_step_async({"name": name}, self._in_our_loop, step, work_id)

        return chain

    async def _in_our_loop(self, step: Step, work_id: str) -> None:
        """Run a step where the rest of radserve runs; this coroutine runs in the loop of DBOS.

        Cut off by `close` it raises CancelledError, of which DBOS keeps no record: the step runs again after a start.
        """
        loop = self._loop
        if loop is None:
            raise asyncio.CancelledError
        try:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._tracked(step, work_id), loop))
        except RadserveError as error:
            raise RuntimeError(error.code) from None
        except Exception as error:  # its text may hold patient data, and DBOS would write it down
            raise RuntimeError(type(error).__name__) from None

    async def _tracked(self, step: Step, work_id: str) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        if self._loop is None:
            raise asyncio.CancelledError
        self._running.add(task)
        try:
            await step(work_id)
        except Exception as error:
            logger.error("a step of work %s failed: %s", work_id, type(error).__name__)
            raise
        finally:
            self._running.discard(task)

    async def _call(self, function: Callable[[], T]) -> T:
        """Call DBOS in its thread: in the thread of a running loop it would take that loop over."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except RadserveError:
            raise
        except Exception as error:
            raise StorageError(ErrorCode.INTERNAL, f"durable work failed: {type(error).__name__}") from None


def _prune() -> None:
    """Remove the log of work that succeeded long ago."""
    before = (datetime.now(UTC) - KEPT_FOR).isoformat()
    old = DBOS.list_workflows(
        status="SUCCESS", completed_before=before, limit=10 * STARTS_PER_PRUNING, load_input=False, load_output=False
    )
    if old:
        DBOS.delete_workflows([each.workflow_id for each in old])
