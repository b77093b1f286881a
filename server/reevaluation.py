"""Re-evaluation at an interval: the pack that answers reads the site's labelled reference studies again.

What is measured is held to the acceptance profile by which packs are promoted here. Each run leaves a record (as
`radserve evaluate gate` writes it, with the areas beside it); a gate that fails, or cannot be measured, is an alarm.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radserve._checks import check_uid, invalid
from radserve.dicom_io.durable import storage_error
from radserve.errors import RadserveError
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.study import Analysis, AnalysisRequest, StudyAnalyser
from radserve.pipelines.timing import Clock
from radserve.references import StudyRef
from radserve.results import StudyResult
from radserve.server.background import running
from radserve.server.operation.served import ServedPacks
from radserve.server.result_json import to_bytes
from radserve.server.settings import Settings

if TYPE_CHECKING:  # tables and statistics: only where the site asks for it are they needed
    from radserve.evaluation.gates import Measurement, Profile

logger = logging.getLogger(__name__)

SCHEMA = "radserve-reevaluation/1"
METRICS = ("auroc", "auc")  # what a profile may call the area: the report's key, and that of `evaluate roc`
ANALYSIS_S = 600.0
RETRY_S = 600.0
HOUR_S = 3600.0
PRESENT = {"1": True, "0": False}


@dataclass(frozen=True, slots=True)
class ReferenceCase:
    """Whether a finding is there in a stored study."""

    study_instance_uid: str
    finding: str
    present: bool


@dataclass(frozen=True, slots=True)
class Area:
    """AUROC of a finding with its 95 % DeLong interval; None where a class is missing."""

    n: int
    auroc: float | None
    low: float | None
    high: float | None


def read_cases(path: Path) -> tuple[ReferenceCase, ...]:
    """The table (CSV: study_instance_uid, finding, label 1 or 0). Raises INVALID_ARGUMENT naming what is wrong."""
    from radserve.evaluation.tables import read_table

    table = read_table(path)
    columns = [table.categories(name) for name in ("study_instance_uid", "finding", "label")]
    cases = []
    for row, (uid, finding, label) in enumerate(zip(*columns, strict=True), start=1):
        check_uid("study_instance_uid", uid)
        if label not in PRESENT:
            raise invalid(f"{path.name} row {row} label", label, "1 (present) or 0 (absent)")
        cases.append(ReferenceCase(uid, finding, PRESENT[label]))
    return tuple(cases)


def gated(profile: Profile) -> Profile:
    """The gates of a profile that a run can measure. Raises INVALID_ARGUMENT where there are none."""
    gates = tuple(gate for gate in profile.gates if gate.metric in METRICS and gate.finding)
    if not gates:
        raise invalid("promotion_profile", profile.name, f"one with a gate on {' or '.join(METRICS)} of a finding")
    return replace(profile, gates=gates)


@dataclass(frozen=True, slots=True)
class Reevaluation:
    """Runs over the `cases` at each `interval_s`; records are files in `folder`, named by their time."""

    packs: ServedPacks
    cases: tuple[ReferenceCase, ...]
    profile: Profile
    folder: Path
    clock: Clock
    interval_s: float

    async def run(self) -> None:
        """Measure whenever it is due, for ever; a run that fails is tried again after a while."""
        while True:
            wait = self.due_at() - self.clock.now()
            if wait <= 0:
                try:
                    await self.once()
                    wait = self.interval_s
                except Exception as error:  # a model or a disk comes and goes
                    logger.warning("re-evaluation failed: %s", type(error).__name__)
                    wait = RETRY_S
            await self.clock.sleep(wait)

    def due_at(self) -> float:
        """When the next run is due, by the last record: at once where there is none."""
        times = [_time_of(path) for path in self.folder.glob("*.json")]
        return max(times) + self.interval_s if times else float("-inf")

    async def once(self) -> Mapping[str, Any]:
        """Measure, write the record and raise the alarm if need be. Raises PackError, ModelError, StorageError."""
        from radserve.evaluation.gates import apply_profile, gate_record

        async with self.packs.lease("") as analyser:
            scores, failed = await self._scores(replace(analyser, observer=None))
            pack = analyser.pack.ref
        areas = {finding: _area(scores.get(finding, ())) for finding in sorted({each.finding for each in self.cases})}
        model = {"name": pack.name, "version": pack.version, "pipeline_digest": pack.digest}
        told = {"schema": SCHEMA, "areas": {name: asdict(area) for name, area in areas.items()}, "failed": failed}
        results = apply_profile(self.profile, _measurements(areas))
        record = {**told, "record": gate_record(self.profile, results, model=model, evaluation=to_bytes(told))}
        self._write(record)
        for result in results:
            if not result.passed:
                where = f"{pack.name} {pack.version}, {result.gate.finding}, {result.gate.metric}"
                logger.warning("alarm: re-evaluation of %s: %s", where, result.reason)
        return record

    async def _scores(self, analyser: StudyAnalyser) -> tuple[dict[str, list[tuple[float, bool]]], dict[str, int]]:
        """(score, present) of each finding, and how many studies gave none, by the code."""
        wanted: dict[str, list[ReferenceCase]] = {}
        for case in self.cases:
            wanted.setdefault(case.study_instance_uid, []).append(case)
        scores: dict[str, list[tuple[float, bool]]] = {}
        failed: Counter[str] = Counter()
        for uid, cases in wanted.items():
            try:
                result = await _analysed(analyser, uid)
            except RadserveError as error:
                failed[error.code.value] += 1
                continue
            for case in cases:
                found = [each.score for each in result.findings if each.label == case.finding]
                if found:  # of several series the highest counts, as in `radserve evaluate collect`
                    scores.setdefault(case.finding, []).append((max(found), case.present))
                else:
                    failed["no such finding"] += 1
        return scores, dict(sorted(failed.items()))

    def _write(self, record: Mapping[str, Any]) -> None:
        name = datetime.fromtimestamp(self.clock.now(), UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            aside = self.folder / f".{name}.new"
            aside.write_bytes(to_bytes(record))
            aside.rename(self.folder / f"{name}.json")
        except OSError as error:
            raise storage_error(error) from None


@asynccontextmanager
async def reevaluating(settings: Settings, packs: ServedPacks, clock: Clock) -> AsyncIterator[None]:
    """Re-evaluate while the block runs, where the site names reference studies.

    Raises INVALID_ARGUMENT for a table that is not fit, and for a site without a promotion profile.
    """
    if settings.reference_studies is None:
        yield
        return
    from radserve.evaluation.gates import read_profile

    if settings.promotion_profile is None:
        raise invalid("reference_studies", "no promotion_profile", "the profile by which they are judged")
    job = Reevaluation(
        packs,
        read_cases(settings.reference_studies),
        gated(read_profile(settings.promotion_profile)),
        settings.data_dir / "reevaluations",
        clock,
        settings.reevaluation_hours * HOUR_S,
    )
    async with running(job.run()):
        yield


async def _analysed(analyser: StudyAnalyser, study_instance_uid: str) -> StudyResult:
    request = AnalysisRequest(StudyRef(study_instance_uid), report=False)
    async for event in analyser.analyse(request, Deadline.after(ANALYSIS_S)):
        if isinstance(event, Analysis):
            return event.result
    raise AssertionError("an analysis ends with its result")


def _area(scores: Sequence[tuple[float, bool]]) -> Area:
    from radserve.evaluation.auc_tests import auc_interval
    from radserve.evaluation.delong import delong

    truth = [present for _, present in scores]
    if not any(truth) or all(truth):
        return Area(len(scores), None, None, None)
    estimates = delong([[score for score, _ in scores]], truth)
    auroc = float(estimates.auc[0])
    interval = auc_interval(auroc, float(estimates.covariance[0, 0]))
    return Area(len(scores), auroc, _finite(interval.low), _finite(interval.high))


def _measurements(areas: Mapping[str, Area]) -> dict[tuple[str, str], Measurement]:
    from radserve.evaluation.gates import Measurement

    return {
        (finding, metric): Measurement(area.auroc, area.low, area.high, area.n)
        for finding, area in areas.items()
        for metric in METRICS
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _time_of(path: Path) -> float:
    """The time in the name of a record; of another file the beginning of time."""
    try:
        return datetime.strptime(path.stem, "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
