"""radserve prompts lint | show | hash: prompt sets of the site before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radserve.models.catalogue import PackCatalogue
from radserve.models.ontology import built_in_ontology
from radserve.models.prompts.lint import lint_texts
from radserve.models.prompts.prompt_set import PromptSetFile, prompt_set_of_pack, read_prompt_set
from radserve.models.prompts.rendering import render
from radserve.models.tokenizer import pack_tokenizer
from radserve.server.console import REFUSED, PackDirs, settings_of, stdout

prompts_app = typer.Typer(no_args_is_help=True, help="Prompt sets: the wordings that labels are asked for with.")
Source = Annotated[str, typer.Argument(help="A prompt set file (.toml), or the name of a pack for its own prompts.")]


@prompts_app.command("lint")
def lint(source: Source, pack_dir: PackDirs = None) -> None:
    """Look for names, identifiers, dates and attributes of a person; exit code 3 where there are some."""
    problems = lint_texts(_read(source, pack_dir).texts())
    for each in problems:
        stdout().out(f"{each.place}: {each.rule}: {each.message}", highlight=False)
    stdout().out(f"{len(problems)} problems", highlight=False)
    raise typer.Exit(REFUSED if problems else 0)


@prompts_app.command("show")
def show(source: Source, pack_dir: PackDirs = None) -> None:
    """Show every text that goes through the pack's text encoder, and what knowledge added or could not add."""
    prompts = _read(source, pack_dir)
    pack = PackCatalogue(settings_of(pack_dirs=pack_dir).pack_dirs).get(prompts.pack)
    tokenizer = pack_tokenizer(pack)

    def knows(text: str) -> bool:
        return tokenizer is None or tokenizer.unknown_id not in (None, *tokenizer.encode_words(text))

    out = stdout()
    out.out(f"{prompts.id} {prompts.version} for {prompts.pack}, {prompts.mode}, {prompts.language}", highlight=False)
    rendered = render(prompts, pack, built_in_ontology(), knows)
    for label in rendered.labels:
        out.out(f"\n{label.label}", highlight=False)
        sides = (("+", label.positive), ("-", label.negative), ("+ added", label.added_positive))
        for sign, texts in (*sides, ("- added", label.added_negative), ("not added, unknown words", label.dropped)):
            for text in texts:
                out.out(f"  {sign}: {text}", highlight=False)
    for task, options in rendered.tasks:
        for option, texts in options:
            out.out(f"\n{task} = {option}: {' | '.join(texts)}", highlight=False)


@prompts_app.command("hash")
def show_hash(source: Source, pack_dir: PackDirs = None) -> None:
    """Print id, version and SHA-256, as they stand in every result that was made with the set."""
    prompts = _read(source, pack_dir)
    stdout().out(f"{prompts.id} {prompts.version} {prompts.sha256}", highlight=False)


def _read(source: str, pack_dir: list[Path] | None) -> PromptSetFile:
    path = Path(source)
    if path.suffix == ".toml":
        return read_prompt_set(path)
    own = prompt_set_of_pack(PackCatalogue(settings_of(pack_dirs=pack_dir).pack_dirs).get(source))
    if own is None:
        raise typer.BadParameter(f"pack {source!r} scores no label by prompts")
    return own
