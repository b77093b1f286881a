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
from radserve.models.adapt.normalise import IntensityMap
from radserve.models.adapt.protocol import Comparison, compare
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackLabel

SCHEMA = "radserve-recalibration/1"
KEPT = (Method.TEMPERATURE, Method.PLATT)
MARGIN = 0.01  # of AUROC that mapped grey values may cost, at most, by the lower bound


@dataclass(frozen=True, slots=True)
class Figures:
    """Expected calibration error and AUROC on `val` of the pack as it was ("before") or of a method."""

    method: str
    ece: float
    auroc: float


@dataclass(frozen=True, slots=True, eq=False)
class Normalised:
    """The site's grey values mapped: how, and the label's uncalibrated `logits` (N,) of the mapped images."""

    intensity: IntensityMap
    logits: FloatArray


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """The calibration of `method`, with the threshold that decides as before, and the figures of all methods.

    `intensity` is there where grey values are mapped as well; `compared` is then the AUROC on `val` with and without.
    """

    method: Method
    calibrated: Calibrated
    figures: tuple[Figures, ...]
    intensity: IntensityMap | None = None
    compared: Comparison | None = None
    least_gain: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the calibration error is lower than before, and the AUROC no worse by more than the margin."""
        by_method = {each.method: each.ece for each in self.figures}
        ranks = self.compared is None or self.compared.gain_lower_bound > self.least_gain
        return ranks and by_method[self.method] < by_method["before"]


def check_kept(method: Method) -> None:
    """Raise INVALID_ARGUMENT for a method whose fit a pack has no place for."""
    if method not in KEPT:
        message = f"recalibration: got {method.value!r}, expected temperature or platt: a pack cannot state other ones"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)


def recalibrate(
    label: PackLabel,
    data: LabelledImages,
    logits: FloatArray,
    method: Method,
    normalised: Normalised | None = None,
    least_gain: float = -MARGIN,
) -> Recalibrated:
    """Fit the label's calibration anew on its uncalibrated `logits` (N,), or on those of the mapped images.

    Raises INVALID_ARGUMENT for isotonic.
    """
    check_kept(method)
    train, val = data.of("train"), data.of("val")
    before = Calibrated(label.temperature, label.offset, label.threshold)
    new = normalised.logits if normalised else logits
    fitted = {each: fit_calibration(new[train], data.positive[train], each) for each in KEPT}
    steps = fit(Method.ISOTONIC, data.positive[train], new[train])
    probabilities = {
        "before": before.probabilities(logits[val]),
        **({"normalised": before.probabilities(new[val])} if normalised else {}),
        **{each.value: fitted[each].probabilities(new[val]) for each in KEPT},
        Method.ISOTONIC.value: steps.apply(new[val]),
    }
    truth = data.positive[val]
    figures = tuple(Figures(name, ece(found, truth), auc(found, truth)) for name, found in probabilities.items())
    chosen = replace(fitted[method], threshold=moved(label.threshold, before, fitted[method]))
    if normalised is None:
        return Recalibrated(method, chosen, figures)
    compared = compare("val", data, logits, new, chosen)
    return Recalibrated(method, chosen, figures, normalised.intensity, compared, least_gain)


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
        if made.intensity:
            use = next(each for each in table["inputs"] if each["name"] == manifest.task.input)
            use["preprocess"].insert(made.intensity.place, made.intensity.step)

    how = f"{made.method}{' after normalisation' if made.intensity else ''}"
    words = f"{name} recalibrated ({how}) on {manifest.card.name}"
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
        "data": {
            **asdict(manifest.card),
            "sha256": data.sha256,
            "signed_by": manifest.signed_by,
            "warnings": list(data.warnings),
        },
        "label": manifest.task.label,
        "method": made.method.value,
        "before": asdict(before),
        "after": asdict(made.calibrated),
        "val": [asdict(each) for each in made.figures],
        "normalisation": _normalisation(base, manifest, made),
        "passed": made.passed,
    }


def _normalisation(base: ModelPack, manifest: Manifest, made: Recalibrated) -> Mapping[str, Any] | None:
    if made.intensity is None or made.compared is None:
        return None
    return {
        "input": manifest.task.input,
        "reference": manifest.data.reference,
        **asdict(made.intensity),
        "auroc": asdict(made.compared),
        "least_gain": made.least_gain,
        "not_measured": _not_measured(base, manifest),
    }


def _not_measured(base: ModelPack, manifest: Manifest) -> list[str]:
    """The other labels of the input: they are answered on the mapped images as well."""
    return [label for label in base.input(manifest.task.input).labels if label != manifest.task.label]


def _what_changed(base: ModelPack, manifest: Manifest, made: Recalibrated) -> str:
    if made.compared is None:
        return (
            "Graphs and scores are the base's; the threshold and the band without an answer moved along, so decisions "
            "are too."
        )
    others = ", ".join(_not_measured(base, manifest))
    return (
        f"Graphs are the base's. Grey values of the input {manifest.task.input} are mapped to those of the images that "
        f"it learned from: AUROC on val {made.compared.auroc_before:.4f} before, {made.compared.auroc_after:.4f} after "
        f"(lower bound of the gain {made.compared.gain_lower_bound:+.4f}, margin {made.least_gain:+.2f})."
        + (f" Not measured on mapped images: {others}." if others else "")
    )


def _card(base: ModelPack, manifest: Manifest, data: LabelledImages, made: Recalibrated, words: str) -> str:
    card = manifest.card
    return "\n".join(
        [
            f"# Recalibrated: {manifest.task.label}",
            "",
            f"This pack is {base.name} {base.version} (digest {base.digest[:12]}), **{words}**. "
            + _what_changed(base, manifest, made),
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
