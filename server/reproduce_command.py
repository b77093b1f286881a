"""`radserve reproduce`: does the same pack still say the same of the same input?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from radserve.clinical_context import ClinicalContext, LaboratoryValue
from radserve.decoding import DecodingOptions, DecodingStrategy
from radserve.errors import ErrorCode, RadserveError
from radserve.owned_folder import owned_folder
from radserve.pipelines.authoring import ReportOptions
from radserve.server.console import PackDirs, settings_of, stdout
from radserve.server.embedded import infer_with
from radserve.server.infer import InferRequest
from radserve.server.packs import site_catalogue
from radserve.server.result_json import SCHEMA_VERSION

TOLERANCE = 1e-4
COMPARED = ("score", "probability", "threshold")
UNCOMPARED = ("timings_ms",)
DIFFERS = 3  # exit code


@dataclass(frozen=True, slots=True)
class Difference:
    """A finding in both results: the largest difference of its numbers, and whether the decision is the same."""

    label: str
    largest: float
    same_decision: bool


def reproduce(
    record: Annotated[Path, typer.Argument(help="A result.json.")],
    paths: Annotated[list[Path], typer.Argument(help="The study it was made from.")],
    server: Annotated[str, typer.Option(help="HOST:PORT of a running server; an embedded one without.")] = "",
    tolerance: Annotated[float, typer.Option(help="Greatest difference of a score or probability.")] = TOLERANCE,
    exact: Annotated[bool, typer.Option("--exact", help="Every value but the timings has to be the same.")] = False,
    pack_dir: PackDirs = None,
) -> None:
    """Make a result anew with the pack of its digest and compare: exit code 0 the same numbers, 3 others."""
    expected = read_result(record)
    settings = settings_of(port=0, pack_dirs=pack_dir)
    server = server or settings.server
    reference = f"{expected['pack']['name']}@{expected['pack']['digest']}"
    if not server:
        site_catalogue(settings).verify(reference)  # another content under the same version would prove nothing
    with owned_folder("reproduce") as folder:
        request = InferRequest(
            tuple(paths),
            folder / "out",
            reference,
            _context(expected["context"]),
            _options(expected.get("generation")),
            _prompt_set(expected),
        )
        outcome = asyncio.run(infer_with(request, server, settings))
        made = request.out / expected["study_instance_uid"] / "result.json"
        if not made.is_file():
            causes = ", ".join(sorted({str(failure.code) for failure in outcome.failures})) or "it is another study"
            raise RadserveError(
                ErrorCode.INVALID_ARGUMENT, f"the input gives no result of the record's study: {causes}"
            )
        actual = read_result(made)
    differences = compare_results(expected, actual)
    table = Table("finding", "largest difference", "decision")
    for each in differences:
        table.add_row(each.label, f"{each.largest:.2e}", "same" if each.same_decision else "DIFFERS")
    stdout().print(table)
    same = all(each.largest <= tolerance and each.same_decision for each in differences)
    if exact:
        for name in other_fields(expected, actual):
            same = False
            stdout().out(f"{name} is another one")
    verdict = "reproduces" if same else "does not reproduce"
    stdout().out(f"{reference[:60]} {verdict} {record.name} {'exactly' if exact else f'within {tolerance:g}'}")
    raise typer.Exit(0 if same else DIFFERS)


def read_result(path: Path) -> Mapping[str, Any]:
    """A result.json as it is. Raises RadserveError INVALID_ARGUMENT for another file."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        message = f"{path.name!r} cannot be read: {error.strerror or 'I/O error'}"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message) from error
    except ValueError as error:
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"{path.name!r} is no JSON") from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION or "pack" not in document:
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"{path.name!r} is no result.json of version {SCHEMA_VERSION}")
    return document


def compare_results(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[Difference]:
    """The findings of two results of one study, by label and series; what only one of them has differs by infinity."""
    sides = [{_place(finding): finding for finding in result["findings"]} for result in (expected, actual)]
    rows = []
    for place in dict.fromkeys((*sides[0], *sides[1])):
        one, other = sides[0].get(place), sides[1].get(place)
        if one is None or other is None:
            rows.append(Difference(place[0], float("inf"), False))
            continue
        largest = max(abs(one[key] - other[key]) for key in COMPARED)
        rows.append(Difference(place[0], largest, one["positive"] == other["positive"]))
    return rows


def other_fields(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """The fields of two results that are not the same to the last digit and letter; timings are never the same."""
    names = dict.fromkeys((*expected, *actual))
    return [name for name in names if name not in UNCOMPARED and expected.get(name) != actual.get(name)]


def _place(finding: Mapping[str, Any]) -> tuple[str, str]:
    return finding["label"], (finding.get("region") or {}).get("series_instance_uid", "")


def _options(generation: Mapping[str, Any] | None) -> ReportOptions:
    """How the text was asked for; a draft that nobody wrote says nothing of it."""
    if not generation:
        return ReportOptions()
    decoding = DecodingOptions(DecodingStrategy(generation["strategy"]), **generation["parameters"])
    return ReportOptions(generation["language"], decoding)


def _prompt_set(record: Mapping[str, Any]) -> str:
    """The site's prompt set that was asked for; the pack's own is called as the pack is."""
    name = str((record.get("prompts") or {}).get("id", ""))
    return "" if name == record["pack"]["name"] else name


def _context(table: Mapping[str, Any]) -> ClinicalContext:
    known = {each.name for each in fields(ClinicalContext)}
    given = {name: value for name, value in table.items() if name in known}
    laboratory = tuple(LaboratoryValue(**value) for value in table.get("laboratory_values", ()))
    return ClinicalContext(**{**given, "laboratory_values": laboratory})
