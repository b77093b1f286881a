"""Writes pack.toml of a folder whose other files are there, and reads the pack that it makes of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from radserve.models.importing.toml_text import to_toml
from radserve.models.pack import ModelPack, load_pack
from radserve.models.pack_files import PACK_FILE


def sealed(folder: Path, table: dict[str, Any]) -> ModelPack:
    """Write `table` as pack.toml with the hashes of all files, and read the pack. Raises PackError."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / PACK_FILE)
    hashes = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    stated = {key: value for key, value in table.items() if key != "files"}
    (folder / PACK_FILE).write_text(to_toml({**stated, "files": hashes}), encoding="utf-8")  # the hashes stand last
    return load_pack(folder)
