"""radserve models compress: a smaller variant of a pack, behind the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from radserve.errors import ErrorCode, RadserveError
from radserve.server.console import PackDirs, settings_of, stderr, stdout
from radserve.server.packs import site_catalogue

METHODS = "int8-dynamic, int8-static, fp16, prune or distill"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("compress")(compress)


def compress(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The pack to compress.")],
    method: Annotated[str, typer.Option(help=METHODS)],
    data: Annotated[
        list[Path],
        typer.Option(help="A manifest as of radserve adapt, one for each label; or the default pack's folder of data."),
    ],
    out: Annotated[Path, typer.Option(help="The new pack's folder; it must not exist.")],
    version: Annotated[str, typer.Option(help="Of the new pack; the old one's with the method without.")] = "",
    margin: Annotated[float, typer.Option(help="Greatest AUROC loss that counts as none.")] = 0.01,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Write it, marked, though the gate fails.")
    ] = False,
    test: Annotated[
        bool, typer.Option("--test", help="Measure the test split for the record; it decides nothing.")
    ] = False,
    keep: Annotated[float, typer.Option(help="prune: share of the channels that stay.")] = 0.75,
    epochs: Annotated[int, typer.Option(help="distill: passes over the training data.")] = 30,
    width: Annotated[int, typer.Option(help="distill: channels of the first layer.")] = 32,
    pack_dir: PackDirs = None,
) -> None:
    """Compress a pack; the gate (paired DeLong, non-inferiority on val) refuses it or goes on record in it."""
    try:
        from radserve.models.compress.latency import latencies
        from radserve.models.compress.methods import Method, MethodOptions
        from radserve.models.compress.run import compress as run
        from radserve.models.compress.variant import graph_bytes, unmeasured
        from radserve.server.compressing import reader_of
    except ModuleNotFoundError as error:
        message = f"compression needs the train extra: {error.name} is not installed"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message) from None

    if method not in set(Method):
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"method: got {method!r}, expected {METHODS}")
    settings = settings_of(pack_dirs=pack_dir)
    pack = site_catalogue(settings).get(name)
    options = MethodOptions(keep=keep, epochs=epochs, width=width)
    made = run(
        pack,
        Method(method),
        reader_of(pack, data, settings.data_signing_key),
        out,
        options=options,
        version=version,
        margin=margin,
        keep_failed=keep_failed,
        test=test,
    )
    table = Table("label", "split", "AUROC before", "after", "loss", "upper bound", "gate")
    for split, labels in ((made.outcome.split, made.outcome.labels), ("test", made.outcome.test)):
        for each in labels:
            numbers = (each.auroc_before, each.auroc_after, each.loss, each.loss_upper_bound)
            gate = ("passed" if each.passed else "FAILED") if split == made.outcome.split else ""
            table.add_row(each.label, split, *(f"{number:.4f}" for number in numbers), gate)
    stdout().print(table)
    if missing := unmeasured(pack, made.outcome):
        stderr().out(f"note: not measured, for want of a manifest: {', '.join(missing)}", highlight=False)
    before, after = (sum(graph_bytes(each).values()) for each in (pack, made.pack))
    stdout().out(f"graphs: {after:,} bytes of {before:,} ({after / before:.1%}); parity: {made.pack.parity}")
    taken = latencies({"original": pack, "variant": made.pack}, rounds=5, runs=5)
    for timing, ms in taken["variant"].items():
        was = taken["original"][timing]
        stdout().out(f"{timing[0]} x {timing[1]}: {ms:.2f} ms for {was:.2f} (speed-up {was / ms:.2f})", highlight=False)
    stdout().out(f"{made.pack.name}@{made.pack.version} is in {out} (digest {made.pack.digest})")
