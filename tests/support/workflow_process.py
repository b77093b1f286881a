"""Processes around a site on disk that are killed at a named point.

Run as a program: `workflow_process ROOT [no-probe]`; with `no-probe` the destination cannot be asked what it has.

Each line on stdin is `STUDY POINT`: a forked child finishes what is left over, takes in the study, and kills itself
with SIGKILL at the point (`-` for none). The answer is the child's exit status. Forking spares each child the imports.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io import result_folders
from radserve.dicom_io.database import sqlite_url
from radserve.dicom_io.durable import DurableTree
from radserve.pipelines.timing import CompletionPolicy, RetryPolicy, SystemClock
from radserve.server.dbos_work import DbosWork
from tests.support.workflow import Site, instance

INSTANCES = 2
SECONDS = 60


def points() -> list[str]:
    """Every place at which a process can end, from the first byte received to the last note of a delivery."""
    calls = [
        *("tree.place", "tree.sync", "index.add", "ledger.close", "work.start", "work.step", "ledger.begin_attempt"),
        *("analysis.facts", "ledger.predecessor", "analysis.analyse", "results.keep", "ledger.add_result"),
        *("ledger.finish", "outbox.begin", "results.read", "sender.send", "outbox.delivered"),
    ]
    return [f"{call}:{when}" for call in calls for when in ("before", "after")] + ["keep:aside", "keep:renamed"]


class Deadly:
    """A part whose calls end the process at the point, once it is armed."""

    def __init__(self, name: str, part: Any, reached: Callable[[str], None]) -> None:
        self._name, self._part, self._reached = name, part, reached

    def __getattr__(self, attribute: str) -> Any:
        method = getattr(self._part, attribute)
        if attribute.endswith("_blocking"):
            return _deadly(f"{self._name}.{attribute.removesuffix('_blocking')}", method, self._reached)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._reached(f"{self._name}.{attribute}:before")
            result = await method(*args, **kwargs)
            self._reached(f"{self._name}.{attribute}:after")
            return result

        return call


class DeadlySteps(DbosWork):
    """DBOS with steps that end the process before or after they have run."""

    reached: Callable[[str], None]

    async def _tracked(self, step: Any, work_id: str) -> None:
        self.reached("work.step:before")
        await super()._tracked(step, work_id)
        self.reached("work.step:after")


def _deadly(name: str, method: Callable[..., Any], reached: Callable[[str], None]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        reached(f"{name}:before")
        result = method(*args, **kwargs)
        reached(f"{name}:after")
        return result

    return call


async def run(root: Path, study: str, point: str, *, asks: bool) -> None:
    armed = False

    def reached(name: str) -> None:
        if armed and name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    fsync_folder = result_folders.fsync_folder

    def fsync(folder: Path) -> None:
        reached("keep:aside" if folder.parent.name == ".incoming" else "keep:renamed")
        fsync_folder(folder)

    result_folders.fsync_folder = fsync
    for name in ("place", "sync"):
        setattr(DurableTree, name, _deadly(f"tree.{name}", getattr(DurableTree, name), reached))
    work = DeadlySteps(sqlite_url(root / "work.db"), poll_s=0.02)
    work.reached = reached
    options = {"completion": CompletionPolicy(0, 600), "retries": RetryPolicy(3, 0.01)}
    site = Site(root, work=work, clock=SystemClock(), wrap=lambda name, part: Deadly(name, part, reached), **options)
    if not asks:
        site.shipper._probe = None
    await site.open()
    async with asyncio.timeout(SECONDS):
        await finish(site)
        armed = True
        for number in range(INSTANCES):
            await site.receive(instance(study, number))
        await finish(site)
    await site.close()


async def finish(site: Site) -> None:
    while set(await site.states()) - {"delivered", "quarantined"} or not await everything_delivered(site):
        await site.workflow.tick()
        await site.outbox.tick()
        await site.outbox.settled()
        await asyncio.sleep(0.01)


async def everything_delivered(site: Site) -> bool:
    return all(row.state in ("delivered", "given-up") for row in await site.rows(schema.deliveries))


def main() -> None:
    root = Path(sys.argv[1])
    for line in sys.stdin:
        study, point = line.split()
        child = os.fork()
        if not child:
            code = 1
            try:
                asyncio.run(run(root, study, point, asks="no-probe" not in sys.argv))
                code = 0
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
