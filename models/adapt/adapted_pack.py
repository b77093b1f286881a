"""A pack with one label answered anew by what was learned from a site's images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.models.adapt.adapter_file import Adapter
from radserve.models.adapt.dataset import LabelledImages
from radserve.models.adapt.derive import (
    Derivation,
    Table,
    base_reference,
    derive_pack,
    derived_version,
    label_table,
)
from radserve.models.adapt.manifest import Manifest, MethodName, TaskTable
from radserve.models.adapt.parts import parts_of
from radserve.models.adapt.protocol import Comparison, Learned
from radserve.models.pack import TEXT_ENCODER, ModelPack
from radserve.models.pack_types import OutputScoring, PackInput, PromptScoring

SCHEMA = "radserve-adaptation/1"
_NAMES: dict[MethodName, str] = {
    "logistic": "a logistic head",
    "prototype": "a prototype head",
    "context-vectors": "learned context vectors",
    "low-rank": "a low-rank change of the tower",
    "exemplars": "labelled examples beside its score",
}
_HEAD = "The head stands in a graph of its own, behind a copy of the image encoder."
_PLACES: dict[MethodName, str] = {
    "logistic": _HEAD,
    "prototype": _HEAD,
    "context-vectors": "The learned texts take the place of the label's prompts; no graph is new.",
    "low-rank": "The change is merged into the weights of a copy of the graph, which this label alone is scored by.",
    "exemplars": "Embeddings of examples stand beside the base's score; no graph is new.",
}


def check_task(base: ModelPack, manifest: Manifest) -> PackInput:
    """The input that a manifest adapts. Raises PACK_INVALID or INVALID_ARGUMENT where the base is not fit for it."""
    use = base.input(manifest.task.input)
    encodes = base.encodes(use) or manifest.task.method == "low-rank"
    if use.kind != "image" or not encodes:
        raise PackError(ErrorCode.PACK_INVALID, f"pack {base.name!r}: adaptation needs an image encoder and images")
    known = manifest.task.label in {label.name for label in base.labels}
    if known == (manifest.task.new is not None):
        said = "is a label of the pack: leave [task.new] out" if known else "is no label of the pack: give [task.new]"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"task.label: {manifest.task.label!r} {said}")
    if known and manifest.task.label not in use.labels:
        message = f"task.label: {manifest.task.label!r} is not answered on the input {use.name!r}, only {use.labels}"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)
    _check_method(base, manifest, known=known)
    return use


def _check_method(base: ModelPack, manifest: Manifest, *, known: bool) -> None:
    method, label = manifest.task.method, manifest.task.label
    scoring = base.label(label).scoring if known else None
    fit = {
        "context-vectors": scoring is None or isinstance(scoring, PromptScoring),
        "low-rank": isinstance(scoring, PromptScoring | OutputScoring),
        "exemplars": known and base.label(label).exemplars is None,
    }
    if not fit.get(method, True):
        how = scoring.kind if scoring else "nothing yet"
        message = f"task.method: {method!r} does not go with {label!r}, which is scored by {how}"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)
    if method == "context-vectors" and TEXT_ENCODER not in base.graphs:
        raise PackError(ErrorCode.PACK_INVALID, f"pack {base.name!r}: context vectors need a text encoder")
    if method == "exemplars" and not manifest.card.deidentified:
        message = "exemplars stay in the pack: [card] has to state deidentified = true"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)


def adapter_of(base: ModelPack, manifest: Manifest, data: LabelledImages, learned: Learned) -> Adapter:
    """What was learned as an adapter of `base`."""
    task = manifest.task
    words = f"{task.label} by {_NAMES[task.method]} ({task.shots} examples of each class) on {manifest.card.name}"
    return Adapter(
        method=task.method,
        label=task.label,
        input=task.input,
        base=base_reference(base),
        stated={**(_new_label(manifest) if task.new else {}), **asdict(learned.calibrated)},
        tensors=learned.model.tensors(),
        details=learned.model.details(),
        words=words,
        record=_record(base, manifest, data, learned),
        card=_card(base, manifest, data, learned, words),
    )


def write_adapted(base: ModelPack, adapter: Adapter, out: Path, *, version: str = "") -> ModelPack:
    """Write the pack that is `base` with an adapter; the base's graphs are in it with their SHA-256.

    Raises PACK_INVALID for an adapter of another pack or with tensors of the wrong shape.
    """
    parts = parts_of(base, adapter)
    files = {adapter.file_name: adapter.save()}
    if parts.graph:
        files[f"{parts.graph}.onnx"] = parts.content

    def change(table: Table, prompts: Table) -> None:
        stated = label_table(table, adapter.label)
        if stated is None:
            stated = {"name": adapter.label}
            table["labels"].append(stated)
            next(use for use in table["inputs"] if use["name"] == adapter.input)["labels"].append(adapter.label)
        for name in ("cannot_assess", "exemplars"):  # fitted for what the base gave
            stated.pop(name, None)
        stated.update(adapter.stated)
        if parts.scoring:
            stated["scoring"] = parts.scoring
            prompts["labels"].pop(adapter.label, None)
        if parts.prompts:
            prompts["labels"][adapter.label] = parts.prompts
        if parts.exemplars:
            stated["exemplars"] = parts.exemplars
        if parts.graph:
            table["graphs"][parts.graph] = {**table["graphs"][parts.like], "file": f"{parts.graph}.onnx"}

    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    derivation = Derivation(
        version=version or derived_version(base, f"adapted {adapter.label}"),
        words=adapter.words,
        record_file=f"adaptation_{adapter.slug}.json",
        record={**adapter.record, "files": hashes},
        card=adapter.card,
        change=change,
        files=files,
    )
    return derive_pack(base, derivation, out)


def _new_label(manifest: Manifest) -> Table:
    task = manifest.task
    assert task.new is not None  # noqa: S101  # check_task
    stated: Table = {"code": asdict(task.new.code), "site": asdict(task.new.site)}
    if task.new.assertions:
        stated["assertions"] = {side: list(getattr(task.new.assertions, side)) for side in ("positive", "negative")}
    return stated


def _record(base: ModelPack, manifest: Manifest, data: LabelledImages, learned: Learned) -> Mapping[str, Any]:
    task = manifest.task
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
        "task": {
            "label": task.label,
            "input": task.input,
            "method": task.method,
            "shots": task.shots,
            "seeds": list(task.seeds),
            "strength": task.strength,
            **_options(task),
        },
        "details": dict(learned.model.details()),
        "calibration": asdict(learned.calibrated),
        "curve": [{**asdict(point), "mean": point.mean, "standard_deviation": point.spread} for point in learned.curve],
        "gate": {
            "test": "paired DeLong, clustered by patient, one-sided 95 % lower bound of the AUROC gain over the base",
            "least_gain": learned.least_gain,
            **asdict(learned.val),
            "passed": learned.passed,
        },
        "test_split": asdict(learned.test) if learned.test else None,
    }


def _options(task: TaskTable) -> Table:
    """The table of the method, where it has one."""
    tables: dict[str, Any] = {"context-vectors": task.context, "low-rank": task.low_rank, "exemplars": task.exemplars}
    return {task.method: asdict(tables[task.method])} if task.method in tables else {}


def _card(base: ModelPack, manifest: Manifest, data: LabelledImages, learned: Learned, words: str) -> str:
    card, task = manifest.card, manifest.task
    verdict = "passed" if learned.passed else "NOT passed: kept for the record, not for use"
    points = [f"| {point.method} | {point.shots} | {point.mean:.4f} | {point.spread:.4f} |" for point in learned.curve]
    compared = [_row(each) for each in (learned.val, learned.test) if each]
    return "\n".join(
        [
            f"# Adapted: {task.label}",
            "",
            f"This pack is {base.name} {base.version} (digest {base.digest[:12]}) with **{words}**. The base's graphs "
            f"are unchanged. {_PLACES[task.method]}",
            "",
            f"Data: {card.name}; source: {card.source}; licence: {card.licence}; consent basis: {card.consent_basis}. "
            f"SHA-256 of pixels and labels: {data.sha256[:12]}." + "".join(f" Note: {each}." for each in data.warnings),
            "",
            f"Gate (paired DeLong against the base, val, least gain {learned.least_gain:g}): **{verdict}**.",
            "",
            "| split | images | positive | AUROC, base | AUROC, adapted | gain | lower bound | ECE, adapted |",
            "|---|---|---|---|---|---|---|---|",
            *compared,
            "",
            f"AUROC on val over the {len(task.seeds)} seeds:",
            "",
            "| method | examples of each class | mean | standard deviation |",
            "|---|---|---|---|",
            *points,
            "",
            "The base's card follows; its figures are the base's.",
            "",
        ]
    )


def _row(each: Comparison) -> str:
    return (
        f"| {each.split} | {each.images} | {each.positives} | {each.auroc_before:.4f} | {each.auroc_after:.4f} "
        f"| {each.gain:+.4f} | {each.gain_lower_bound:+.4f} | {each.ece_after:.3f} |"
    )
