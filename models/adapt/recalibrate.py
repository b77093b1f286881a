"""Recalibration to a site: the same scores, other probabilities. Fitted on `train`, judged on `val`.

A pack states a temperature and an offset, so temperature and Platt can be kept; isotonic regression, which can merge
scores and so change the AUROC, is measured beside them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.calibrators import Method, fit
from radserve.evaluation.roc import auc
from radserve.evaluation.tables import FloatArray
from radserve.models.adapt.calibrate import Calibrated, ece, fit_calibration
from radserve.models.adapt.dataset import LabelledImages
from radserve.models.adapt.derive import Derivation, Table, base_reference, derive_pack, derived_version, label_table
from radserve.models.adapt.manifest import Manifest
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackLabel

SCHEMA = "radserve-recalibration/1"
KEPT = (Method.TEMPERATURE, Method.PLATT)


@dataclass(frozen=True, slots=True)
class Figures:
    """Expected calibration error and AUROC on `val` of the pack as it was ("before") or of a method."""

    method: str
    ece: float
    auroc: float


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """The calibration of `method`, with the threshold that decides as before, and the figures of all methods."""

    method: Method
    calibrated: Calibrated
    figures: tuple[Figures, ...]

    @property
    def passed(self) -> bool:
        """Whether the calibration error is lower than before."""
        by_method = {each.method: each.ece for each in self.figures}
        return by_method[self.method] < by_method["before"]


def recalibrate(label: PackLabel, data: LabelledImages, logits: FloatArray, method: Method) -> Recalibrated:
    """Fit the label's calibration anew on its uncalibrated `logits` (N,). Raises INVALID_ARGUMENT for isotonic."""
    if method not in KEPT:
        message = f"recalibration: got {method.value!r}, expected temperature or platt: a pack cannot state other ones"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)
    train, val = data.of("train"), data.of("val")
    before = Calibrated(label.temperature, label.offset, label.threshold)
    fitted = {each: fit_calibration(logits[train], data.positive[train], each) for each in KEPT}
    steps = fit(Method.ISOTONIC, data.positive[train], logits[train])
    probabilities = {
        "before": before.probabilities(logits[val]),
        **{each.value: fitted[each].probabilities(logits[val]) for each in KEPT},
        Method.ISOTONIC.value: steps.apply(logits[val]),
    }
    truth = data.positive[val]
    figures = tuple(Figures(name, ece(found, truth), auc(found, truth)) for name, found in probabilities.items())
    chosen = replace(fitted[method], threshold=moved(label.threshold, before, fitted[method]))
    return Recalibrated(method, chosen, figures)


def moved(probability: float, before: Calibrated, after: Calibrated) -> float:
    """The probability that one calibration gives where another gave `probability`: the same logit, so the same side."""
    if probability in (0.0, 1.0):
        return probability
    logit = (math.log(probability) - math.log1p(-probability) - before.offset) * before.temperature
    return 0.5 * (1 + math.tanh((logit / after.temperature + after.offset) / 2))


def write_recalibrated(
    base: ModelPack, manifest: Manifest, data: LabelledImages, made: Recalibrated, out: Path, *, version: str = ""
) -> ModelPack:
    """Write the derived pack: every file but pack.toml and the card is the base's."""
    name = manifest.task.label
    old = base.label(name)
    before = Calibrated(old.temperature, old.offset, old.threshold)

    def change(table: Table, _: Table) -> None:
        stated = label_table(table, name)
        assert stated is not None  # noqa: S101  # base.label found it
        stated.update(asdict(made.calibrated))
        if old.cannot_assess:
            stated["cannot_assess"] = [moved(each, before, made.calibrated) for each in old.cannot_assess]

    words = f"{name} recalibrated ({made.method}) on {manifest.card.name}"
    derivation = Derivation(
        version=version or derived_version(base, f"recalibrated {name}"),
        words=words,
        record_file=f"recalibration_{hashlib.sha256(name.encode()).hexdigest()[:12]}.json",
        record=_record(base, manifest, data, made, before),
        card=_card(base, manifest, data, made, words),
        change=change,
    )
    return derive_pack(base, derivation, out)


def _record(
    base: ModelPack, manifest: Manifest, data: LabelledImages, made: Recalibrated, before: Calibrated
) -> Mapping[str, Any]:
    return {
        "schema": SCHEMA,
        "base": base_reference(base),
        "manifest_sha256": manifest.sha256,
        "data": {**asdict(manifest.card), "sha256": data.sha256, "warnings": list(data.warnings)},
        "label": manifest.task.label,
        "method": made.method.value,
        "before": asdict(before),
        "after": asdict(made.calibrated),
        "val": [asdict(each) for each in made.figures],
        "passed": made.passed,
    }


def _card(base: ModelPack, manifest: Manifest, data: LabelledImages, made: Recalibrated, words: str) -> str:
    card = manifest.card
    return "\n".join(
        [
            f"# Recalibrated: {manifest.task.label}",
            "",
            f"This pack is {base.name} {base.version} (digest {base.digest[:12]}), **{words}**. Graphs and scores are "
            "the base's; the threshold and the band without an answer moved along, so decisions are too.",
            "",
            f"Data: {card.name}; source: {card.source}; licence: {card.licence}; consent basis: {card.consent_basis}. "
            f"SHA-256 of pixels and labels: {data.sha256[:12]}." + "".join(f" Note: {each}." for each in data.warnings),
            "",
            f"Fitted on train ({len(data.of('train'))} images), measured on val ({len(data.of('val'))}): "
            f"**{'passed' if made.passed else 'NOT passed: kept for the record, not for use'}**.",
            "",
            "| method | ECE | AUROC |",
            "|---|---|---|",
            *(f"| {each.method} | {each.ece:.4f} | {each.auroc:.4f} |" for each in made.figures),
            "",
            "The base's card follows; its figures are the base's.",
            "",
        ]
    )
