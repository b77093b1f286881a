"""Prompt sets of the site by their ids, and the commands that look at them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from radserve.errors import ErrorCode, RadserveError
from radserve.models.prompts.prompt_set import read_prompt_set
from radserve.server.cli import app
from radserve.server.prompt_library import PromptLibrary
from tests.support.pipeline import images_of, make_analyser

SET = """\
id = "site"
version = "1"
pack = "tiny"
[labels."Pneumonia"]
positive = ["chest radiograph of {finding}"]
negative = ["normal"]
[labels."Malignant breast lesion"]
positive = ["malignant lesion"]
negative = ["benign lesion"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "site.toml").write_text(SET)
    (tmp_path / "sets" / "private.toml").write_text(SET.replace('"site"', '"private"').replace("normal", "Mr Miller"))
    (tmp_path / "sets" / "broken.toml").write_text("id = 1")
    return tmp_path / "sets"


async def test_a_named_set_takes_the_place_of_the_packs_own_and_is_embedded_once(tmp_path: Path, folder: Path) -> None:
    analyser, runner, _ = await make_analyser(tmp_path, list(images_of()))
    library = PromptLibrary([folder])
    assert await library.applied(analyser, "") is analyser
    first = await library.applied(analyser, "site")
    runs = runner.runs("text_encoder")
    second = await library.applied(analyser, "site")
    assert first.prompts is second.prompts
    assert runner.runs("text_encoder") == runs
    assert first.prompts.record is not None
    assert first.prompts.record.id == "site"
    assert not first.prompts.calibrated


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "'missing' is unknown; known prompt sets: private, site"),
        ("broken", "prompt set broken.toml"),
        ("private", "looks like a name"),
    ],
)
async def test_a_set_that_cannot_be_used_is_refused_with_its_cause(
    tmp_path: Path, folder: Path, name: str, message: str
) -> None:
    analyser, runner, _ = await make_analyser(tmp_path, list(images_of()))
    runs = runner.runs("text_encoder")
    with pytest.raises(RadserveError) as caught:
        await PromptLibrary([folder]).applied(analyser, name)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert message in caught.value.client_message
    assert runner.runs("text_encoder") == runs


def test_the_commands_lint_show_and_hash(folder: Path) -> None:
    run = CliRunner().invoke
    clean, dirty = (run(app, ["prompts", "lint", str(folder / f"{name}.toml")]) for name in ("site", "private"))
    assert (clean.exit_code, dirty.exit_code) == (0, 3)
    assert "labels.Pneumonia.negative[0]: name" in dirty.output
    shown = run(app, ["prompts", "show", "cxr-bus-mini"])
    assert shown.exit_code == 0
    assert "+: " in shown.output
    assert "-: " in shown.output
    hashed = run(app, ["prompts", "hash", str(folder / "site.toml")])
    assert hashed.output.split()[-1] == read_prompt_set(folder / "site.toml").sha256
