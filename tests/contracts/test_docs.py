"""The documents say what the code does."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from radserve.errors import ErrorCode
from radserve.server.rpc.errors import status_of
from radserve.server.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (*DOCS.glob("*.md"), *ROOT.glob("*.md"), *(ROOT / "models" / "packs").glob("*/*.md"))
FOLDERS = "|".join(each.name for each in ROOT.iterdir() if each.is_dir() and each.name[0] != ".")


def test_every_error_code_is_documented_with_its_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\w+) \|$", (DOCS / "errors.md").read_text(), re.MULTILINE)
    expected = {code.value: status_of(code).name for code in ErrorCode}
    expected["SERVER_UNREACHABLE"] = "UNAVAILABLE"  # never sent: it is the client's own
    assert dict(rows) == expected


def test_every_setting_is_documented_with_its_variable_and_default() -> None:
    rows = re.findall(r"^\| `RADSERVE_(\w+)` \| `?(.*?)`? \| (.*?) \|$", (DOCS / "operations.md").read_text(), re.M)
    documented = {name.lower(): (default, meaning) for name, default, meaning in rows}
    expected = {
        name: ("" if field.default in ("", ()) else str(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    }
    assert documented == expected


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_file_and_module_that_the_documents_name_is_there() -> None:
    for page in PAGES:
        text = page.read_text()
        for name in re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./*-]*\w", text):
            assert [*ROOT.glob(name), *page.parent.glob(name)], f"{page.name}: {name}"
        for name in re.findall(r"python -m (radserve[\w.]*)", text):
            assert find_spec(name), f"{page.name}: {name}"


def test_the_options_of_scripts_that_the_documents_show_exist() -> None:
    for page in PAGES:
        for name, arguments in re.findall(r"((?:benchmarks|examples)/\w+\.py)([^`\n]*)", page.read_text()):
            script = (ROOT / name).read_text()
            for option in re.findall(r"(?<=\s)--([a-z][\w-]*)", arguments):
                assert f"--{option}" in script or option.replace("-", "_") in script, f"{page.name}: {name} --{option}"


def test_every_module_of_dicom_io_has_its_subject() -> None:
    page = (DOCS / "architecture.md").read_text()
    section = page.partition("## Where things lie in `dicom_io/`")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| .+ \| (`.+`) \|$", section, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(path.stem for path in (ROOT / "dicom_io").glob("*.py") if path.stem != "__init__")
