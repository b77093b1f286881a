"""Where the time of a volume goes: the steps of `decode_volume` and of `read_volume`, which add up to the whole.

    python benchmarks/volume_stages.py [--runs 9] [--slices 200]

The slices are those of benchmarks/volume.py. In process, each step counts its own CPU time without that of the steps
that it calls; "the rest" is what no step counts. Through workers, the time of the workers and that of this process are
told apart. What new memory costs is measured by itself: one byte of each page of an array as large as the volume.
Times are medians in CPU milliseconds; `nice -n -15` keeps neighbours out of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from volume import LIMITS, write_series

from radserve.dicom_io import decode, slices, stored, volume
from radserve.dicom_io.alike import HeaderForm
from radserve.dicom_io.volume_reading import BYTES_AT_ONCE, read_volume
from radserve.workers import WorkerPool

STEPS: dict[str, tuple[tuple[Any, str], ...]] = {
    "first and last header": ((volume, "stack_of"),),
    "open and read the files": ((decode, "bytes_of"),),
    "headers, parsed and described": (
        (decode, "opened"),
        (decode, "header_of"),
        (decode, "_describe"),
        (decode.ImageDecoder, "_learn"),
    ),
    "headers, as those before": ((HeaderForm, "read"), (decode, "instance_ref")),
    "place of the slice": ((decode, "planes"),),
    "header for derived objects": ((decode, "header_bytes"),),
    "codestream": ((stored, "decode_frame"),),
    "range of the stored values": ((stored, "_as_they_are"),),
    "rescale into the volume": ((decode, "_modality_values"),),
    "values of the slice": ((slices, "_without_array"), (volume, "images_of")),
    "geometry, all slices": ((volume, "assemble_volume"),),
}


class Clock:
    """CPU time of steps that call each other, each without the others."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0

    def _switch(self) -> None:
        now = time.process_time_ns()
        if self._running:
            self.spent[self._running[-1]] += (now - self._since) / 1e6
        self._since = now

    def counted(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            self._switch()
            self._running.append(step)
            try:
                return function(*args, **options)
            finally:
                self._switch()
                self._running.pop()

        return run


@contextmanager
def steps_counted(clock: Clock) -> Iterator[None]:
    places = [(owner, name, step) for step, each in STEPS.items() for owner, name in each]
    kept = [getattr(owner, name) for owner, name, _ in places]
    for (owner, name, step), function in zip(places, kept, strict=True):
        setattr(owner, name, clock.counted(step, function))
    try:
        yield
    finally:
        for (owner, name, _), function in zip(places, kept, strict=True):
            setattr(owner, name, function)


def volume_of(paths: list[Path]) -> None:
    """One value of each slice is read at the end."""
    volume.decode_volume(paths).array[:, -1, -1].sum()


def in_process(paths: list[Path]) -> dict[str, float]:
    clock = Clock()
    with steps_counted(clock):
        clock.counted("the rest", volume_of)(paths)
    found = {step: clock.spent[step] for step in (*STEPS, "the rest")}
    return {**found, "sum": sum(found.values())}


def cpu_ms(function: Callable[[], Any]) -> float:
    started = time.process_time()
    function()
    return (time.process_time() - started) * 1e3


def whole(paths: list[Path]) -> dict[str, float]:
    """The same without a clock within, and the memory alone."""
    count = len(paths)

    def new_pages() -> None:
        np.empty((count, 512, 512), np.float32).reshape(-1)[::1024] = 0

    held = np.ones(BYTES_AT_ONCE // 4, np.float32)

    def copied() -> None:
        block = np.empty(count * 512 * 512, np.float32)
        for at in range(0, block.size, held.size):
            place = block[at : at + held.size]
            place[...] = held[: place.size]

    return {
        "decode_volume": cpu_ms(partial(volume_of, paths)),
        "new pages of the volume": cpu_ms(new_pages),
        "a copy from 32 MiB into new pages": cpu_ms(copied),
    }


async def in_workers(pool: WorkerPool, paths: list[Path]) -> dict[str, float]:
    children = psutil.Process().children(recursive=True)

    def of_workers() -> float:
        return 1e3 * sum(each.cpu_times().user + each.cpu_times().system for each in children)

    own, theirs, started = time.process_time(), of_workers(), time.perf_counter()
    (await read_volume(pool, paths)).array[:, -1, -1].sum()
    return {
        "this process": (time.process_time() - own) * 1e3,
        "workers (to the tick of 10 ms)": of_workers() - theirs,
        "on the clock": (time.perf_counter() - started) * 1e3,
    }


def print_medians(title: str, runs: list[dict[str, float]]) -> None:
    print(f"\n{title}")
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"  {name:36} {statistics.median(values):8.1f}   (least {min(values):.1f})")


async def run(runs: int, count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="radserve-volume-") as folder:
        async with WorkerPool(name="two", size=2, limits=LIMITS, preload=("radserve.dicom_io.volume",)) as pool:
            await pool.warm()
            for syntax, htj2k in (("raw", False), ("HTJ2K", True)):
                paths = write_series(Path(folder, syntax), count, htj2k=htj2k)
                found: dict[str, list[dict[str, float]]] = defaultdict(list)
                for _ in range(runs + 1):
                    found["in process, step by step"].append(in_process(paths))
                    found["whole"].append(whole(paths))
                    found["through two workers"].append(await in_workers(pool, paths))
                for title, each in found.items():
                    print_medians(f"{syntax}: {title}", each[1:])  # the first warms caches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--slices", type=int, default=200)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {arguments.slices} slices, runs: {arguments.runs}")
    asyncio.run(run(arguments.runs, arguments.slices))


if __name__ == "__main__":
    main()
