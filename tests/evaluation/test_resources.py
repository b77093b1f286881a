"""Resource metering: definitions, planted sensors, absent sensors."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from radserve.errors import RadserveError
from radserve.evaluation.resources import Meter, RaplSensor, nvml_sensor, rapl_sensor, summarise_latency


class Counter:
    """A sensor that counts 5 J at each reading."""

    name = "counter"

    def __init__(self) -> None:
        self.total = 0.0

    def joules(self) -> float:
        self.total += 5.0
        return self.total


def test_latency_percentiles_are_numpys_linear_ones() -> None:
    values = np.random.default_rng(0).gamma(2, 30, 500)
    summary = summarise_latency(values)
    assert summary.p50_ms == pytest.approx(np.median(values))
    ranked = np.sort(values)
    place = 0.95 * 499
    below = int(place)
    assert summary.p95_ms == pytest.approx(ranked[below] + (place - below) * (ranked[below + 1] - ranked[below]))
    assert (summary.n, summary.max_ms) == (500, values.max())


def test_a_wrong_latency_is_named_by_its_row() -> None:
    with pytest.raises(RadserveError, match=r"row 2: got -1\.0"):
        summarise_latency(np.array([1.0, -1.0]))
    with pytest.raises(RadserveError, match="at least 1"):
        summarise_latency(np.array([]))


def test_stages_sum_to_the_wall_time_within_5_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def spend(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    with Meter({"cpu": Counter()}) as meter:
        for _ in range(4):
            with meter.stage("decode"):
                spend(0.03)
            with meter.stage("infer"):
                spend(0.06)
            meter.study()
    use = meter.use
    assert sum(use.stages_s.values()) == pytest.approx(use.wall_s, rel=0.05)
    assert use.stages_s["infer"] == pytest.approx(0.24)
    assert use.throughput_per_s == pytest.approx(4 / use.wall_s)
    assert use.energy_j == {"cpu": 5.0}
    assert use.peak_rss_mib > 1


def test_an_absent_sensor_is_none_with_its_reason() -> None:
    with Meter({"gpu": "no GPU here"}) as meter:
        pass
    assert meter.use.energy_j == {"gpu": None}
    assert meter.use.reasons == {"gpu": "no GPU here"}
    assert meter.use.throughput_per_s is None


def test_metering_costs_under_2_percent_of_a_10_ms_stage() -> None:
    def spent(count: int) -> float:
        start = time.thread_time()
        for _ in range(count):
            with meter.stage("decode"):
                pass
            meter.study()
        return time.thread_time() - start

    with Meter({}) as meter:
        least = min(spent(100) for _ in range(50))  # the cost itself: what others do on the machine is not in it
    assert least / 100 < 0.02 * 0.010


def test_use_is_not_known_while_the_meter_runs() -> None:
    with Meter({}) as meter, pytest.raises(RadserveError, match="still running"):
        _ = meter.use


def domain(root: Path, name: str, microjoules: int) -> Path:
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text("1000000\n")
    return folder


def test_rapl_sums_packages_and_follows_an_overflow(tmp_path: Path) -> None:
    one, _ = domain(tmp_path, "intel-rapl:0", 900_000), domain(tmp_path, "intel-rapl:1", 100_000)
    domain(tmp_path, "intel-rapl:0:0", 5)  # a part of package 0: counted in it already
    sensor = rapl_sensor(tmp_path)
    assert isinstance(sensor, RaplSensor)
    assert sensor.joules() == 0.0
    (one / "energy_uj").write_text("200000")
    assert sensor.joules() == pytest.approx(0.3)
    domain(tmp_path, "intel-rapl:1", 600_000)
    assert sensor.joules() == pytest.approx(0.8)


def test_a_machine_without_rapl_says_so(tmp_path: Path) -> None:
    assert "no RAPL domain" in str(rapl_sensor(tmp_path))
    (tmp_path / "intel-rapl:0").mkdir()
    assert "cannot be read" in str(rapl_sensor(tmp_path))


def test_the_gpu_sensor_is_a_sensor_or_a_reason() -> None:
    sensor = nvml_sensor()
    assert (isinstance(sensor, str) and len(sensor) > 5) or not isinstance(sensor, str)
