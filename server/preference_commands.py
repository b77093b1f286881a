"""radserve preferences record | export | schema: readers' decisions on drafts as data for training."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from radserve._checks import check_one_of, invalid
from radserve.findings import verdict
from radserve.pipelines.preferences import Decision, Form, Review, ToldFinding, review_of
from radserve.pipelines.remote_report import SECTIONS
from radserve.pipelines.report import split_sections
from radserve.server.console import settings_of

if TYPE_CHECKING:  # it imports the database, for which other commands need not wait
    from radserve.server.records import Records

T = TypeVar("T")
preferences_app = typer.Typer(no_args_is_help=True, help="What readers made of drafts, as data for training.")

DataDir = Annotated[Path | None, typer.Option(help="The server's data folder.")]


@preferences_app.command("record")
def record(
    result: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The result.json of the draft.")],
    decision: Annotated[str, typer.Option(help="accepted, edited or rejected.")],
    text: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The signed text, with the heads Findings: and Impression:."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Keep what a reader decided on a draft of a stored study."""
    from radserve.server.reviews import keep_review

    check_one_of("--decision", decision, [each.value for each in Decision])
    final = dict(split_sections(text.read_text(encoding="utf-8"), SECTIONS)) if text else {}
    review = review_of_result(_json(result), Decision(decision), final)

    async def work(records: Records) -> None:
        await keep_review(review, records.index, records.reviews)

    _on_records(data_dir, work)
    typer.echo(f"review {review.id} is kept")


@preferences_app.command("export")
def export(
    out: Annotated[Path, typer.Option(help="JSON Lines file to write.")],
    form: Annotated[str, typer.Option(help="paired (DPO) or unpaired (KTO).")] = Form.PAIRED.value,
    data_dir: DataDir = None,
) -> None:
    """Write the reviews as preference records; one whose text may tell of a person is left out and counted."""
    from radserve.server.reviews import export_reviews

    check_one_of("--form", form, [each.value for each in Form])
    made = _on_records(data_dir, lambda records: export_reviews(records.index, records.reviews, Form(form)))
    lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in made.records]
    out.write_text("".join(lines), encoding="utf-8", newline="")
    typer.echo(f"{len(lines)} records are in {out}")
    for reason, count in made.left_out.items():
        typer.echo(f"left out: {count} ({reason})")


@preferences_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of a line."""
    data = resources.files("radserve.pipelines").joinpath("data/preference.schema.json")
    typer.echo(data.read_text(encoding="utf-8"), nl=False)


def review_of_result(result: Mapping[str, Any], decision: Decision, final: Mapping[str, str]) -> Review:
    """The review of the draft in a result.json. Raises INVALID_ARGUMENT."""
    try:
        return review_of(
            result["study_instance_uid"],
            f"{result['pack']['name']} {result['pack']['version']}",
            [_told(finding) for finding in result["findings"]],
            {section["name"]: section["text"] for section in (result["report"] or {"sections": ()})["sections"]},
            decision,
            final,
            (result["generation"] or {"language": ""})["language"],
        )
    except (KeyError, TypeError):
        raise invalid("result", "another JSON", "a result.json of radserve infer") from None


def _told(finding: Mapping[str, Any]) -> ToldFinding:
    measurements = [(each["name"]["meaning"], each["value"], each["unit"]["value"]) for each in finding["measurements"]]
    state = verdict(positive=finding["positive"], cannot_assess=finding["cannot_assess"])
    return ToldFinding(finding["region"]["series_instance_uid"], finding["label"], state, tuple(measurements))


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise invalid("result", path.name, "a JSON object")
    return found


def _on_records(data_dir: Path | None, work: Callable[[Records], Awaitable[T]]) -> T:
    from radserve.server.records import opened_records

    async def run() -> T:
        async with opened_records(settings_of(data_dir=data_dir)) as records:
            return await work(records)

    return asyncio.run(run())
