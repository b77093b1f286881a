"""Seeded mutants of a small pack: each loads, or is refused by a code of ours; nothing else is raised."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from radserve.errors import RadserveError
from radserve.models.pack import load_pack
from radserve.models.pack_sources import SourceLimits, add_pack
from radserve.models.tokenizer import pack_tokenizer
from tests.support.packs import make_tiny_pack, seal

MUTANTS = 120
ODD = ("nan", "1e400", "-1", "[]", "{}", '""', "true", "1" * 5000, "[" * 2000, '"\\ud800"', "2026-13-45", '"../x"')


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = make_tiny_pack(tmp_path_factory.mktemp("pack") / "tiny")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def altered(data: bytes, random: np.random.Generator) -> bytes:
    """Up to three changes: a byte, a cut, a repetition."""
    found = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        at, size = int(random.integers(len(found))), int(random.integers(1, 40))
        kind = int(random.integers(4))
        if kind < 2:
            found[at] = int(random.integers(256))
        elif kind == 2 and len(found) > 100:
            del found[at : at + size]
        else:
            found[at:at] = found[at : at + size]
    return bytes(found)


def odd_value(text: str, random: np.random.Generator) -> str:
    """One value of a table in the place of which something else stands."""
    lines = text.splitlines()
    stated = [number for number, line in enumerate(lines) if " = " in line]
    number = stated[int(random.integers(len(stated)))]
    lines[number] = f"{lines[number].partition(' = ')[0]} = {ODD[int(random.integers(len(ODD)))]}"
    return "\n".join(lines) + "\n"


def mutants(files: dict[str, bytes], folder: Path) -> Iterator[Path]:
    random, names = np.random.default_rng(11), sorted(files)
    for number in range(MUTANTS):
        place = folder / str(number)
        place.mkdir()
        for name, data in files.items():
            (place / name).write_bytes(data)
        name = names[int(random.integers(len(names)))]
        if number % 2:
            text = odd_value(files["pack.toml"].decode(), random)
            (place / "pack.toml").write_text(text)
        else:
            (place / name).write_bytes(altered(files[name], random))
            if name != "pack.toml":
                seal(place)
        yield place


def test_every_mutant_of_a_pack_loads_or_is_refused_by_a_code(files: dict[str, bytes], tmp_path: Path) -> None:
    refused = 0
    for place in mutants(files, tmp_path):
        try:
            pack_tokenizer(load_pack(place))
        except RadserveError:
            refused += 1
    assert MUTANTS / 4 < refused < MUTANTS  # some changes are harmless


def test_every_mutant_of_an_archive_is_kept_or_refused_by_a_code(files: dict[str, bytes], tmp_path: Path) -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"tiny/{name}")
            info.size, info.pax_headers = len(data), {"comment": "a pack"}
            tar.addfile(info, io.BytesIO(data))
    random, refused = np.random.default_rng(12), 0
    for number in range(MUTANTS):
        data = bytearray(whole.getvalue())
        header = 512 * int(random.integers(len(data) // 512))
        data[header : header + 512] = altered(bytes(data[header : header + 512]), random)[:512].ljust(512, b"\0")
        (tmp_path / "mutant.tar").write_bytes(data)
        try:
            add_pack(str(tmp_path / "mutant.tar"), tmp_path / str(number), limits=SourceLimits(max_bytes=1 << 24))
        except RadserveError:
            refused += 1
    assert refused > MUTANTS / 4
