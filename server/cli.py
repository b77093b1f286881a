"""The command line `radserve` (docs/commands.md)."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from radserve.clinical_context import ClinicalContext, LaboratoryValue
from radserve.decoding import DecodingOptions, DecodingStrategy
from radserve.errors import RadserveError
from radserve.pipelines.authoring import ReportOptions
from radserve.server.adapt_commands import register as register_adapt
from radserve.server.annotation_commands import annotations_app
from radserve.server.compress_commands import register as register_compress
from radserve.server.console import PackDirs, settings_of, stderr, stdout
from radserve.server.context.read import combined, read_context_file
from radserve.server.doctor import examine
from radserve.server.embedded import infer_with
from radserve.server.infer import InferOutcome, InferRequest, failure_lines
from radserve.server.logs import log_to_standard_error
from radserve.server.models_commands import models_app
from radserve.server.operation_commands import register as register_operation
from radserve.server.pool_command import register as register_pool
from radserve.server.preference_commands import preferences_app
from radserve.server.prompt_commands import prompts_app
from radserve.server.pull_command import pull
from radserve.server.record_commands import quarantine_app, store_app
from radserve.server.reevaluation_command import register as register_alarm
from radserve.server.reproduce_command import reproduce
from radserve.server.rules_commands import rules_app
from radserve.server.select_commands import register as register_select
from radserve.server.settings import Settings
from radserve.server.triton_commands import register as register_triton

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Imaging inference on NVIDIA Triton.")
register_operation(models_app)
register_triton(models_app)
register_compress(models_app)
register_alarm(models_app)
register_adapt(app)
register_pool(app)
register_select(app)
app.add_typer(models_app, name="models")
app.command("reproduce")(reproduce)
app.add_typer(rules_app, name="rules")
app.add_typer(store_app, name="store")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(annotations_app, name="annotations")
app.add_typer(preferences_app, name="preferences")
app.add_typer(prompts_app, name="prompts")
app.command("pull")(pull)

MOST_SHOWN = 20  # studies whose paths are printed


def main() -> None:
    """Entry point of the `radserve` command; every expected error ends in one line and exit code 1."""
    try:
        app()
    except RadserveError as error:
        stderr().print(f"[bold red]{error.code}[/]: ", end="")
        stderr().out(error.client_message)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"radserve {version('radserve')}")
        raise typer.Exit


@app.callback()
def _radserve(
    show: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="gRPC port; 0 takes a free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where studies and logs are kept.")] = None,
    triton: Annotated[str | None, typer.Option(help="HOST:PORT of an outside Triton.")] = None,
    pack: Annotated[
        list[str] | None, typer.Option(help="A pack beside the default one, for what that does not take; repeatable.")
    ] = None,
    pack_dir: PackDirs = None,
) -> None:
    """Start the server. Every setting can also come from RADSERVE_* variables (docs/operations.md)."""
    settings = settings_of(host=host, port=port, data_dir=data_dir, triton_url=triton, packs=pack, pack_dirs=pack_dir)
    log_to_standard_error(settings.log_level)
    asyncio.run(_serve(settings))


@app.command("infer")
def infer_command(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, folders, .zip files or DICOMDIRs.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    pack: Annotated[str, typer.Option(help="Model pack; empty means the server's default.")] = "",
    server: Annotated[str, typer.Option(help="HOST:PORT of a running server; an embedded one without.")] = "",
    triton: Annotated[str | None, typer.Option(help="Outside Triton for the embedded server.")] = None,
    indication: Annotated[str, typer.Option(help="Why the study was made.")] = "",
    age: Annotated[float | None, typer.Option(help="The patient's age in years.")] = None,
    sex: Annotated[str, typer.Option(help="M, F or O.")] = "",
    lab: Annotated[list[str] | None, typer.Option(help="NAME=VALUE[ UNIT]; repeatable.")] = None,
    prior: Annotated[str, typer.Option(help="Study Instance UID of a prior study.")] = "",
    also: Annotated[
        list[str] | None, typer.Option(help="A further DICOM object: seg, pmap, gsps, ko, sc or pdf; repeatable.")
    ] = None,
    prompts: Annotated[str, typer.Option(help="A prompt set of the server's site; empty: the pack's own.")] = "",
    language: Annotated[str, typer.Option(help="Language of the report: en, or zh where the pack writes it.")] = "en",
    decoding: Annotated[DecodingStrategy, typer.Option(help="How tokens are chosen.")] = DecodingStrategy.GREEDY,
    beams: Annotated[int, typer.Option(help="beam: texts side by side.")] = 4,
    length_penalty: Annotated[float, typer.Option(help="beam: 0 favours short texts, more favours long ones.")] = 1.0,
    temperature: Annotated[float, typer.Option(help="sample: below 1 bolder, above 1 more even.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="sample: only so many of the likeliest tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="sample: only the likeliest tokens with this mass.")] = 1.0,
    seed: Annotated[int, typer.Option(help="sample: the same seed gives the same text.")] = 0,
    context_file: Annotated[
        Path | None, typer.Option("--context", help="HL7 v2 order or result, or FHIR R4 JSON; added to the above.")
    ] = None,
    pack_dir: PackDirs = None,
) -> None:
    """Analyse DICOM input and write results: exit code 0 all have a result, 3 some were refused, 1 a fault of ours."""
    context = ClinicalContext(indication, age, sex, tuple(_lab(text) for text in lab or ()), prior)
    if context_file:
        context = combined(context, read_context_file(context_file))
    options = DecodingOptions(decoding, beams, length_penalty, temperature, top_k, top_p, seed)
    request = InferRequest(
        tuple(paths), out, pack, context, ReportOptions(language, options), prompts, tuple(also or ())
    )
    settings = settings_of(port=0, triton_url=triton, pack_dirs=pack_dir)
    log_to_standard_error("ERROR")
    outcome = asyncio.run(infer_with(request, server or settings.server, settings))
    _report(outcome)
    raise typer.Exit(outcome.exit_code)


@app.command(
    "evaluate", add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def evaluate(context: typer.Context) -> None:
    """Measure how good a model is (see `radserve evaluate --help`)."""
    from radserve.evaluation.cli import build  # scipy takes a second that other commands need not wait
    from radserve.server.segmentation_command import register as register_segmentation

    build(register_segmentation)(context.args, prog_name="radserve evaluate")


@app.command()
def doctor(
    triton: Annotated[str | None, typer.Option(help="HOST:PORT of an outside Triton to ask.")] = None,
) -> None:
    """Say what is installed and whether it works; exit code 1 with the cause named when something does not."""
    checks = asyncio.run(examine(settings_of(triton_url=triton)))
    table = Table("check", "state", "what was found")
    for check in checks:
        table.add_row(check.name, {True: "ok", False: "FAILED", None: "absent"}[check.ok], check.found)
    stdout().print(table)
    failed = [check for check in checks if check.ok is False]
    for check in failed:
        stderr().out(f"{check.name}: {check.found}")
    raise typer.Exit(1 if failed else 0)


async def _serve(settings: Settings) -> None:
    from radserve.server.app import running

    async with running(settings) as server:
        stdout().out(f"radserve listens on {server.address}")
        await server.wait_for_signal()


def _report(outcome: InferOutcome) -> None:
    console = stdout()
    for line in failure_lines(outcome.failures):
        console.out(line, highlight=False)
    done = len(outcome.written)
    console.out(f"{done} {'study has' if done == 1 else 'studies have'} a result, {len(outcome.failures)} refused")
    for paths in list(outcome.written.values())[:MOST_SHOWN]:
        for path in paths:
            console.out(str(path), highlight=False)
    if done > MOST_SHOWN:
        console.out(f"... and the folders of {done - MOST_SHOWN} more studies")


def _lab(text: str) -> LaboratoryValue:
    name, equals, rest = text.partition("=")
    value, _, unit = rest.strip().partition(" ")
    if not (name.strip() and equals and value):
        raise typer.BadParameter(f"got {text!r}, expected NAME=VALUE or 'NAME=VALUE UNIT'", param_hint="--lab")
    return LaboratoryValue(name.strip(), value, unit.strip())
