"""Annotations of images: what a person or a program saw where, from DICOM SR or a table, kept and given out again.

The table has one row for each annotation and these columns: annotation_uid (made from the row where it is
empty), study_instance_uid, series_instance_uid, sop_instance_uid, frame (from 1), scheme, code and
meaning of what was looked for, presence (present, absent, undetermined or empty), outline ("column row" pairs between
semicolons: a polygon in SCOORD coordinates, PS3.3 C.18.6.1.1; empty for the image as a whole) and annotator.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from radserve._checks import check_uid, invalid
from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.database import Database
from radserve.errors import ErrorCode, RadserveError, RequestError
from radserve.uids import derive_uid

MAX_BYTES = 256 << 20
MAX_TEXT = 1024


class Presence(StrEnum):
    """Whether it is there, as far as the annotator says."""

    UNSAID = ""
    PRESENT = "present"
    ABSENT = "absent"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One row. `outline` is as in the table, its numbers as short as they can be without being others."""

    annotation_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    frame: int
    scheme: str
    code: str
    meaning: str
    presence: Presence = Presence.UNSAID
    outline: str = ""
    annotator: str = ""

    def __post_init__(self) -> None:
        for name in ("study_instance_uid", "series_instance_uid", "sop_instance_uid"):
            check_uid(name, getattr(self, name))
        if self.frame < 1:
            raise invalid("frame", self.frame, "at least 1")
        for name in ("scheme", "code", "meaning", "annotator"):
            text = getattr(self, name)
            if len(text) > MAX_TEXT or "\0" in text or (not text and name != "annotator"):
                raise invalid(name, text[:40], f"a text of at most {MAX_TEXT} characters")
        object.__setattr__(self, "outline", outline_text(read_outline(self.outline)))
        if not self.annotation_uid:
            said = [str(value) for name, value in asdict(self).items() if name != "annotation_uid"]
            object.__setattr__(self, "annotation_uid", derive_uid("annotation", *said))
        check_uid("annotation_uid", self.annotation_uid)


COLUMNS = tuple(each.name for each in fields(Annotation))


def read_outline(text: str) -> tuple[tuple[float, float], ...]:
    """The (column, row) points of an outline. Raises RadserveError INVALID_ARGUMENT."""
    if not text.strip():
        return ()
    try:
        points = tuple((float(column), float(row)) for column, row in (each.split() for each in text.split(";")))
    except ValueError:
        raise invalid("outline", text[:40], "'column row' pairs between semicolons") from None
    if len(points) < 3 or not all(math.isfinite(value) for point in points for value in point):
        raise invalid("outline", text[:40], "at least 3 points of finite numbers")
    return points


def outline_text(points: Iterable[tuple[float, float]]) -> str:
    """The points of an outline as the table has them."""
    return ";".join(f"{column!r} {row!r}" for column, row in points)


def read_csv(path: Path) -> list[Annotation]:
    """Read a table. Raises RadserveError INVALID_ARGUMENT that names the row, REQUEST_TOO_LARGE."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RequestError(ErrorCode.REQUEST_TOO_LARGE, f"the table has more than {MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise invalid("table", "other bytes", "text in UTF-8") from None
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        given = list(rows.fieldnames or ())
        if set(given) != set(COLUMNS):
            raise invalid("columns", sorted(given)[:12], f"{', '.join(COLUMNS)}")
        return [_from_row(row, number) for number, row in enumerate(rows, start=2)]
    except csv.Error as error:
        raise invalid("table", str(error), "comma-separated values") from None


def write_csv(annotations: Iterable[Annotation]) -> str:
    """The table of annotations, in the order of their images and UIDs: the same annotations, the same text."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(each) for each in sorted(annotations, key=_order))
    return out.getvalue()


class AnnotationTable:
    """The annotations beside the index. Raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, annotations: Sequence[Annotation]) -> int:
        """Add those that are not there; return how many. All or none.

        Raises RequestError INVALID_ARGUMENT where one of another content has the UID.
        """

        def work(connection: sa.Connection) -> int:
            table, added = schema.image_annotations, 0
            for each in annotations:
                is_it = table.c.annotation_uid == each.annotation_uid
                there = connection.execute(sa.select(table).where(is_it)).one_or_none()
                if there is None:
                    connection.execute(table.insert().values(asdict(each)))
                    added += 1
                elif _annotation(there) != each:
                    raise invalid("annotation_uid", each.annotation_uid, "one that no other annotation has")
            return added

        return await self._database.run(work)

    async def all(self) -> list[Annotation]:
        """Every annotation, in the order of `write_csv`."""
        query = sa.select(schema.image_annotations)
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return sorted(map(_annotation, rows), key=_order)


def _from_row(row: dict[str, Any], number: int) -> Annotation:
    try:
        if None in row or None in row.values():
            raise invalid("cells", len([each for each in row.values() if each is not None]), f"{len(COLUMNS)}")
        values = {name: row[name].strip() for name in COLUMNS}
        try:
            frame, presence = int(values["frame"] or 1), Presence(values["presence"])
        except ValueError:
            got = (values["frame"][:20], values["presence"][:20])
            raise invalid("frame and presence", got, "a number, and present, absent, undetermined or nothing") from None
        return Annotation(**{**values, "frame": frame, "presence": presence})
    except RadserveError as error:
        raise RequestError(ErrorCode.INVALID_ARGUMENT, f"row {number}: {error.client_message}") from None


def _annotation(row: Any) -> Annotation:
    values = dict(row._mapping)
    return Annotation(**{**values, "presence": Presence(values["presence"])})


def _order(annotation: Annotation) -> tuple[str, str, str, int, str]:
    one = annotation
    return one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid, one.frame, one.annotation_uid
