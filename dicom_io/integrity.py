"""Whether the stored files are still what was received: their SHA-256 and that of their pixels, taken at intake."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.index import StudyIndex
from radserve.dicom_io.index_entry import UIDS, IndexEntry
from radserve.dicom_io.recovery import Recovery, place_of
from radserve.errors import RadserveError
from radserve.references import InstanceRef, StudyRef
from radserve.workers import WorkerPool

BATCH = 256


class Damage(StrEnum):
    """What became of a stored file. `PIXELS`: its pixels changed, whatever else; `HEADER`: its other bytes alone."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    PIXELS = "pixels"
    HEADER = "header"


@dataclass(frozen=True, slots=True)
class Damaged:
    """An instance whose file is not what was received."""

    instance: InstanceRef
    damage: Damage


@dataclass(frozen=True, slots=True)
class Verification:
    """How many instances were checked, how many of them carry a digital signature, and which are damaged."""

    checked: int
    signed: int
    damaged: tuple[Damaged, ...]


async def verify(root: Path, index: StudyIndex, workers: WorkerPool, study: StudyRef | None = None) -> Verification:
    """Read the files of a store, or of one study, and compare them with the index. Raises StorageError.

    Files are never altered in place, so that a server may run meanwhile; one that erases makes its studies missing.
    """
    table = schema.instances

    def select() -> sa.Select[Any]:
        query = sa.select(table).order_by(table.c.study_instance_uid, table.c.sop_instance_uid)
        return query.where(table.c.study_instance_uid == study.study_instance_uid) if study else query

    rows = await index.query(select)
    damaged: list[Damaged] = []
    for at in range(0, len(rows), BATCH):
        batch = {place_of(root, _instance(row)): row for row in rows[at : at + BATCH]}
        there = await asyncio.to_thread(_existing, batch)
        found = dict(await Recovery(root, workers).read_batch(there))
        for path, row in batch.items():
            if damage := _damage(row, found.get(path)):
                damaged.append(Damaged(_instance(row), damage))
    return Verification(len(rows), sum(bool(row["signed"]) for row in rows), tuple(damaged))


def _damage(row: Mapping[str, Any], found: IndexEntry | RadserveError | None) -> Damage | None:
    if found is None:
        return Damage.MISSING
    if isinstance(found, RadserveError):
        return Damage.UNREADABLE
    if found.sha256 == row["sha256"]:
        return None
    return Damage.HEADER if found.pixel_sha256 == row["pixel_sha256"] else Damage.PIXELS


def _existing(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.is_file()]


def _instance(row: Mapping[str, Any]) -> InstanceRef:
    return InstanceRef(**{name: row[name] for name in UIDS})
