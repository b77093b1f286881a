"""QIDO-RS over the tables of the index: a Query as a selection, its rows as DICOM JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.dicomweb.header_cache import with_address
from radserve.dicom_io.dicomweb.holdings import Holdings
from radserve.dicom_io.dicomweb.json_model import JsonElement, element
from radserve.dicom_io.dicomweb.query import MORE, Match, Query
from radserve.dicom_io.dicomweb.search_attributes import ATTRIBUTES, OF_REQUESTS, Attribute, Level
from radserve.dicom_io.result_rows import current_objects
from radserve.errors import RadserveError

Row = Mapping[str, Any]
STUDY, SERIES = "study_instance_uid", "series_instance_uid"
KEYS = {Level.STUDY: (STUDY,), Level.SERIES: (STUDY, SERIES), Level.INSTANCE: (STUDY, SERIES, "sop_instance_uid")}
STEP_COLUMNS = frozenset(("start_date", "start_time", "scheduled_procedure_step_id", "requested_procedure_id"))
AT_EVERY_LEVEL = frozenset(
    ("StudyInstanceUID", "SeriesInstanceUID", "RetrieveURL", "InstanceAvailability", "TimezoneOffsetFromUTC")
)


@dataclass(frozen=True, slots=True)
class Found:
    """The results, as DICOM JSON, and what the client is to be warned of."""

    results: list[dict[str, JsonElement]]
    warnings: tuple[str, ...]


async def search(holdings: Holdings, query: Query, base_url: str) -> Found:
    """Find what matches among received instances and the objects of results. Raises StorageError."""
    index = holdings.index
    rows = await index.query(lambda: selection(query))
    page, more = rows[: query.limit], len(rows) > query.limit
    modalities: dict[str, list[str]] = {}
    studies = sorted({row[STUDY] for row in page})
    for at in range(0, len(studies), 500):  # SQLite bounds the parameters of a statement
        part = studies[at : at + 500]
        for row in await index.query(partial(_modalities, part)):
            modalities.setdefault(row[STUDY], []).append(row["modality"])
    headers = await _headers(holdings, {str(row["example"]): str(row[STUDY]) for row in page}, base_url)
    results = [
        _result(query, {**row, "modalities": modalities.get(row[STUDY], [])}, headers.get(row["example"], {}), base_url)
        for row in page
    ]
    return Found(results, (*query.warnings, *((MORE,) if more else ())))


async def _headers(holdings: Holdings, study_by_sop: Mapping[str, str], base_url: str) -> dict[str, Row]:
    """The headers of instances by their UIDs; what cannot be read is left out."""
    held = list((await holdings.several(study_by_sop)).values())
    found: list[bytes | RadserveError] = []
    async with aclosing(holdings.headers(held)) as batches:
        async for batch in batches:
            found += batch

    def parsed() -> dict[str, Row]:
        pairs = zip(held, found, strict=True)
        readable = {each.instance.sop_instance_uid: data for each, data in pairs if isinstance(data, bytes)}
        return {uid: json.loads(with_address(data, base_url)) for uid, data in readable.items()}

    return await asyncio.to_thread(parsed)


def selection(query: Query) -> sa.Select[Any]:
    """The rows of a query, one more than its limit where there are more."""
    objects = _objects().subquery("objects")
    keys = [objects.c[name] for name in KEYS[query.level]]
    if query.level is Level.INSTANCE:
        example = objects.c.sop_instance_uid.label("example")
        chosen = sa.select(objects, example).where(*_conditions(query, objects))
    else:
        others = [sa.func.max(each).label(each.name) for each in objects.c if each.name not in KEYS[query.level]]
        uid = objects.c.sop_instance_uid
        received = sa.func.max(sa.case((objects.c.is_received == 1, uid)))  # else NULL, which max leaves out
        others.append(sa.func.coalesce(received, sa.func.max(uid)).label("example"))
        counts = sa.func.count(objects.c[SERIES].distinct()).label("series"), sa.func.count().label("instances")
        chosen = sa.select(*keys, *others, *counts).group_by(*keys)
        if query.matches:  # all instances are counted of what one instance matches
            matching = _objects().subquery("matching")
            found = sa.select(matching.c[keys[-1].name]).where(*_conditions(query, matching))
            chosen = chosen.where(keys[-1].in_(found))
    newest_first: list[sa.UnaryExpression[Any]] = [sa.desc("study_date"), sa.desc("study_time")]
    in_order: list[sa.UnaryExpression[Any]] = [
        sa.asc(name) for name in ("series_number", "instance_number", *KEYS[query.level])
    ]
    return chosen.order_by(*newest_first, *in_order).limit(query.limit + 1).offset(query.offset)


def _objects() -> sa.CompoundSelect[Any]:
    """Received instances and current objects of results, with the columns that both have."""
    names = [column.name for column in schema.result_objects.c if column.name not in ("result_uid", "file_name")]
    received = sa.select(*(schema.instances.c[name] for name in names), sa.literal(1).label("is_received"))
    columns = [schema.result_objects.c[name] for name in names]
    results = current_objects().with_only_columns(*columns, sa.literal(0).label("is_received"))
    return sa.union_all(received, results)


def _modalities(studies: Sequence[str]) -> sa.Select[Any]:
    objects = _objects().subquery("objects")
    columns = objects.c[STUDY], objects.c.modality
    return sa.select(*columns).where(columns[0].in_(studies)).distinct().order_by(*columns)


def _conditions(query: Query, objects: sa.Subquery) -> list[sa.ColumnElement[bool]]:
    steps = schema.performed_steps
    of_steps = [match for match in query.matches if match.attribute.column in STEP_COLUMNS]
    others = [match for match in query.matches if match not in of_steps]
    conditions = [_condition(objects.c[match.attribute.column], match) for match in others]
    if of_steps:  # one step is to match all of them (PS3.4 C.2.2.2.6)
        found = [_condition(steps.c[match.attribute.column], match) for match in of_steps]
        conditions.append(objects.c[SERIES].in_(sa.select(steps.c[SERIES]).where(*found)))
    return conditions


def _condition(column: sa.ColumnElement[Any], match: Match) -> sa.ColumnElement[bool]:
    if match.is_range:
        low, high = match.values
        ends = [column >= low] if low else []
        ends += [column <= f"{high}~"] if high else []  # 1015 ends with 10:15:59.999999
        return sa.and_(column != "", *ends)
    match match.attribute.vr:
        case "UI" | "DA":
            return column.in_(match.values)
        case "TM":
            return column.startswith(match.values[0], autoescape=True)
        case "IS" | "US":
            return column == int(match.values[0])
        case "PN":
            return sa.or_(*(_like(column, f"{before}{_pattern(match.values[0])}{after}") for before, after in GROUPS))
    return sa.or_(*(_text(column, value) for value in match.values))


# A name is kept as ALPHABETIC=IDEOGRAPHIC=PHONETIC: each group alone may match, or all of it.
GROUPS = (("", ""), ("", "=%"), ("%=", ""), ("%=", "=%"))


def _text(column: sa.ColumnElement[Any], value: str) -> sa.ColumnElement[bool]:
    return _like(column, _pattern(value)) if "*" in value or "?" in value else column == value


def _like(column: sa.ColumnElement[Any], pattern: str) -> sa.ColumnElement[bool]:
    return column.ilike(pattern, escape="\\")


def _pattern(value: str) -> str:
    """The wildcards of DICOM (PS3.4 section C.2.2.2.4) as those of SQL."""
    for special in ("\\", "%", "_"):
        value = value.replace(special, f"\\{special}")
    return value.replace("*", "%").replace("?", "_")


def _result(query: Query, row: Row, header: Row, base_url: str) -> dict[str, JsonElement]:
    given = {
        "InstanceAvailability": ["ONLINE"],
        "ModalitiesInStudy": row["modalities"],
        "NumberOfStudyRelatedSeries": [row.get("series")],
        "NumberOfStudyRelatedInstances": [row.get("instances")],
        "NumberOfSeriesRelatedInstances": [row.get("instances")],
        "RetrieveURL": [_url(query.level, row, base_url)],
        "NumberOfFrames": [row["frames"] if row["frames"] > 1 else None],
    }
    found = {"00080005": element("CS", "ISO_IR 192")}
    for tag, attribute in ATTRIBUTES.items():
        if not _is_returned(attribute, query):
            continue
        if attribute.in_header:
            if tag in header:
                found[tag] = _of_header(attribute, header[tag])
        else:
            values = given[attribute.keyword] if attribute.keyword in given else [_value(attribute, row)]
            found[tag] = element(attribute.vr, *values)
    if query.level is Level.INSTANCE:
        found |= {tag: header[tag] for tag in query.included if tag not in ATTRIBUTES and tag in header}
    return dict(sorted(found.items()))


def _of_header(attribute: Attribute, given: JsonElement) -> JsonElement:
    if attribute.keyword != "RequestAttributesSequence":
        return given
    inner = [path.split(".")[1] for path in OF_REQUESTS]
    items = [{tag: each[tag] for tag in inner if tag in each} for each in given.get("Value", [])]
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def _value(attribute: Attribute, row: Row) -> Any:
    value = row[attribute.column]
    return None if attribute.vr == "US" and not value else value  # an object without pixels has no rows


def _is_returned(attribute: Attribute, query: Query) -> bool:
    if attribute.level > query.level:
        return False
    if attribute.keyword in AT_EVERY_LEVEL:
        return True
    if attribute.level is query.level:
        return attribute.always or attribute.tag in query.included
    counts = attribute.keyword.startswith("NumberOf")  # of a level above: not counted here
    return not counts and (attribute.tag in query.included or (_is_relational(query) and attribute.always))


def _is_relational(query: Query) -> bool:
    """Whether results may be of several studies (or series), so that the attributes of these are wanted, too."""
    fixed = {match.attribute.keyword for match in query.matches if len(match.values) == 1}
    return "StudyInstanceUID" not in fixed


def _url(level: Level, row: Row, base_url: str) -> str:
    parts = zip(("studies", "series", "instances"), KEYS[level], strict=False)
    return base_url + "".join(f"/{name}/{row[key]}" for name, key in parts)
