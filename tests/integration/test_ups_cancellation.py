"""A workitem is cancelled while the embedded Triton writes the report of its study; asked for again, it is done."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from radserve.tensors import InferenceRequest, InferenceResponse
from tests.support.dicoms import cr, part10, uid
from tests.support.dicomweb import WebArchive, served
from tests.support.server import LiveServer, live_server
from tests.support.worklist import OriginServer

SECONDS = 300
ITEM, AGAIN = "1.2.3.4", "1.2.3.5"
STUDY = uid("study", "cancelled")
RULES = """
[[rule]]
name = "every study"
pack = "cxr-bus-mini"
outputs = ["sr"]
destinations = ["archive"]
"""


class HeldReport:
    """Lets Triton begin with the report, and holds its answer: the request stays open until it is called off."""

    def __init__(self, server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_written, self.is_called_off = threading.Event(), threading.Event()
        self._stream = server.server.runner.stream
        monkeypatch.setattr(server.server.runner, "stream", self._held)

    async def _held(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        async with aclosing(self._stream(request)) as responses:
            async for response in responses:
                self.is_written.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self.is_called_off.set()
                yield response


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "index.db")) as database:
        return database.execute(query).fetchall()


@pytest.mark.slow
def test_a_workitem_that_is_cancelled_stops_the_running_analysis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, images = OriginServer(notes_requests=True), WebArchive()
    pixels = np.random.default_rng(1).integers(0, 255, (40, 40), dtype=np.uint8)
    images.add(part10(cr(pixels, study="cancelled", PatientAge="003Y")))
    rules, destination, data = tmp_path / "rules.toml", tmp_path / "archive", tmp_path / "data"
    rules.write_text(RULES)
    with served(origin.app()) as ups, served(images.app()) as web:
        given = {
            "workflow": True,
            "rules_file": rules,
            "destinations": {"archive": f"file://{destination}"},
            "disk_reserve_mib": 0,
            "ups_url": f"{ups}/ups",
            "ups_archive_url": f"{web}/dicom-web",
            "ups_poll_s": 0.1,
        }
        with live_server(data, **given) as server:
            with monkeypatch.context() as held:
                report = HeldReport(server, held)
                step = origin.schedule(ITEM, (STUDY, ""))
                assert report.is_written.wait(SECONDS), step.states
                assert step.states == ["SCHEDULED", "IN PROGRESS"]
                reason = [{"00741238": {"vr": "LT", "Value": ["the wrong patient"]}}]
                asked = httpx2.post(f"{ups}/ups/workitems/{ITEM}/cancelrequest", json=reason, timeout=SECONDS)
                assert asked.status_code == 202
                until(lambda: step.state == "CANCELED")
                assert report.is_called_off.wait(SECONDS)
            until(lambda: rows(data, "SELECT state FROM studies") == [("called-off",)])
            assert not rows(data, "SELECT * FROM results") and not rows(data, "SELECT * FROM quarantine")
            assert not list(destination.glob("*.dcm"))
            again = origin.schedule(AGAIN, (STUDY, ""))  # Triton and the workflow go on
            until(lambda: again.state == "COMPLETED")
            assert [state for (state,) in rows(data, "SELECT state FROM deliveries")] == ["delivered"]
            assert len(list(destination.glob("*.dcm"))) == 1
            assert step.states == ["SCHEDULED", "IN PROGRESS", "CANCELED"]
