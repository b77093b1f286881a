"""A pack with one label answered by a head that was learned from a site's images."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.models.adapt.dataset import LabelledImages
from radserve.models.adapt.derive import (
    Derivation,
    Table,
    base_reference,
    derive_pack,
    derived_version,
    label_table,
)
from radserve.models.adapt.head_graph import LOGIT, head_graph
from radserve.models.adapt.manifest import Manifest
from radserve.models.adapt.protocol import Comparison, Learned
from radserve.models.pack import IMAGE_ENCODER, ModelPack
from radserve.models.pack_types import PackInput

SCHEMA = "radserve-adaptation/1"


def check_task(base: ModelPack, manifest: Manifest) -> PackInput:
    """The input that a manifest adapts. Raises PACK_INVALID or INVALID_ARGUMENT where the base is not fit for it."""
    use = base.input(manifest.task.input)
    if use.kind != "image" or IMAGE_ENCODER not in base.graphs:
        raise PackError(ErrorCode.PACK_INVALID, f"pack {base.name!r}: adaptation needs an image encoder and images")
    known = manifest.task.label in {label.name for label in base.labels}
    if known == (manifest.task.new is not None):
        said = "is a label of the pack: leave [task.new] out" if known else "is no label of the pack: give [task.new]"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"task.label: {manifest.task.label!r} {said}")
    if known and manifest.task.label not in use.labels:
        message = f"task.label: {manifest.task.label!r} is not answered on the input {use.name!r}, only {use.labels}"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)
    return use


def write_adapted(
    base: ModelPack, manifest: Manifest, data: LabelledImages, learned: Learned, out: Path, *, version: str = ""
) -> ModelPack:
    """Write the derived pack; the base's graphs are in it with their SHA-256, the head is a graph more."""
    task = manifest.task
    name = "head_" + (re.sub(r"[^a-z0-9]+", "_", task.label.lower()).strip("_") or "label")
    graph, heat_map = head_graph(base, learned.head)
    label = {
        "scoring": {
            "kind": "output",
            "graph": name,
            "output": LOGIT,
            "index": 0,
            "activation": "sigmoid",
            **({"map": heat_map} if heat_map else {}),
        },
        **asdict(learned.calibrated),
    }

    def change(table: Table, prompts: Table) -> None:
        stated = label_table(table, task.label)
        if stated is None:
            stated = _new_label(manifest)
            table["labels"].append(stated)
            next(use for use in table["inputs"] if use["name"] == task.input)["labels"].append(task.label)
        stated.pop("cannot_assess", None)  # fitted for the base's probabilities
        stated.update(label)
        prompts["labels"].pop(task.label, None)
        encoder = table["graphs"][IMAGE_ENCODER]
        table["graphs"][name] = {**encoder, "file": f"{name}.onnx"}

    words = f"{task.label} by a {task.head} head ({task.shots} examples of each class) on {manifest.card.name}"
    derivation = Derivation(
        version=version or derived_version(base, f"adapted {task.label}"),
        words=words,
        record_file=f"adaptation_{name.removeprefix('head_')}.json",
        record=_record(base, manifest, data, learned, hashlib.sha256(graph).hexdigest()),
        card=_card(base, manifest, data, learned, words),
        change=change,
        files={f"{name}.onnx": graph},
    )
    return derive_pack(base, derivation, out)


def _new_label(manifest: Manifest) -> Table:
    task = manifest.task
    assert task.new is not None  # noqa: S101  # check_task
    stated: Table = {"name": task.label, "code": asdict(task.new.code), "site": asdict(task.new.site)}
    if task.new.assertions:
        stated["assertions"] = {side: list(getattr(task.new.assertions, side)) for side in ("positive", "negative")}
    return stated


def _record(
    base: ModelPack, manifest: Manifest, data: LabelledImages, learned: Learned, head_sha256: str
) -> Mapping[str, Any]:
    task = manifest.task
    return {
        "schema": SCHEMA,
        "base": base_reference(base),
        "manifest_sha256": manifest.sha256,
        "data": {**asdict(manifest.card), "sha256": data.sha256, "warnings": list(data.warnings)},
        "task": {
            "label": task.label,
            "input": task.input,
            "head": task.head,
            "shots": task.shots,
            "seeds": list(task.seeds),
            "strength": task.strength,
        },
        "head_sha256": head_sha256,
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


def _card(base: ModelPack, manifest: Manifest, data: LabelledImages, learned: Learned, words: str) -> str:
    card, task = manifest.card, manifest.task
    verdict = "passed" if learned.passed else "NOT passed: kept for the record, not for use"
    points = [f"| {point.head} | {point.shots} | {point.mean:.4f} | {point.spread:.4f} |" for point in learned.curve]
    compared = [_row(each) for each in (learned.val, learned.test) if each]
    return "\n".join(
        [
            f"# Adapted: {task.label}",
            "",
            f"This pack is {base.name} {base.version} (digest {base.digest[:12]}) with **{words}**. The base's graphs "
            "are unchanged; the head stands in a graph of its own, behind a copy of the image encoder.",
            "",
            f"Data: {card.name}; source: {card.source}; licence: {card.licence}; consent basis: {card.consent_basis}. "
            f"SHA-256 of pixels and labels: {data.sha256[:12]}." + "".join(f" Note: {each}." for each in data.warnings),
            "",
            f"Gate (paired DeLong against the base, val, least gain {learned.least_gain:g}): **{verdict}**.",
            "",
            "| split | images | positive | AUROC, base | AUROC, head | gain | lower bound | ECE, head |",
            "|---|---|---|---|---|---|---|---|",
            *compared,
            "",
            f"AUROC on val over the {len(task.seeds)} seeds:",
            "",
            "| head | examples of each class | mean | standard deviation |",
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
