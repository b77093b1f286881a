"""From what was read to a whole pack: graphs, parity, card, pack.toml; put in its place at once or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from radserve.models.export.onnx_graphs import write_graph
from radserve.models.importing.card import card_text
from radserve.models.importing.imported import Chain, Imported, cause_of, own_threshold, prepared_range, refused
from radserve.models.importing.labels_file import ImportInput, ImportLabel, LabelsFile
from radserve.models.importing.parity import check_parity
from radserve.models.importing.precision import to_half, write_scripted
from radserve.models.importing.toml_text import to_toml
from radserve.models.importing.trigger_scan import scan_graph
from radserve.models.pack import ModelPack, load_pack
from radserve.models.pack_types import SCHEMA
from radserve.models.pack_writing import sealed

Table = dict[str, Any]


def build_pack(
    found: Imported, labels: LabelsFile, source: str, digest: str, out: Path, precision: str = "fp32"
) -> ModelPack:
    """Write the pack into the place of `out`, which must not be there or be empty. Raises PackError PACK_INVALID."""
    check_place(out)
    _check_answers(found, labels)  # before the export, which takes long
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        folder = Path(scratch) / out.name
        folder.mkdir()
        _write(found, labels, source, digest, folder, precision)  # and read: nothing that cannot be leaves here
        shutil.rmtree(out, ignore_errors=True)
        folder.rename(out)
    return load_pack(out)


def check_place(out: Path) -> None:
    """Raise PACK_INVALID where `out` is something already: no pack is ever overwritten."""
    if out.is_dir() and any(out.iterdir()):
        raise refused(f"folder {out.name!r} is there already and not empty")
    if out.exists() and not out.is_dir():
        raise refused(f"{out.name!r} is there already and no folder")


def _check_answers(found: Imported, labels: LabelsFile) -> None:
    for place, label in enumerate(labels.labels):
        scoring = found.scoring(label, place)
        index = scoring.get("index", scoring.get("channel"))
        if found.answers is not None and index is not None and index >= found.answers:
            has = f"has {found.answers} answers, counted from 0"
            raise refused(f"label {label.name!r} would be answer {index} of the model, which {has}; give its `index`")


def _write(found: Imported, labels: LabelsFile, source: str, digest: str, folder: Path, precision: str) -> None:
    for plan in found.plans:
        path = folder / plan.file_name
        if plan.name in found.scripted:
            write_scripted(plan, path)
        else:
            write_graph(plan, path)
        if precision == "fp16":
            to_half(path)
    for name, data in found.ready.items():
        (folder / f"{name}.onnx").write_bytes(data)
        if precision != "fp32":
            raise refused("an ONNX file is taken as it is: convert its precision before the import")
    values = _value_range(found, labels)
    parity = check_parity(found.plans, folder, precision, found.scripted, values) if found.plans else None
    for name, data in found.files.items():
        (folder / name).write_bytes(data)
    if found.tokenizer:
        (folder / "tokenizer.json").write_text(found.tokenizer[0], encoding="utf-8")
        (folder / "prompts.toml").write_text(to_toml(_prompts(labels)), encoding="utf-8")
    scan = _scanned(found, labels, folder, values)
    if scan is not None:
        (folder / "trigger_scan.json").write_text(json.dumps(scan, indent=2) + "\n", encoding="utf-8")
    card = card_text(labels, found, f"{found.kind}: {source}", digest, parity, scan)
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    sealed(folder, _pack_table(found, labels, source, digest, precision))


def _scanned(
    found: Imported, labels: LabelsFile, folder: Path, value_range: tuple[float, float]
) -> dict[str, Any] | None:
    """The trigger scan of a classifier of images; None for other models."""
    scoring = found.scoring(labels.labels[0], 0)
    if scoring["kind"] != "output" or found.input_kind != "image":
        return None
    data = (folder / f"{scoring['graph']}.onnx").read_bytes()
    try:
        return scan_graph(data, scoring["output"], value_range)
    except Exception as error:  # ONNX Runtime's errors share no other base class
        raise refused(f"graph {scoring['graph']!r} does not run: {cause_of(error)}", error) from error


def _chain(each: ImportInput, found: Imported) -> Chain:
    """How an input is prepared: as the labels file says, else as the model's own configuration does."""
    stated = each.preprocess or ()
    return tuple((step.transform, dict(step.arguments)) for step in stated) or found.preprocess


def _value_range(found: Imported, labels: LabelsFile) -> tuple[float, float]:
    """Least and greatest value of prepared pixels, over all inputs."""
    lows, highs = zip(*(prepared_range(_chain(each, found)) for each in labels.inputs), strict=True)
    return min(lows), max(highs)


def _pack_table(found: Imported, labels: LabelsFile, source: str, digest: str, precision: str) -> Table:
    graphs = [plan.name for plan in found.plans] + list(found.ready)
    table: Table = {
        "schema": SCHEMA,
        **{name: getattr(labels, name) for name in ("name", "version", "model_version", "licence", "description")},
        "initialised_from": f"{found.kind}: {source} (sha256 {digest})",
        "risk_tier": labels.risk_tier,
        "training": {"data": "not stated", **labels.training, "source": source, "source_sha256": digest},
        "graphs": {
            name: {"file": f"{name}.onnx", "max_batch_size": labels.max_batch_size, "precision": precision}
            for name in graphs
        },
    }
    if found.tokenizer:
        table["tokenizer"] = asdict(found.tokenizer[1])
    if labels.decoder and "decoder_step" in graphs:
        table["decoder"] = {"max_tokens": labels.decoder.max_tokens, "sections": list(labels.decoder.sections)}
    table["inputs"] = [_input(each, found, labels) for each in labels.inputs]
    table["labels"] = [_label(each, place, found) for place, each in enumerate(labels.labels)]
    return table


def _input(each: ImportInput, found: Imported, labels: LabelsFile) -> Table:
    table: Table = {
        "name": each.name,
        "kind": found.input_kind,
        "modalities": list(each.modalities),
        "body_parts": list(each.body_parts),
        "labels": list(each.labels) or [label.name for label in labels.labels],
        "preprocess": [{"transform": name, **arguments} for name, arguments in _chain(each, found)],
    }
    use: Table = {}
    if each.intended_use.age_years:
        use["age_years"] = list(each.intended_use.age_years)
    if each.intended_use.views:
        use["views"] = list(each.intended_use.views)
    return {**table, "intended_use": use} if use else table


def _label(each: ImportLabel, place: int, found: Imported) -> Table:
    own = own_threshold(each.name, found.thresholds)
    threshold = each.threshold if each.threshold is not None else own if own is not None else 0.5
    table: Table = {
        "name": each.name,
        "code": asdict(each.code),
        "site": asdict(each.site),
        "threshold": float(threshold),
        "temperature": float(each.temperature),
        "offset": float(each.offset),
        "scoring": found.scoring(each, place),
    }
    if each.assertions:
        table["assertions"] = {"positive": list(each.assertions.positive), "negative": list(each.assertions.negative)}
    return table


def _prompts(labels: LabelsFile) -> Table:
    sides = {each.name: {"positive": list(each.positive), "negative": list(each.negative)} for each in labels.labels}
    return {"version": "1", "labels": sides}
