"""radserve models list | show | verify | repository: the model packs of this installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.table import Table

from radserve.models.catalogue import PackCatalogue
from radserve.models.triton.config import Backend, ServingOptions
from radserve.models.triton.repository import write_repository
from radserve.server.console import PackDirs, settings_of, stdout

models_app = typer.Typer(no_args_is_help=True, help="The model packs of this installation.")


@models_app.command("list")
def models_list(pack_dir: PackDirs = None) -> None:
    """List the packs, the broken ones with their cause."""
    catalogue = PackCatalogue(settings_of(pack_dirs=pack_dir).pack_dirs)
    table = Table("pack", "version", "licence", "labels", "digest")
    for name in catalogue.names():
        pack = catalogue.get(name)
        labels = ", ".join(label.name for label in pack.labels)
        table.add_row(name, pack.version, pack.licence, labels, pack.digest[:12])
    for name, error in catalogue.broken.items():
        table.add_row(name, "broken", "", error.client_message, "")
    stdout().print(table)


@models_app.command("show")
def models_show(name: str, pack_dir: PackDirs = None) -> None:
    """Show what a pack is and what it is for, and its model card."""
    pack = PackCatalogue(settings_of(pack_dirs=pack_dir).pack_dirs).get(name)
    console = stdout()
    console.out(f"{pack.name} {pack.version} (digest {pack.digest})\n{pack.description}\n")
    for use in pack.inputs:
        ages = use.intended_use.age_years
        limits = f"age {ages[0]:g} to {ages[1]:g} years" if ages else "any age"
        body_parts = " or ".join(use.body_parts) or "any body part"
        console.out(f"{use.name}: {' or '.join(use.modalities)} of {body_parts}, {limits}: {', '.join(use.labels)}")
    console.out("\n" + (pack.folder / "MODEL_CARD.md").read_text(encoding="utf-8"))


@models_app.command("verify")
def models_verify(
    name: Annotated[str, typer.Argument(help="A pack; all of them without.")] = "", pack_dir: PackDirs = None
) -> None:
    """Check every hash of a pack, or of all; exit code 1 with the file named when one is wrong."""
    catalogue = PackCatalogue(settings_of(pack_dirs=pack_dir).pack_dirs)
    for each in [name] if name else [*catalogue.names(), *catalogue.broken]:
        pack = catalogue.verify(each)
        stdout().out(f"{pack.name} {pack.version} is intact: digest {pack.digest}")


@models_app.command("repository")
def models_repository(
    name: str,
    out: Annotated[Path, typer.Option(help="Folder for the Triton model repository.")],
    backend: Annotated[str, typer.Option(help="python or onnxruntime.")] = "onnxruntime",
    instances: Annotated[int, typer.Option(help="Instances of each graph.")] = 1,
    pack_dir: PackDirs = None,
) -> None:
    """Write the Triton model repository of a pack, for an outside Triton (`radserve serve --triton HOST:PORT`)."""
    pack = PackCatalogue(settings_of(pack_dirs=pack_dir).pack_dirs).get(name)
    options = ServingOptions(backend=cast(Backend, backend), instances=instances)
    for model in write_repository([pack], out, options):
        stdout().out(f"{out / model.name} version {model.version}")
