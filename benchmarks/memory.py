"""What a server's processes hold in memory after so many studies: flat, or does one of them grow?

    python benchmarks/memory.py [--marks 50 150 300 500] [--rows 512] [--json OUT]

Starts `radserve serve` with the settings of the environment (its data in a temporary folder) and sends one radiograph
of random pixels after the other: stored, analysed with the default pack, all results fetched. At each mark the resident
memory (MiB, RSS) of the processes is taken, those of a kind added up; shared pages count in each of them.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from radserve.clinical_context import ClinicalContext
from radserve.dicom_io.found import FoundFile
from radserve.server.client import RadserveClient
from tests.support.dicoms import cr, part10

MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--marks", type=int, nargs="+", default=[50, 150, 300, 500])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "RADSERVE_DATA_DIR": folder, "RADSERVE_PORT": "0"}
        command = [str(Path(sys.executable).with_name("radserve")), "serve"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        try:
            address = (server.stdout.readline() if server.stdout else "").split()[-1]
            found = asyncio.run(measure(address, server.pid, given.marks, given.rows))
        finally:
            server.terminate()
            server.wait()
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


async def measure(address: str, pid: int, marks: Sequence[int], rows: int) -> dict[int, dict[str, float]]:
    """The memory of each kind of process after each number of studies."""
    found = {}
    async with RadserveClient(address) as client:
        for number in range(1, max(marks) + 1):
            await study(client, number, rows)
            if number in marks:
                found[number] = memory(pid)
                print(number, json.dumps(found[number]), flush=True)
    return found


async def study(client: RadserveClient, number: int, rows: int) -> None:
    """Store a study of one radiograph, have it analysed, and fetch its results."""
    pixels = np.random.default_rng(number).integers(0, 4096, (rows, rows)).astype(np.uint16)
    tags = {"study": f"memory {number}", "instance": f"memory {number}", "BodyPartExamined": "CHEST"}
    data = part10(cr(pixels, BitsStored=12, HighBit=11, **tags))
    (stored,) = await client.import_files([FoundFile("a.dcm", lambda: io.BytesIO(data))])
    if stored.error:
        raise stored.error
    async for _ in client.analyse(stored.study_instance_uid, "", ClinicalContext("Cough")):
        pass


def memory(pid: int) -> dict[str, float]:
    """The resident memory (MiB) of a server's processes, by kind."""
    server = psutil.Process(pid)
    sums: dict[str, float] = defaultdict(float)
    for process in (server, *server.children(recursive=True)):
        kind = process.name() if process.pid != pid else "server"
        sums["worker" if kind.startswith("python") else kind] += process.memory_info().rss / MIB
    return {kind: round(mebibytes, 1) for kind, mebibytes in sorted(sums.items())}


if __name__ == "__main__":
    main()
