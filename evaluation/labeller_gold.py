"""How well the labeller does on sentences with known findings: the shipped gold set, or a site's own.

One JSON object per line: `id`, `text`, `mentions` [{`label`, `status`, `side`}].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radserve.evaluation.labeller import LABELS, Labeller
from radserve.evaluation.labeller_context import Side, Status
from radserve.evaluation.labeller_scores import entity_counts, f1_from_counts
from radserve.evaluation.questions import one_to_ten, read_lines
from radserve.evaluation.rates import proportion
from radserve.evaluation.tables import refusal
from radserve.evaluation.text_significance import FloatArray, bootstrap_interval

NOT_LATERAL = frozenset({"Enlarged Cardiomediastinum", "Cardiomegaly", "Edema"})
Entity = tuple[str, Status, Side]


@dataclass(frozen=True)
class GoldText:
    """A text and the findings a person read in it."""

    text: str
    entities: frozenset[Entity]


def read_gold(path: Path | None = None) -> tuple[GoldText, ...]:
    """Read a gold set, the shipped one without `path`. Raises INVALID_ARGUMENT naming line, entry and value."""
    source = path or Path(str(files("radserve.evaluation").joinpath("data/labeller_gold.jsonl")))
    return tuple(_gold(number, each) for number, each in enumerate(read_lines(source), start=1))


def evaluate_gold(
    labeller: Labeller, gold: Sequence[GoldText], *, level: float = 0.95, samples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Return micro-F1 of (label, status) pairs, F1 of each status, and agreement on the side, in the types of JSON.

    `value` and `interval` are the micro-F1 on the survey's 1 to 10 (1 + 9 x F1), so that the result can stand in the
    plan of `radserve evaluate report`. Intervals of F1 resample texts; that of the side is Wilson's.
    """
    truth = [each.entities for each in gold]
    said = [labeller.label(each.text).entities() for each in gold]

    def f1(wanted: frozenset[Status]) -> dict[str, Any]:
        counts = entity_counts(_statuses(truth, wanted), _statuses(said, wanted))
        value = f1_from_counts(counts)
        if np.isnan(value):
            return {"value": None, "ci": None, "n": 0}
        interval = bootstrap_interval(counts, _f1_score, level=level, samples=samples, seed=seed)
        return {"value": value, "ci": [interval.low, interval.high], "n": int((counts[:, 0] + counts[:, 2]).sum())}

    micro = f1(frozenset(Status))
    placed = [each in found for known, found in zip(truth, said, strict=True) for each in known if _has_side(each)]
    side = proportion(sum(placed), len(placed), level)
    return {
        "value": None if micro["value"] is None else one_to_ten(micro["value"]),
        "interval": None if micro["ci"] is None else [one_to_ten(min(1.0, each)) for each in micro["ci"]],
        "n": len(gold),
        "labeller_version": labeller.version,
        "ci_level": level,
        "micro_f1": micro,
        "status_f1": {status.value: f1(frozenset({status})) for status in Status},
        "side_agreement": {"value": side.value, "ci": [side.low, side.high], "n": side.of},
        "warnings": ["micro_f1 is null: no text has a finding, said or known"] if micro["value"] is None else [],
    }


def _statuses(entities: Sequence[frozenset[Entity]], wanted: frozenset[Status]) -> list[frozenset[tuple[str, Status]]]:
    return [frozenset((label, status) for label, status, _ in each if status in wanted) for each in entities]


def _has_side(entity: Entity) -> bool:
    return entity[0] not in NOT_LATERAL


def _f1_score(total: FloatArray, _: int) -> float:
    counts: NDArray[np.int64] = np.rint(total).astype(np.int64)
    return f1_from_counts(counts)


def _gold(number: int, line: dict[str, Any]) -> GoldText:
    where = f"gold set, line {number}"
    if not isinstance(line.get("text"), str) or not isinstance(line.get("mentions"), list):
        raise refusal(f"{where}: expected a text 'text' and a list 'mentions'")
    try:
        entities = frozenset((each["label"], Status(each["status"]), Side(each["side"])) for each in line["mentions"])
    except (KeyError, TypeError, ValueError) as error:
        raise refusal(f"{where}: mentions: {error}, expected label, status and side") from error
    for label, _, _ in entities:
        if label not in LABELS:
            raise refusal(f"{where}: label: got {label!r}, expected one of the 14")
    return GoldText(line["text"], entities)
