"""The DICOMweb statement says what the code does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from radserve.dicom_io.reserve import DiskReserve
from radserve.server.web.application import resources
from radserve.server.web.errors import MEANINGS, STATUS_OF
from radserve.server.web.service import WebService
from radserve.server.web.statement import RESOURCES, statement

DOCS = Path(__file__).parents[3] / "docs"
NOTHING = cast(Any, None)  # no resource is asked


def test_the_statement_is_current() -> None:
    assert (DOCS / "dicomweb.md").read_text() == statement()


def test_the_resources_are_those_of_the_application(tmp_path: Path) -> None:
    app = resources(WebService(NOTHING, NOTHING, DiskReserve(tmp_path, 0), tmp_path))
    served = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    assert served == {(method, path) for method, path, _, _ in RESOURCES}


def test_every_status_has_a_meaning() -> None:
    assert set(STATUS_OF.values()) <= MEANINGS.keys()
