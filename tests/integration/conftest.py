"""One real server for all integration tests of a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import LiveServer, live_server

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("server") / "data", decode_workers=2, triton_instances=2) as live:
        yield live


@pytest.fixture(scope="session")
def medmnist() -> Path:
    if not (DATA / "pneumoniamnist.npz").exists():
        pytest.skip("the MedMNIST files are not in ../shared/data")
    return DATA


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)
