"""DICOMweb: radserve's HTTP port against Orthanc's DICOMweb plugin, on the same CT slices.

    python benchmarks/dicomweb.py [--slices 200] [--rounds 3] [--json FILE]

CT slices of 512 x 512 pixels (16 bits, explicit VR little endian) are stored by STOW-RS in one request over the
loopback, then asked for: the metadata of the series, twice, every frame by itself, a picture of every tenth frame, and
the whole series as stored. Both servers are up all the time and take turns within every round; each round stores a
new study. Durable writes on both sides: radserve fsyncs file, folder and index row before it answers, Orthanc runs with
SyncStorageArea on. Orthanc gives metadata from the files (StudiesMetadata Full), as radserve does. Without Orthanc
radserve is measured alone, with a line that says so.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx2
from receive import free_port, write_slices

from radserve.uids import derive_uid

ORTHANC, PLUGIN = Path("/usr/sbin/Orthanc"), Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
TASKS = ("STOW-RS", "metadata", "metadata again", "frames", "rendered", "WADO-RS")
START_SECONDS = 120.0
DICOM = 'multipart/related; type="application/dicom"'
FRAME = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'


def measure(root: str, study: str, files: list[Path], http: httpx2.Client) -> dict[str, float]:
    """Seconds of each task for one new study."""
    seconds: dict[str, float] = {}
    series = f"/studies/{derive_uid(study)}/series/{derive_uid(study, 'series')}"
    instances = [f"{series}/instances/{derive_uid('receive', study, str(index))}" for index in range(len(files))]

    @contextmanager
    def timed(task: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[task] = time.perf_counter() - started

    def get(path: str, accept: str) -> int:
        answer = http.get(root + path, headers={"Accept": accept})
        answer.raise_for_status()
        return len(answer.content)

    boundary = secrets.token_hex(16)
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(head + path.read_bytes() + b"\r\n" for path in files) + f"--{boundary}--\r\n".encode()
    with timed("STOW-RS"):
        headers = {"Content-Type": f"{DICOM}; boundary={boundary}", "Accept": "application/dicom+json"}
        assert http.post(f"{root}/studies", content=body, headers=headers).status_code == 200
    with timed("metadata"):
        get(f"{series}/metadata", "application/dicom+json")
    with timed("metadata again"):
        get(f"{series}/metadata", "application/dicom+json")
    with timed("frames"):
        for instance in instances:
            assert get(f"{instance}/frames/1", FRAME) > 512 * 512 * 2
    with timed("rendered"):
        for instance in instances[::10]:
            get(f"{instance}/rendered", "image/jpeg")
    with timed("WADO-RS"):
        assert get(series, f"{DICOM}; transfer-syntax=*") > sum(path.stat().st_size for path in files)
    return seconds


@contextmanager
def running(name: str, command: list[str], root: str) -> Iterator[str]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx2.get(f"{root}/studies?limit=1", timeout=5)
                break
            except httpx2.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{name} did not start") from None
                time.sleep(0.2)
        yield root
    finally:
        process.terminate()
        process.wait()


def servers(folder: Path) -> Iterator[tuple[str, list[str], str]]:
    """The servers: name, command, address."""
    port = free_port()
    yield (
        "radserve",
        [sys.executable, __file__, "--serve", str(port), str(folder / "radserve")],
        f"http://127.0.0.1:{port}/dicom-web",
    )
    if not (ORTHANC.exists() and PLUGIN.exists()):
        print("Orthanc with its DICOMweb plugin is not installed: it is left out")
        return
    port = free_port()
    configuration = {
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "SyncStorageArea": True,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    yield "Orthanc", [str(ORTHANC), str(folder / "orthanc.json")], f"http://127.0.0.1:{port}/dicom-web"


def serve(port: int, folder: Path) -> None:
    """The HTTP port as the service runs it, without Triton."""
    import asyncio

    from radserve.dicom_io.store import StoreLimits
    from radserve.server.app import decoder_pool
    from radserve.server.records import opened_records
    from radserve.server.settings import Settings
    from radserve.server.stores import Stores
    from radserve.server.web.listener import web_listener

    async def run() -> None:
        settings = Settings(data_dir=folder, http_port=port)
        async with decoder_pool(settings) as workers, opened_records(settings) as records:
            await workers.warm()
            async with (
                Stores(workers, StoreLimits()).opened(folder / "studies", records) as store,
                web_listener(settings, records, store, workers),
            ):
                await asyncio.Event().wait()

    asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(int(arguments.serve[0]), Path(arguments.serve[1]))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="radserve-web-")))
        http = stack.enter_context(httpx2.Client(timeout=600))
        roots = {name: stack.enter_context(running(name, command, root)) for name, command, root in servers(folder)}
        seconds: dict[str, dict[str, list[float]]] = {name: {task: [] for task in TASKS} for name in roots}
        for number in range(arguments.rounds):
            for name, root in roots.items():
                study = f"web {name} {number}"
                with tempfile.TemporaryDirectory(dir=folder) as slices:
                    write_slices(Path(slices), study, arguments.slices)
                    for task, took in measure(root, study, sorted(Path(slices).iterdir()), http).items():
                        seconds[name][task].append(took)
    report = {name: {task: median(took) for task, took in tasks.items()} for name, tasks in seconds.items()}
    for task in TASKS:
        line = ", ".join(f"{name} {tasks[task]:.2f} s" for name, tasks in report.items())
        ratio = f", {report['Orthanc'][task] / report['radserve'][task]:.2f} times" if "Orthanc" in report else ""
        print(f"{task}: {line}{ratio}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"slices": arguments.slices, "median_seconds": report, "all": seconds}))


if __name__ == "__main__":
    main()
