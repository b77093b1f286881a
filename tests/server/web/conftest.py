"""One HTTP port for the tests of this folder; each test stores studies of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.web import LiveWeb, live_web


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveWeb]:
    with live_web(tmp_path_factory.mktemp("web"), max_instance_mib=4, http_max_request_mib=64) as live:
        yield live
