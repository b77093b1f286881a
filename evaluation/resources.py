"""What a run uses: latency percentiles, throughput, memory, and energy where the machine has a sensor for it.

A sensor that is absent or may not be read gives None with the reason, never 0.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from radserve.evaluation.tables import refusal

RAPL = Path("/sys/class/powercap")
_MICROJOULES = 1e6
_MILLIJOULES = 1e3
_KIB = 1024


@dataclass(frozen=True)
class LatencySummary:
    """Latencies in milliseconds; percentiles interpolate linearly between the two nearest values."""

    n: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def summarise_latency(latencies_ms: NDArray[np.generic]) -> LatencySummary:
    """Summarise latencies, shape (n,), milliseconds. Raises INVALID_ARGUMENT naming the row of a wrong value."""
    values = np.asarray(latencies_ms, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise refusal(f"latencies: got shape {values.shape}, expected (n,) with n of at least 1")
    wrong = np.flatnonzero(~np.isfinite(values) | (values < 0))
    if len(wrong):
        raise refusal(f"latencies, row {wrong[0] + 1}: got {values[wrong[0]]}, expected milliseconds of at least 0")
    p50, p95, p99 = (float(each) for each in np.percentile(values, [50, 95, 99]))
    return LatencySummary(len(values), float(values.mean()), p50, p95, p99, float(values.max()))


class EnergySensor(Protocol):
    """A counter of energy since some moment; `name` says what it covers."""

    name: str

    def joules(self) -> float:
        """Return the energy counted so far."""
        ...


@dataclass
class RaplSensor:
    """Energy of the processor packages by RAPL (Linux powercap); an overflow of its counters is followed."""

    domains: tuple[Path, ...]
    name: str = "RAPL packages"
    _last: dict[Path, int] = field(default_factory=dict)
    _total: float = 0.0

    def joules(self) -> float:
        """Return the sum over the packages since the first reading."""
        for domain in self.domains:
            now = int((domain / "energy_uj").read_text())
            before = self._last.setdefault(domain, now)
            if now < before:
                now_unwrapped = now + int((domain / "max_energy_range_uj").read_text())
                self._total += (now_unwrapped - before) / _MICROJOULES
            else:
                self._total += (now - before) / _MICROJOULES
            self._last[domain] = now
        return self._total


@dataclass(frozen=True)
class NvmlSensor:
    """Energy of all NVIDIA GPUs by NVML (the package nvidia-ml-py)."""

    handles: tuple[object, ...]
    name: str = "NVML GPUs"

    def joules(self) -> float:
        """Return the sum over the GPUs since the driver was loaded."""
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return float(sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(each) for each in self.handles)) / _MILLIJOULES


def rapl_sensor(root: Path = RAPL) -> RaplSensor | str:
    """Return the sensor of the processor packages, or why there is none."""
    domains = tuple(sorted(each for each in root.glob("intel-rapl:*") if each.name.count(":") == 1))
    if not domains:
        return "no RAPL domain under powercap (not an Intel or AMD processor, or hidden by virtualisation)"
    try:
        RaplSensor(domains).joules()
    except PermissionError:
        return "RAPL's energy counters may not be read by this user"
    except (OSError, ValueError) as error:
        return f"RAPL's energy counters cannot be read: {type(error).__name__}"
    return RaplSensor(domains)


def nvml_sensor() -> NvmlSensor | str:
    """Return the sensor of the GPUs, or why there is none."""
    try:
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return "the package nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        sensor = NvmlSensor(tuple(pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)))
        sensor.joules()
    except pynvml.NVMLError as error:
        return f"NVML: {error}"
    return sensor if count else "NVML finds no GPU"


@dataclass(frozen=True)
class ResourceUse:
    """What a metered run used. `stages_s` is seconds by stage; what they leave of `wall_s` belongs to no stage."""

    wall_s: float
    cpu_s: float
    studies: int
    throughput_per_s: float | None
    stages_s: Mapping[str, float]
    peak_rss_mib: float
    energy_j: Mapping[str, float | None]
    reasons: Mapping[str, str]


class Meter:
    """Meters this process between entering and leaving: `with Meter() as meter: ... meter.stage(...), meter.study()`.

    `sensors` by name; a text in place of a sensor is the reason why it is absent (`rapl_sensor()`, `nvml_sensor()`).
    Peak memory is that of the whole life of the process, which is all the system tells.
    """

    def __init__(self, sensors: Mapping[str, EnergySensor | str] | None = None) -> None:
        self._sensors = dict(sensors if sensors is not None else {"cpu": rapl_sensor(), "gpu": nvml_sensor()})
        self._stages: dict[str, float] = {}
        self._studies = 0
        self._use: ResourceUse | None = None

    def __enter__(self) -> Meter:
        self._energy = {name: each.joules() for name, each in self._sensors.items() if not isinstance(each, str)}
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        spent = {
            name: None if isinstance(each, str) else each.joules() - self._energy[name]
            for name, each in self._sensors.items()
        }
        reasons = {name: each for name, each in self._sensors.items() if isinstance(each, str)}
        rate = self._studies / wall if self._studies else None
        self._use = ResourceUse(wall, cpu, self._studies, rate, dict(self._stages), peak_rss_mib(), spent, reasons)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to the stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._stages[name] = self._stages.get(name, 0.0) + time.perf_counter() - start

    def study(self) -> None:
        """Count one study as done."""
        self._studies += 1

    @property
    def use(self) -> ResourceUse:
        """What the run used; known after leaving."""
        if self._use is None:
            raise refusal("meter: it is still running, expected it to have been left")
        return self._use


def peak_rss_mib() -> float:
    """Return the largest resident set of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _KIB if sys.platform != "darwin" else peak / _KIB**2
