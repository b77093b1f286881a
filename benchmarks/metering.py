"""What metering costs: the stopwatch of every analysis, and the Meter of an evaluation around it. Bound: 2 %.

    python benchmarks/metering.py [--studies 60] [--images 4] [--json OUT]

Two figures. `share`: the time of one metered stage, measured alone over many, times the stages of a study, plus one
Meter for each study, over the study's time. `paired`: studies with and without metering in turn, the median difference
over the median time, with the bootstrap's 95 % interval; on a shared machine its noise is far above what it looks for.
The pack is the tiny one of the tests: its studies take milliseconds, so that the share is greater than any real one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from radserve.evaluation.resources import Meter, nvml_sensor, rapl_sensor
from radserve.pipelines import study as pipeline
from radserve.pipelines.deadline import Deadline
from radserve.references import StudyRef
from tests.support.pipeline import images_of, make_analyser

BOUND = 0.02
ENTRIES = 20_000
METERS = 200


class Unmetered:
    """A stopwatch that does nothing."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        yield

    def timings_ms(self) -> tuple[tuple[str, float], ...]:
        return (("total", 0.0),)


class Counting(pipeline.Stopwatch):
    """The real stopwatch, counting its stages."""

    entries = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        Counting.entries += 1
        with super().stage(name):
            yield


@dataclass(frozen=True)
class Overhead:
    """Times in microseconds but for `study_ms`; shares of the study's time without metering."""

    studies: int
    images: int
    study_ms: float
    stages_per_study: float
    stage_us: float
    meter_us: float
    share: float
    paired: float
    paired_interval: tuple[float, float]


def stage_us(stopwatch: pipeline.Stopwatch | Meter) -> float:
    """The least time of one stage that does nothing, of five rounds."""

    def round_() -> float:
        started = time.perf_counter()
        for _ in range(ENTRIES):
            with stopwatch.stage("stage"):
                pass
        return (time.perf_counter() - started) / ENTRIES * 1e6

    return min(round_() for _ in range(5))


def meter_us() -> float:
    """The time of entering and leaving a Meter with the sensors of this machine, found once as a run does."""
    sensors = {"cpu": rapl_sensor(), "gpu": nvml_sensor()}
    started = time.perf_counter()
    for _ in range(METERS):
        with Meter(sensors) as meter:
            meter.study()
    return (time.perf_counter() - started) / METERS * 1e6


async def measure(studies: int, images: int) -> Overhead:
    studied = list(images_of(images))
    request = pipeline.AnalysisRequest(StudyRef(studied[0].instance.study_instance_uid))
    sensors = {"cpu": rapl_sensor(), "gpu": nvml_sensor()}
    with tempfile.TemporaryDirectory() as folder:
        analyser, _, _ = await make_analyser(Path(folder), studied)

        async def run() -> None:
            async for _ in analyser.analyse(request, Deadline()):
                pass

        async def bare() -> None:
            with stopwatch_is(Unmetered):
                await run()

        async def metered() -> None:
            with Meter(sensors) as meter:
                with meter.stage("study"):
                    await run()
                meter.study()

        async def timed(action: Callable[[], object]) -> float:
            started = time.perf_counter()
            await action()  # type: ignore[misc]
            return (time.perf_counter() - started) * 1e3

        for _ in range(3):
            await run()
        with stopwatch_is(Counting):
            Counting.entries = 0
            await run()
        pairs = []
        for number in range(studies):  # each order in turn, so that neither always comes first
            actions = [bare, metered] if number % 2 else [metered, bare]
            times = {action: await timed(action) for action in actions}
            pairs.append((times[bare], times[metered]))
    times = np.array(pairs)
    study = float(np.median(times[:, 0]))
    stage, meter = stage_us(pipeline.Stopwatch()), meter_us() + stage_us(Meter({}))
    differences = times[:, 1] - times[:, 0]
    again = np.random.default_rng(1).choice(differences, (2000, studies))
    low, high = np.quantile(np.median(again, axis=1), [0.025, 0.975]) / study
    share = (Counting.entries * stage + meter) / (study * 1e3)
    paired = float(np.median(differences)) / study
    return Overhead(studies, images, study, Counting.entries, stage, meter, share, paired, (float(low), float(high)))


@contextmanager
def stopwatch_is(kind: type) -> Iterator[None]:
    """Let analyses use another stopwatch."""
    usual, pipeline.Stopwatch = pipeline.Stopwatch, kind  # type: ignore[misc]
    try:
        yield
    finally:
        pipeline.Stopwatch = usual  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=60)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = asyncio.run(measure(given.studies, given.images))
    low, high = found.paired_interval
    print(f"a study of {found.images} images: {found.study_ms:.1f} ms, {found.stages_per_study:.0f} stages")
    print(f"one stage {found.stage_us:.2f} us, one Meter with one stage {found.meter_us:.1f} us")
    print(f"overhead of metering {found.share:.3%} (bound {BOUND:.0%})")
    print(f"paired, {found.studies} studies each: {found.paired:+.2%} ({low:+.2%} to {high:+.2%})")
    if given.json:
        given.json.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    raise SystemExit(0 if found.share < BOUND else 1)


if __name__ == "__main__":
    main()
