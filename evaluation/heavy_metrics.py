"""Report metrics that need a neural model: BERTScore, CheXbert, RadGraph, RaTEScore and GREEN.

Their packages pin libraries that do not go with this one's, so each runs in an environment of its own, as a command
that the site names. The command reads one JSON object per line ({"hypothesis": str, "references": [str, ...]}) and
writes one per line ({"score": number}), in the same order; `{weights}` in its arguments is the folder of the weights.
What cannot be measured says why: the value is None with a reason, never 0.
"""

from __future__ import annotations

import json
import math
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radserve.evaluation.tables import refusal
from radserve.evaluation.text_metrics import check_reports

DEFAULT_TIMEOUT_S = 3600.0


class HeavyStatus(StrEnum):
    """Whether a heavy metric could be measured."""

    MEASURED = "measured"
    WEIGHTS_MISSING = "weights missing"
    FAILED = "failed"


@dataclass(frozen=True)
class HeavyMetric:
    """A metric by a neural model: its name, and where its code and weights come from (for the reason when missing)."""

    name: str
    package: str
    weights: str
    source: str


HEAVY_METRICS = (
    HeavyMetric("bertscore", "bert-score", "a BERT-like encoder", "Zhang et al., ICLR 2020"),
    HeavyMetric("chexbert", "f1chexbert", "chexbert.pth", "Smit et al., EMNLP 2020"),
    HeavyMetric("radgraph", "radgraph", "RadGraph-XL or RadGraph", "Jain et al., NeurIPS 2021"),
    HeavyMetric("ratescore", "RaTEScore", "RaTE-NER and a synonym encoder", "Zhao et al., EMNLP 2024"),
    HeavyMetric("green", "green-score", "a GREEN language model", "Ostmeier et al., EMNLP Findings 2024"),
)


@dataclass(frozen=True)
class Scorer:
    """How a site runs one heavy metric: the command, the folder of its weights, and how long it may take."""

    command: tuple[str, ...]
    weights: Path
    timeout_s: float = DEFAULT_TIMEOUT_S


@dataclass(frozen=True)
class HeavyScore:
    """What came of one heavy metric: `values` (float64, (reports,)) when measured, else None and the reason."""

    metric: str
    status: HeavyStatus
    values: NDArray[np.float64] | None
    reason: str | None

    @property
    def mean(self) -> float | None:
        """The mean over the reports; None when it was not measured."""
        return None if self.values is None else float(self.values.mean())


def read_scorers(path: Path) -> dict[str, Scorer]:
    """Read scorers from a TOML file: a table per metric with `command` (list), `weights` and, if wanted, `timeout_s`.

    Raises RadserveError INVALID_ARGUMENT for an unreadable file, an unknown metric or a missing entry.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise refusal(f"heavy metrics: {path.name!r} cannot be read: {error}") from error
    known = {each.name for each in HEAVY_METRICS}
    scorers = {}
    for name, table in tables.items():
        if name not in known:
            raise refusal(f"heavy metrics: got {name!r}, expected one of {', '.join(sorted(known))}")
        command = table.get("command") if isinstance(table, dict) else None
        if not isinstance(command, list) or not command or "weights" not in table:
            raise refusal(f"heavy metrics: [{name}] needs 'command' (a list of words) and 'weights' (a folder)")
        timeout_s = float(table.get("timeout_s", DEFAULT_TIMEOUT_S))
        scorers[name] = Scorer(tuple(map(str, command)), Path(table["weights"]), timeout_s)
    return scorers


def measure_all(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], scorers: Mapping[str, Scorer]
) -> dict[str, HeavyScore]:
    """Return every heavy metric by name, measured or with the reason why not."""
    return {each.name: measure(each, hypotheses, references, scorers.get(each.name)) for each in HEAVY_METRICS}


def measure(
    metric: HeavyMetric, hypotheses: Sequence[str], references: Sequence[Sequence[str]], scorer: Scorer | None
) -> HeavyScore:
    """Return one heavy metric of the reports. A missing or failing model is a status of the result, not an error."""
    check_reports(hypotheses, references)
    if scorer is None:
        wanted = f"no scorer is configured; it needs the package {metric.package} and {metric.weights}"
        return HeavyScore(metric.name, HeavyStatus.WEIGHTS_MISSING, None, f"{wanted} ({metric.source})")
    if not scorer.weights.exists():
        reason = f"the weights {scorer.weights.name!r} ({metric.weights}) are not where the scorer's settings say"
        return HeavyScore(metric.name, HeavyStatus.WEIGHTS_MISSING, None, reason)
    lines = "".join(
        json.dumps({"hypothesis": said, "references": list(truths)}) + "\n"
        for said, truths in zip(hypotheses, references, strict=True)
    )
    command = [word.replace("{weights}", str(scorer.weights)) for word in scorer.command]
    try:
        done = subprocess.run(
            command, input=lines, capture_output=True, text=True, timeout=scorer.timeout_s, check=False
        )
    except OSError as error:
        return _failed(metric, f"its command could not be started: {error.strerror or error}")
    except subprocess.TimeoutExpired:
        return _failed(metric, f"its command took longer than {scorer.timeout_s:g} s")
    if done.returncode != 0:
        return _failed(metric, f"its command ended with exit code {done.returncode}")
    return _read(metric, done.stdout, len(hypotheses))


def _read(metric: HeavyMetric, output: str, expected: int) -> HeavyScore:
    lines = [line for line in output.splitlines() if line.strip()]
    if len(lines) != expected:
        return _failed(metric, f"its command wrote {len(lines)} scores, expected {expected}")
    values = []
    for row, line in enumerate(lines, start=1):
        try:
            score = float(json.loads(line)["score"])
        except (ValueError, KeyError, TypeError):
            return _failed(metric, f"its command wrote no score in line {row}")
        if not math.isfinite(score):
            return _failed(metric, f"its command wrote a score that is not finite in line {row}")
        values.append(score)
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return HeavyScore(metric.name, HeavyStatus.MEASURED, array, None)


def _failed(metric: HeavyMetric, reason: str) -> HeavyScore:
    return HeavyScore(metric.name, HeavyStatus.FAILED, None, reason)
