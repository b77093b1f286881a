"""radserve adapt and apply-adapter: a pack with a label learned from a site's images, behind the gate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from radserve._checks import check_one_of
from radserve.errors import ErrorCode, RadserveError
from radserve.server.console import PackDirs, settings_of, stderr, stdout
from radserve.server.packs import site_catalogue

if TYPE_CHECKING:
    from radserve.models.adapt.protocol import Learned
    from radserve.models.adapt.recalibrate import Recalibrated


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("adapt")(adapt)
    app.command("apply-adapter")(apply_adapter)
    app.command("sign-data")(sign_data)


def adapt(
    manifest: Annotated[Path, typer.Argument(help="TOML: the task, the data and their card (docs/adaptation.md).")],
    pack: Annotated[str, typer.Option(metavar="NAME[@VERSION]", help="The pack to start from.")],
    out: Annotated[Path, typer.Option(help="The new pack's folder; it must not exist.")],
    version: Annotated[str, typer.Option(help="Of the new pack; the old one's with what was done without.")] = "",
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Write it, marked, though the gate fails.")
    ] = False,
    test: Annotated[
        bool, typer.Option("--test", help="Measure the test split for the record; it decides nothing.")
    ] = False,
    method: Annotated[
        str, typer.Option(help="logistic, prototype, context-vectors, low-rank or exemplars; the manifest's without.")
    ] = "",
    recalibrate_only: Annotated[
        str, typer.Option(metavar="METHOD", help="Learn no head; fit temperature or platt on train, judged on val.")
    ] = "",
    normalise: Annotated[
        bool, typer.Option("--normalise", help="With --recalibrate-only: map the site's grey values before.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps embeddings from run to run.")] = None,
    pack_dir: PackDirs = None,
) -> None:
    """Learn a label from labelled images; the gate (paired DeLong on val) refuses it or goes on record."""
    if normalise and not recalibrate_only:
        raise typer.BadParameter("goes with --recalibrate-only", param_hint="--normalise")
    settings = settings_of(pack_dirs=pack_dir)
    base = site_catalogue(settings).get(pack)
    key = settings.data_signing_key
    with _train_extra():
        from radserve.evaluation.calibrators import Method
        from radserve.models.adapt.manifest import METHODS
        from radserve.server.adapting import Adapted, Refitted, refit
        from radserve.server.adapting import adapt as run

        made: Adapted | Refitted
        if recalibrate_only:
            check_one_of("--recalibrate-only", recalibrate_only, [each.value for each in Method])
            chosen = Method(recalibrate_only)
            made = refit(
                base,
                manifest,
                out,
                chosen,
                normalise=normalise,
                version=version,
                keep_failed=keep_failed,
                cache=cache,
                signing_key=key,
            )
            _print_figures(made.made)
        else:
            if method:
                check_one_of("--method", method, list(METHODS))
            made = run(
                base,
                manifest,
                out,
                version=version,
                method=next((each for each in METHODS if each == method), None),
                keep_failed=keep_failed,
                test=test,
                cache=cache,
                signing_key=key,
            )
            _print_learned(made.learned)
    for warning in made.warnings:
        stderr().out(f"note: {warning}")
    stdout().out(f"{made.pack.name}@{made.pack.version} is in {out} (digest {made.pack.digest})")


def apply_adapter(
    adapter: Annotated[Path, typer.Argument(help="An adapter_LABEL.safetensors of an adapted pack.")],
    pack: Annotated[str, typer.Option(metavar="NAME[@VERSION]", help="The pack that it was learned on.")],
    out: Annotated[Path, typer.Option(help="The new pack's folder; it must not exist.")],
    version: Annotated[str, typer.Option(help="Of the new pack; the old one's with what was done without.")] = "",
    pack_dir: PackDirs = None,
) -> None:
    """Make the pack that is another one with an adapter: the file alone travels, the base is there already."""
    base = site_catalogue(settings_of(pack_dirs=pack_dir)).get(pack)
    with _train_extra():
        from radserve.server.adapting import apply

        made = apply(base, adapter, out, version=version)
    stdout().out(f"{made.name}@{made.version} is in {out} (digest {made.digest})")


def sign_data(
    folder: Annotated[Path, typer.Argument(help="With the manifest and all of its data.")],
    key: Annotated[Path, typer.Option(help="Private key, PEM, of an elliptic curve (P-256, P-384, P-521).")],
) -> None:
    """Sign data for adaptation (OpenSSF Model Signing); a site with the public key learns from such data alone."""
    from radserve.models.pack_signature import sign_folder

    stdout().out(f"{folder.name} is signed: {sign_folder(folder, key, 'data set')}")


@contextmanager
def _train_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"adaptation needs the train extra: {error.name} is not installed"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message) from None


def _print_learned(learned: Learned) -> None:
    curve = Table("method", "examples of each class", "AUROC on val, mean", "standard deviation", "seeds")
    for point in learned.curve:
        curve.add_row(point.method, str(point.shots), f"{point.mean:.4f}", f"{point.spread:.4f}", str(len(point.auroc)))
    stdout().print(curve)
    compared = Table("split", "images", "AUROC before", "after", "gain", "lower bound", "ECE after", "gate")
    for each in filter(None, (learned.val, learned.test)):
        numbers = (each.auroc_before, each.auroc_after, each.gain, each.gain_lower_bound, each.ece_after)
        gate = ("passed" if learned.passed else "FAILED") if each.split == "val" else ""
        compared.add_row(each.split, str(each.images), *(f"{number:.4f}" for number in numbers), gate)
    stdout().print(compared)


def _print_figures(made: Recalibrated) -> None:
    if made.compared:
        numbers = made.compared.auroc_before, made.compared.auroc_after, made.compared.gain_lower_bound
        stdout().out("grey values mapped: AUROC on val {:.4f}, {:.4f} after, lower bound {:+.4f}".format(*numbers))
    table = Table("method", "ECE on val", "AUROC on val", "gate")
    for each in made.figures:
        gate = ("passed" if made.passed else "FAILED") if each.method == made.method.value else ""
        table.add_row(each.method, f"{each.ece:.4f}", f"{each.auroc:.4f}", gate)
    stdout().print(table)
