"""Servers that listen for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.dicomweb import WebArchive, served
from tests.support.hospital import ITEM, STUDY, Hospital
from tests.support.workflow import instance
from tests.support.worklist import OriginServer


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
