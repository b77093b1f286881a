"""Readers' decisions on drafts: DATA_DIR/reviews/STUDY_UID/ID.json. Patient data; an erasure takes them along."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from radserve._checks import check_uid
from radserve.dicom_io.durable import fsync_folder, storage_error
from radserve.dicom_io.index import StudyIndex
from radserve.errors import ErrorCode, RadserveError, RequestError
from radserve.pipelines.personal import SHORTEST_VALUE, name_parts
from radserve.pipelines.preferences import Decision, Exported, Form, Review, export
from radserve.server.result_json import to_bytes

logger = logging.getLogger(__name__)

SCHEMA = "radserve-review/1"
NAMES = ("patient_name", "referring_physician_name")
VALUES = ("patient_id", "patient_birth_date", "accession_number", "study_id")


class ReviewStore:
    """Keeps reviews, each whole or not there. Raises StorageError."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def keep(self, review: Review) -> None:
        await asyncio.to_thread(self._write, review)

    async def all(self) -> Sequence[Review]:
        """Every review that can be read, in no order that says anything."""
        return await asyncio.to_thread(self._read_all)

    async def remove(self, study_instance_uid: str) -> None:
        """Remove what is kept of a study, if anything."""
        await asyncio.to_thread(shutil.rmtree, self._folder(study_instance_uid), ignore_errors=True)

    def _folder(self, study_instance_uid: str) -> Path:
        check_uid("study_instance_uid", study_instance_uid)
        return self._root / study_instance_uid

    def _write(self, review: Review) -> None:
        folder = self._folder(review.study_instance_uid)
        aside = folder / f".{review.id}.new"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(to_bytes({"schema": SCHEMA, **asdict(review)}))
            aside.rename(folder / f"{review.id}.json")
            fsync_folder(folder)
        except OSError as error:
            raise storage_error(error) from None

    def _read_all(self) -> list[Review]:
        found = []
        for path in sorted(self._root.glob("*/*.json"), key=lambda each: each.name):
            try:
                found.append(_review(json.loads(path.read_bytes())))
            except (OSError, ValueError, KeyError, TypeError, RadserveError):
                logger.warning("a review cannot be read and is left out")
        return found


async def keep_review(review: Review, index: StudyIndex, reviews: ReviewStore) -> None:
    """Keep a review of a stored study. Raises STUDY_NOT_FOUND: of another one no erasure would take it along."""
    if not await index.rows(review.study_instance_uid):
        raise RequestError(ErrorCode.STUDY_NOT_FOUND, f"study {review.study_instance_uid} is not stored")
    await reviews.keep(review)


async def export_reviews(index: StudyIndex, reviews: ReviewStore, form: Form) -> Exported:
    """The records of all reviews of studies that are stored; of others the headers are not known any more."""
    known, gone = [], 0
    for review in await reviews.all():
        rows = await index.rows(review.study_instance_uid)
        gone += not rows
        known += [(review, _identity(rows))] if rows else []
    made = export(known, form)
    return Exported(made.records, {**made.left_out, **({"study not stored": gone} if gone else {})})


def _identity(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What the headers say of who the patient is and who asked."""
    names = [part for row in rows for column in NAMES for part in name_parts(str(row[column]))]
    values = [str(row[column]) for row in rows for column in VALUES]
    return tuple(dict.fromkeys([*names, *(each for each in values if len(each) >= SHORTEST_VALUE)]))


def _review(document: Mapping[str, Any]) -> Review:
    if document["schema"] != SCHEMA:
        raise ValueError(document["schema"])
    given = {name: value for name, value in document.items() if name != "schema"}
    return Review(**{**given, "decision": Decision(given["decision"]), "words": tuple(given["words"])})
