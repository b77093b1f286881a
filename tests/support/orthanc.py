"""A real Orthanc with DICOMweb and the Python plugin, on free ports, configured as docs/orthanc.md says."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.dicom_io.dimse.support import free_port

ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
EXAMPLE = Path(__file__).parents[2] / "examples" / "orthanc"
PLUGINS = ("libOrthancDicomWeb.so", "libOrthancPython.so")
SECONDS = 240


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc; `our_port` is where it believes radserve's listener to be."""

    dicom_port: int
    http_port: int
    our_port: int
    log: Path

    @property
    def dicom_url(self) -> str:
        return f"dicom://PACS@127.0.0.1:{self.dicom_port}"

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=60) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}", data=json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def sendings(self, *states: str) -> list[dict[str, Any]]:
        """The C-STORE jobs in these states; Orthanc's reports of storage commitment are jobs of another type."""
        jobs = self.get("/jobs?expand")
        return [each for each in jobs if each["Type"] == "DicomModalityStore" and each["State"] in states]


@contextmanager
def running_orthanc(folder: Path, **changes: Any) -> Iterator[Orthanc]:
    """Start the example's Orthanc; `changes` to its configuration. Skips the test where it is not installed."""
    plugins = [Path("/usr/share/orthanc/plugins") / name for name in PLUGINS]
    if ORTHANC is None or not all(path.exists() for path in plugins):
        pytest.skip("Orthanc with its DICOMweb and Python plugins is not installed")
    dicom, http, ours = free_port(), free_port(), free_port()
    configuration = json.loads((EXAMPLE / "orthanc.json").read_text())
    configuration["DicomModalities"]["radserve"]["Port"] = ours
    configuration["Radserve"]["RetrySeconds"] = [1, 2]
    configuration |= {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": http,
        "DicomPort": dicom,
        "StableAge": 2,
        "PythonScript": str(EXAMPLE / "autoroute.py"),
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    log = folder / "orthanc.log"
    with log.open("wb") as out:
        process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=out, stderr=out)
    started = Orthanc(dicom, http, ours, log)
    try:
        until(lambda: _answers(started), lambda: process.poll() is None and not log.read_text().count("E0 fatal"))
        yield started
    finally:
        process.terminate()
        process.wait()


def until(condition: Callable[[], Any], alive: Callable[[], bool] = lambda: True, seconds: float = SECONDS) -> None:
    """Wait for a condition to hold."""
    end = time.monotonic() + seconds
    while not condition():
        assert alive() and time.monotonic() < end, "it did not come about"
        time.sleep(0.2)


def _answers(orthanc: Orthanc) -> bool:
    try:
        return bool(orthanc.get("/system"))
    except OSError:
        return False
