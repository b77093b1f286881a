"""The skeleton of a model card: what the source said, and plainly what it did not."""

from __future__ import annotations

from typing import Any

from radserve.models.importing.imported import Imported, own_threshold
from radserve.models.importing.labels_file import NOT_STATED, ImportLabel, LabelsFile

_ASKED = (
    "training data",
    "sex, age and origin of the patients",
    "devices and sites",
    "reference standard",
    "performance on an independent test set",
    "performance by group",
    "calibration",
    "known failures",
)


def card_text(
    labels: LabelsFile,
    found: Imported,
    source: str,
    digest: str,
    parity: dict[str, Any] | None,
    scan: dict[str, Any] | None,
) -> str:
    """The text of MODEL_CARD.md."""
    stated = {key.replace("_", " "): value for key, value in labels.training.items()}
    lines = [
        f"# {labels.name} {labels.version}",
        "",
        "**Not a medical device. Imported, not evaluated.** Fill in what is not stated before anyone relies on it.",
        "",
        f"{labels.description}" if labels.description != NOT_STATED else f"Description: {NOT_STATED}.",
        "",
        "## Source",
        "",
        f"- kind: {found.kind}",
        f"- initialised from: {source}",
        f"- SHA-256 of the source: {digest}",
        f"- licence: {labels.licence}",
        *(f"- {key}: {value}" for key, value in found.facts.items()),
        "",
        "## Intended use",
        "",
        *(f"- {line}" for line in _uses(labels)),
        "",
        "## Labels",
        "",
        "| label | code | threshold |",
        "|---|---|---|",
        *(_label_row(each, found) for each in labels.labels),
        "",
        "## Conversion",
        "",
        *_conversion(parity),
        *_scan(scan),
        "",
        "## What a reader needs to know",
        "",
        *(f"- {each}: {stated.get(each, NOT_STATED)}" for each in _ASKED),
        *(f"- {key}: {value}" for key, value in stated.items() if key not in _ASKED),
    ]
    return "\n".join(lines) + "\n"


def _uses(labels: LabelsFile) -> list[str]:
    uses = []
    for each in labels.inputs:
        ages = each.intended_use.age_years
        age = f"{ages[0]:g} to {ages[1]:g} years" if ages else f"age {NOT_STATED}"
        views = ", ".join(each.intended_use.views) or f"views {NOT_STATED}"
        parts = ", ".join(each.body_parts) or f"body part {NOT_STATED}"
        uses.append(f"{each.name}: {', '.join(each.modalities)}; {parts}; {views}; {age}")
    return uses


def _label_row(label: ImportLabel, found: Imported) -> str:
    threshold = _threshold(label.threshold, label.name, found)
    return f"| {label.name} | {label.code.value} ({label.code.scheme}) | {threshold} |"


def _threshold(given: float | None, name: str, found: Imported) -> str:
    if given is not None:
        return f"{given:g} (labels file)"
    own = own_threshold(name, found.thresholds)
    if own is not None:
        return f"{own:g} (source)"
    return f"0.5 ({NOT_STATED})"


def _scan(scan: dict[str, Any] | None) -> list[str]:
    if scan is None:
        return []
    found = [
        f"- output {each['index']}: a {each['patch']} patch at the {each['place']} moves the logit by at least "
        f"{each['least_change']:g} in every image, others usually by {each['usual_change']:g}"
        for each in scan["suspicions"]
    ]
    clear = ["- no simple patch moves one answer by itself; that proves nothing about other triggers"]
    return ["", "Scan for planted triggers:", "", *(found or clear)]


def _conversion(parity: dict[str, Any] | None) -> list[str]:
    if parity is None:
        return ["The graph is the source's own ONNX file, unchanged."]
    rows = [
        f"- {each['graph']} {each['output']}: largest difference {each['max_abs_diff']:.1e} "
        f"(values to {each['max_abs_value']:.3g}), least cosine {each['least_cosine']:.6f}"
        for each in parity["outputs"]
    ]
    return [f"ONNX ({parity['precision']}, opset {parity['opset']}) against PyTorch on seeded inputs:", "", *rows]
