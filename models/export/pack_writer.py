"""Writes pack.toml: facts, calibration of the training record, and the hash of every other file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from radserve.models.export import pack_facts as facts
from radserve.models.export.onnx_graphs import encoder_name
from radserve.models.pack_graphs import IMAGE_ENCODER
from radserve.models.train.architecture import ModelConfig
from radserve.models.train.checkpoint import TrainingRecord
from radserve.models.train.fit_gate import GateRecord, load_gate_records
from radserve.models.train.imagenet import SOURCE as IMAGENET
from radserve.models.train.wordings import START_TOKENS, WORDINGS

PACK_FILE = "pack.toml"


def write_pack_file(folder: Path, record: TrainingRecord, config: ModelConfig) -> None:
    """Write `folder`/pack.toml over the files that are in `folder` now."""
    parts = (
        _head(record),
        _graphs(config),
        _inputs(config, load_gate_records(folder)),
        _labels(record),
        _files(folder),
    )
    (folder / PACK_FILE).write_text("\n".join(line for part in parts for line in part) + "\n")


def _head(record: TrainingRecord) -> Iterator[str]:
    yield "schema = 2"
    yield _line("name", facts.NAME)
    yield _line("version", facts.VERSION)
    yield _line("model_version", facts.MODEL_VERSION)
    yield _line("licence", "Apache-2.0")
    yield _line("description", facts.DESCRIPTION)
    yield _line("initialised_from", f"{IMAGENET} for the image tower, random for the rest (seed {record.seed})")
    yield _line("risk_tier", "I")
    yield "\n[training]"
    yield from _lines(facts.TRAINING.items())
    yield "\n[decoder]"
    yield _line("max_tokens", facts.MAX_TOKENS)
    yield _line("sections", facts.SECTIONS)
    yield "[decoder.start_tokens]"
    yield from _lines(START_TOKENS.items())


def _graphs(config: ModelConfig) -> Iterator[str]:
    encoders = [encoder_name(name, config.own_towers) for name in config.own_towers]
    for name in (*facts.MAX_BATCH_SIZES, *encoders):
        like = IMAGE_ENCODER if name in encoders else name
        yield f"\n[graphs.{name}]"
        yield _line("file", f"{name}.onnx")
        yield _line("max_batch_size", facts.MAX_BATCH_SIZES[like])
        if like in facts.PREFERRED_BATCH_SIZES:
            yield _line("preferred_batch_sizes", facts.PREFERRED_BATCH_SIZES[like])


def _inputs(config: ModelConfig, gates: Mapping[str, GateRecord]) -> Iterator[str]:
    for each in facts.INPUTS:
        yield "\n[[inputs]]"
        yield _line("name", each.name)
        yield _line("modalities", each.modalities)
        yield _line("body_parts", each.body_parts)
        yield _line("labels", (each.label,))
        if each.name in config.own_towers:
            yield _line("image_encoder", encoder_name(each.name, config.own_towers))
        yield "[inputs.intended_use]"
        yield _line("age_years", each.age_years)
        if each.views:
            yield _line("views", each.views)
        for transform, arguments in facts.preprocessing(each, config.normalisation):
            yield "[[inputs.preprocess]]"
            yield _line("transform", transform)
            yield from _lines(arguments.items())
        if gate := gates.get(each.name):
            yield "[inputs.gate]"
            yield from _lines(asdict(gate).items())


def _labels(record: TrainingRecord) -> Iterator[str]:
    wordings = {wording.label: wording for wording in WORDINGS}
    for each in facts.LABELS:
        calibration, wording = record.labels[each.name].calibration, wordings[each.name]
        yield "\n[[labels]]"
        yield _line("name", each.name)
        yield f"code = {_concept(each.code)}"
        yield f"site = {_concept(each.site)}"
        yield _line("threshold", calibration.threshold)
        yield _line("temperature", calibration.temperature)
        yield _line("offset", calibration.offset)
        if calibration.cannot_assess:
            yield _line("cannot_assess", calibration.cannot_assess)
        yield "[labels.scoring]"
        yield _line("kind", "prompts")
        yield _line("logit_scale", record.logit_scales[each.name])
        yield "[labels.assertions]"
        yield _line("positive", wording.assertions_positive)
        yield _line("negative", wording.assertions_negative)


def _files(folder: Path) -> Iterator[str]:
    yield "\n[files]"
    for path in sorted(folder.iterdir()):
        if path.name != PACK_FILE:
            yield f'"{path.name}" = "{hashlib.sha256(path.read_bytes()).hexdigest()}"'


def _concept(code: tuple[str, str, str]) -> str:
    value, scheme, meaning = map(json.dumps, code)
    return f"{{ value = {value}, scheme = {scheme}, meaning = {meaning} }}"


def _lines(items: Iterable[tuple[str, object]]) -> Iterator[str]:
    return (_line(key, value) for key, value in items)


def _line(key: str, value: object) -> str:
    # JSON's strings, numbers and flat lists are also TOML's.
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"
