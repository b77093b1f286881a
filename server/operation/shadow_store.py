"""What shadows said, beside what was delivered: DATA_DIR/shadow/STUDY_UID/PACK@VERSION.json. It holds patient data.

Nothing here is ever delivered. An erased study takes its shadow results with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radserve._checks import check_uid
from radserve.dicom_io.durable import storage_error
from radserve.errors import ErrorCode
from radserve.findings import Finding
from radserve.models.pack import ModelPack
from radserve.results import StudyResult
from radserve.server.result_json import result_to_json, to_bytes

logger = logging.getLogger(__name__)

SCHEMA = "radserve-shadow/1"
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """How a shadow's findings of one label compare with the delivered ones; differences are shadow minus delivered."""

    label: str
    compared: int
    agreeing: int
    delivered_positive: int
    shadow_positive: int
    mean_difference: float
    largest_difference: float  # absolute


@dataclass(frozen=True, slots=True)
class ShadowSummary:
    """What is known of a shadow: studies it has a result of, studies it failed on, and its labels."""

    studies: int
    failures: int
    labels: tuple[LabelAgreement, ...]


class ShadowStore:
    """Keeps shadow results and sums them up. The latest result of a study (or of a series of it) counts."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rows: dict[str, dict[tuple[str, str], Rows | None]] = {}  # of each shadow, by study and series

    async def open(self) -> None:
        """Read what is there."""
        for document in await asyncio.to_thread(self._read_all):
            self._count(document)

    async def keep(
        self, delivered: StudyResult, series_instance_uid: str, pack: ModelPack, outcome: StudyResult | ErrorCode
    ) -> None:
        """Keep what the shadow `pack` said of a study of which `delivered` was told. Raises StorageError."""
        document = {
            "schema": SCHEMA,
            "study_instance_uid": delivered.study_instance_uid,
            "series_instance_uid": series_instance_uid,
            "shadow": _key(pack),
            "delivered_pack": {"version": delivered.pack.version, "digest": delivered.pack.digest},
            "failure": outcome.value if isinstance(outcome, ErrorCode) else None,
            "comparison": None if isinstance(outcome, ErrorCode) else compare(delivered, outcome),
            "result": None if isinstance(outcome, ErrorCode) else result_to_json(outcome),
        }
        await asyncio.to_thread(self._write, document)
        self._count(document)

    async def remove(self, study_instance_uid: str) -> None:
        """Remove what is kept of a study, if anything."""
        folder = self._folder(study_instance_uid)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        for rows in self._rows.values():
            for key in [key for key in rows if key[0] == study_instance_uid]:
                del rows[key]

    def summary(self, pack: ModelPack) -> ShadowSummary:
        """What is known of a pack as a shadow."""
        found = self._rows.get(_key(pack), {}).values()
        results = [rows for rows in found if rows is not None]
        pairs = [row for rows in results for row in rows if row["delivered"] and row["shadow"]]
        labels = tuple(_agreement(label, pairs) for label in dict.fromkeys(row["label"] for row in pairs))
        return ShadowSummary(len(results), len(found) - len(results), labels)

    def _folder(self, study_instance_uid: str) -> Path:
        check_uid("study_instance_uid", study_instance_uid)
        return self._root / study_instance_uid

    def _write(self, document: Mapping[str, Any]) -> None:
        series = document["series_instance_uid"]
        name = f"{document['shadow']}{'-' + series if series else ''}.json"
        try:
            folder = self._folder(document["study_instance_uid"])
            folder.mkdir(parents=True, exist_ok=True)
            aside = folder / f".{name}.new"
            aside.write_bytes(to_bytes(document))
            aside.rename(folder / name)
        except OSError as error:
            raise storage_error(error) from None

    def _read_all(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        for path in sorted(self._root.glob("*/*.json")):
            try:
                document = json.loads(path.read_bytes())
                if document["schema"] == SCHEMA:
                    found.append({key: value for key, value in document.items() if key != "result"})
            except (OSError, ValueError, KeyError, TypeError):
                logger.warning("a shadow result cannot be read and is not counted")
        return found

    def _count(self, document: Mapping[str, Any]) -> None:
        key = document["study_instance_uid"], document["series_instance_uid"]
        self._rows.setdefault(document["shadow"], {})[key] = document["comparison"]


def compare(delivered: StudyResult, shadow: StudyResult) -> list[dict[str, Any]]:
    """A row for each label of each series: score, probability and decision of both sides, None where it is absent."""
    sides = [{_place(finding): finding for finding in result.findings} for result in (delivered, shadow)]
    return [
        {
            "label": place[1],
            "series_instance_uid": place[0],
            "delivered": _numbers(sides[0].get(place)),
            "shadow": _numbers(sides[1].get(place)),
        }
        for place in dict.fromkeys((*sides[0], *sides[1]))
    ]


def _place(finding: Finding) -> tuple[str, str]:
    return finding.region.instance.series_instance_uid, finding.label


def _numbers(finding: Finding | None) -> dict[str, Any] | None:
    if finding is None:
        return None
    return {"score": finding.score, "probability": finding.probability, "positive": finding.positive}


def _agreement(label: str, pairs: Iterable[Mapping[str, Any]]) -> LabelAgreement:
    rows = [row for row in pairs if row["label"] == label]
    differences = [row["shadow"]["probability"] - row["delivered"]["probability"] for row in rows]
    return LabelAgreement(
        label=label,
        compared=len(rows),
        agreeing=sum(row["shadow"]["positive"] == row["delivered"]["positive"] for row in rows),
        delivered_positive=sum(row["delivered"]["positive"] for row in rows),
        shadow_positive=sum(row["shadow"]["positive"] for row in rows),
        mean_difference=sum(differences) / len(differences),
        largest_difference=max(map(abs, differences)),
    )


def _key(pack: ModelPack) -> str:
    return f"{pack.name}@{pack.version}-{pack.digest[:12]}"
