"""radserve select and check-labels: which cases to label next, and which labels to look at again."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from radserve.errors import ErrorCode, RadserveError
from radserve.server.console import PackDirs, settings_of, stderr, stdout
from radserve.server.packs import site_catalogue


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("select")(select)
    app.command("check-labels")(check_labels)


def select(
    pool: Annotated[Path, typer.Argument(help="CSV: case, probability, embedding_0, embedding_1 ...")],
    count: Annotated[int, typer.Option(help="How many cases to choose.")],
    out: Annotated[Path, typer.Option(help="CSV of the chosen cases, the least certain first.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same choice.")] = 0,
) -> None:
    """Choose cases to label: those the model is unsure of, and of different kinds."""
    with _train_extra():
        from radserve.models.adapt.selection import choose, read_pool

        cases = read_pool(pool)
        rows = choose(cases, count, seed=seed).tolist()
    chosen = [(cases.cases[row], repr(float(cases.probabilities[row]))) for row in rows]
    _write(out, ("case", "probability"), chosen)
    stdout().out(f"{count} of {len(cases.cases)} cases are in {out}")


def check_labels(
    manifest: Annotated[Path, typer.Argument(help="As for radserve adapt.")],
    pack: Annotated[str, typer.Option(metavar="NAME[@VERSION]", help="The pack whose image encoder looks.")],
    out: Annotated[Path, typer.Option(help="CSV of all images, the most suspect label first.")],
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps embeddings from run to run.")] = None,
    pack_dir: PackDirs = None,
) -> None:
    """Rank labels by how confidently a model that was learned without them contradicts them. Nothing is changed."""
    settings = settings_of(pack_dirs=pack_dir)
    base = site_catalogue(settings).get(pack)
    with _train_extra():
        from radserve.models.adapt.label_noise import suspicion
        from radserve.models.adapt.manifest import read_manifest
        from radserve.server.adapting import embed_manifest

        asked = read_manifest(manifest, settings.data_signing_key)
        data, embedded = embed_manifest(base, asked, cache)
        found = suspicion(embedded.embeddings, data.positive, data.patients, strength=asked.task.strength)
    ranked = (-found).argsort(kind="stable").tolist()
    states = {True: "present", False: "absent"}
    rows = [(data.rows[row], data.splits[row], states[bool(data.positive[row])], f"{found[row]:.6f}") for row in ranked]
    _write(out, ("row", "split", "label", "suspicion"), rows)
    for warning in data.warnings:
        stderr().out(f"note: {warning}")
    stdout().out(f"{len(rows)} labels are in {out}, {sum(found > 0.5)} of them contradicted")


@contextmanager
def _train_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"this needs the train extra: {error.name} is not installed"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message) from None


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    except OSError as error:
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"{path.name!r} cannot be written: {error.strerror}") from error
