"""radserve models list | show | verify | import | add | sign: the model packs of this installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from radserve.errors import ErrorCode, RadserveError
from radserve.models.catalogue import PackCatalogue
from radserve.server.console import PackDirs, settings_of, stdout
from radserve.server.packs import site_catalogue, site_policy

models_app = typer.Typer(no_args_is_help=True, help="The model packs of this installation.")


@models_app.command("list")
def models_list(pack_dir: PackDirs = None) -> None:
    """List the packs, the broken ones with their cause."""
    catalogue = site_catalogue(settings_of(pack_dirs=pack_dir))
    table = Table("pack", "version", "licence", "labels", "digest")
    for pack in (each for name in catalogue.names() for each in catalogue.versions(name)):
        labels = ", ".join(label.name for label in pack.labels)
        table.add_row(pack.name, pack.version, pack.licence, labels, pack.digest[:12])
    for name, error in catalogue.broken.items():
        table.add_row(name, "broken", "", error.client_message, "")
    stdout().print(table)


@models_app.command("show")
def models_show(name: str, pack_dir: PackDirs = None) -> None:
    """Show what a pack is and what it is for, and its model card."""
    pack = site_catalogue(settings_of(pack_dirs=pack_dir)).get(name)
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
    catalogue = site_catalogue(settings_of(pack_dirs=pack_dir))
    for each in _all_versions(catalogue, name):
        pack = catalogue.verify(each)
        stdout().out(f"{pack.name} {pack.version} is intact: digest {pack.digest}")


def _all_versions(catalogue: PackCatalogue, name: str) -> list[str]:
    """References to every version of a pack, or of all packs, the broken ones last; NAME@VERSION is one."""
    names = [name] if name else [*catalogue.names(), *catalogue.broken]
    known = {each: [f"{each}@{pack.version}" for pack in catalogue.versions(each)] for each in names}
    return [reference for each in names for reference in known[each] or [each]]


@models_app.command("import")
def models_import(
    source: Annotated[str, typer.Argument(help="A checkpoint: file, folder, local-dir:FOLDER or hub name.")],
    labels: Annotated[Path, typer.Option(help="LABELS.toml: the pack's name, inputs, labels and codes.")],
    out: Annotated[Path, typer.Option(help="The new pack's folder.")],
    kind: Annotated[str, typer.Option(help="open_clip, torchxrayvision, hf-vision, monai-bundle, onnx ...")] = "",
    precision: Annotated[str, typer.Option(help="fp32 or fp16.")] = "fp32",
    option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the kind; repeatable.")] = None,
) -> None:
    """Make a pack of a checkpoint: ONNX graphs that provably give what PyTorch gives, and a card to fill in."""
    from radserve.models.importing.run import import_model

    for each in option or ():
        if not all(each.partition("=")):
            raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"--option: got {each!r}, expected KEY=VALUE")
    given = dict(each.partition("=")[::2] for each in option or ())
    pack = import_model(source, labels, out, kind=kind, precision=precision, options=given)
    stdout().out(f"{pack.name} {pack.version} is in {out}\ndigest {pack.digest}")


@models_app.command("add")
def models_add(
    source: Annotated[str, typer.Argument(help="A folder, a .tar, an http(s):// or s3:// address of a .tar.")],
    digest: Annotated[str, typer.Option(help="The pipeline digest that the pack has to have.")] = "",
    store: Annotated[Path | None, typer.Option(help="Where the site keeps packs.")] = None,
    endpoint: Annotated[str, typer.Option(help="Address of an S3 store that is not Amazon's.")] = "",
) -> None:
    """Fetch a pack, check it and keep it: all of it or nothing."""
    from radserve.models.pack_sources import add_pack

    settings = settings_of(pack_store=store)
    options = {"endpoint_url": endpoint} if endpoint else {}
    pack = add_pack(source, settings.pack_store, digest=digest, policy=site_policy(settings), options=options)
    stdout().out(f"{pack.name} {pack.version} is kept in {pack.folder}\ndigest {pack.digest}")


@models_app.command("sign")
def models_sign(
    signed: Annotated[
        Path, typer.Argument(metavar="PACK|RECORD", help="A pack's folder, or a record of `radserve evaluate gate`.")
    ],
    key: Annotated[Path, typer.Option(help="Private key, PEM, of an elliptic curve (P-256, P-384, P-521).")],
) -> None:
    """Sign a pack or an evaluation record (OpenSSF Model Signing) for sites that have the public key."""
    from radserve.models.pack import load_pack
    from radserve.models.pack_signature import sign_folder, sign_record

    if signed.is_dir():
        pack = load_pack(signed)
        stdout().out(f"{pack.name} {pack.version} is signed: {sign_folder(signed, key)}")
        return
    from radserve.evaluation.gates import read_record

    outcome = "passed" if read_record(signed)["passed"] else "did NOT pass"
    stdout().out(f"{signed.name}, which {outcome}, is signed: {sign_record(signed, key)}")
