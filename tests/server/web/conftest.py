"""One HTTP port for the tests of this folder; each test stores studies of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from radserve.dicom_io.dicomweb.multipart import MultipartLimits
from radserve.server.web.limits import WebLimits
from tests.support.web import LiveWeb, live_web


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveWeb]:
    limits = WebLimits(request_bytes=64 << 20, multipart=MultipartLimits(parts=500))
    with live_web(tmp_path_factory.mktemp("web"), limits, max_instance_mib=4) as live:
        yield live
