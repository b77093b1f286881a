"""Writes derived packs: the base's files as they are, a label scored or calibrated anew, and the record of it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from radserve.errors import ErrorCode, RadserveError
from radserve.models.importing.toml_text import to_toml
from radserve.models.pack import CARD_FILE, PROMPTS_FILE, ModelPack, load_pack
from radserve.models.pack_files import PACK_FILE, SIGNATURE_FILE
from radserve.models.pack_types import migrated
from radserve.models.pack_writing import sealed

# What the base's own training left: it says nothing of the derived pack.
LEFT_OUT = ("model.safetensors", "model.json", "training.json", "evaluation.json", "seeds.json", "out_of_fold.json")

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Derivation:
    """What a derived pack is: its version, what was done in a few words, the record with its file name, the card's
    lines, further files, and how the tables of pack.toml and prompts.toml change (in place)."""

    version: str
    words: str
    record_file: str
    record: Mapping[str, Any]
    card: str
    change: Callable[[Table, Table], None]
    files: Mapping[str, bytes] = field(default_factory=dict)


def derive_pack(base: ModelPack, derivation: Derivation, out: Path) -> ModelPack:
    """Write the pack to `out` at once or not at all, and read it. Raises INVALID_ARGUMENT where `out` exists.

    Every file of the base that is in it has the base's SHA-256, but for pack.toml, the card and prompts.toml.
    """
    if out.exists():
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"{out.name!r} exists already: a pack is never overwritten")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as aside:
        folder = Path(aside) / out.name
        shutil.copytree(base.folder, folder, ignore=shutil.ignore_patterns(PACK_FILE, SIGNATURE_FILE, *LEFT_OUT))
        _write(base, derivation, folder)
        folder.rename(out)
    return load_pack(out)


def base_reference(base: ModelPack) -> dict[str, Any]:
    """The base as records name it, with the SHA-256 of every graph: those of the derived pack are the same."""
    graphs = {name: graph.sha256 for name, graph in base.graphs.items()}
    return {"name": base.name, "version": base.version, "digest": base.digest, "graphs": graphs}


def label_table(table: Table, name: str) -> Table | None:
    """The table of a label in pack.toml, None where there is none."""
    return next((label for label in table["labels"] if label["name"] == name), None)


def derived_version(base: ModelPack, words: str) -> str:
    """The base's version with a suffix of what was done, in the letters that a version may have."""
    suffix = re.sub(r"[^0-9a-z]+", "-", words.lower()).strip("-")
    return f"{base.version}{'.' if '+' in base.version else '+'}{suffix}"


def _write(base: ModelPack, derivation: Derivation, folder: Path) -> None:
    table = migrated(tomllib.loads((base.folder / PACK_FILE).read_text(encoding="utf-8")))
    prompts = folder / PROMPTS_FILE
    texts = tomllib.loads(prompts.read_text(encoding="utf-8")) if prompts.exists() else {"labels": {}}
    before = json.dumps(texts)
    derivation.change(table, texts)
    if not texts["labels"]:
        prompts.unlink(missing_ok=True)
    elif json.dumps(texts) != before:
        prompts.write_text(to_toml(texts), encoding="utf-8")
    for name, content in derivation.files.items():
        (folder / name).write_bytes(content)
    record = json.dumps(derivation.record, indent=2, ensure_ascii=False) + "\n"
    (folder / derivation.record_file).write_text(record, encoding="utf-8")
    card = folder / CARD_FILE
    card.write_text(f"{derivation.card}\n{card.read_text(encoding='utf-8')}", encoding="utf-8")
    table["version"] = derivation.version
    table["description"] += f"; {derivation.words}"
    table["initialised_from"] = f"{base.name} {base.version} ({base.digest[:12]}), {derivation.words}"
    sealed(folder, table)
