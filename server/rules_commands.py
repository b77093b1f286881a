"""radserve rules test: which rule takes which series of some files, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radserve.errors import RadserveError
from radserve.pipelines.rules import Routing, RuleSet, StudyFacts, match
from radserve.pipelines.rules_file import read_rules
from radserve.server.console import REFUSED, settings_of, stdout, table_of
from radserve.server.settings import Settings

if TYPE_CHECKING:  # pydicom, for which other commands need not wait
    from radserve.dicom_io.facts import FileFacts

rules_app = typer.Typer(no_args_is_help=True, help="The routing rules.")
BATCH = 64


@rules_app.callback()
def _rules() -> None:
    """The routing rules."""


@rules_app.command("test")
def test(
    files: Annotated[list[Path], typer.Argument(help="DICOM files or folders.")],
    rules: Annotated[Path | None, typer.Option(help="Rules file (TOML); without, that of the settings.")] = None,
    calling_ae: Annotated[str, typer.Option(help="The AE title the files are taken to come from.")] = "",
) -> None:
    """Say which rule matches and why. Exit code 3 when a file cannot be read or no rule takes a study."""
    from radserve.dicom_io.facts import check_keywords
    from radserve.dicom_io.write_base import OutputKind
    from radserve.server.study_facts import facts_of_files

    settings = settings_of()
    path = rules or settings.rules_file
    if path is None:
        raise typer.BadParameter("expected --rules FILE, or RADSERVE_RULES_FILE", param_hint="--rules")
    rule_set = read_rules(path, outputs=[kind.value for kind in OutputKind])
    check_keywords(rule_set.keywords)
    paths = sorted({each for given in files for each in (given.rglob("*") if given.is_dir() else [given])})
    found = asyncio.run(_read([each for each in paths if each.is_file()], rule_set, settings))
    refused = [each for each in found if isinstance(each, RadserveError)]
    studies = facts_of_files([each for each in found if not isinstance(each, RadserveError)], calling_ae)
    routings = [_show(study, rule_set) for study in studies]
    if refused:
        typer.echo(f"{len(refused)} files cannot be read: {sorted({str(each.code) for each in refused})}", err=True)
    raise typer.Exit(REFUSED if refused or not studies or not all(each.decisions for each in routings) else 0)


async def _read(paths: Sequence[Path], rules: RuleSet, settings: Settings) -> list[FileFacts | RadserveError]:
    from radserve.dicom_io.facts import read_facts
    from radserve.server.app import decoder_pool

    async def read(batch: Sequence[Path]) -> list[FileFacts | RadserveError]:
        try:
            return await workers.run(read_facts, batch, rules.keywords)
        except RadserveError as error:
            return [error] * len(batch)

    async with decoder_pool(settings) as workers:
        batches = await asyncio.gather(*(read(paths[at : at + BATCH]) for at in range(0, len(paths), BATCH)))
    return [each for batch in batches for each in batch]


def _show(study: StudyFacts, rules: RuleSet) -> Routing:
    routing = match(rules, study)
    table = table_of("rule", "series", "matches", "why", title=f"study {study.study_instance_uid}")
    for each in routing.explanations:
        table.add_row(each.rule, each.series_instance_uid, "yes" if each.verdict.holds else "no", each.verdict.reason)
    console = stdout()
    console.print(table)
    for decision in routing.decisions:
        routes = [f"{route.destination} ({', '.join(route.outputs) or 'the usual'})" for route in decision.routes]
        series = f"{len(decision.series_instance_uids)} series"
        console.out(
            f"-> pack {decision.pack}: {series}, by {', '.join(decision.rules)}; to {', '.join(routes) or 'none'}"
        )
    if not routing.decisions:
        console.out("-> no rule takes this study")
    return routing
