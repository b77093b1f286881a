"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from radserve.errors import ErrorCode
from radserve.server.rpc.errors import status_of
from radserve.server.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"


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
    for page in (*DOCS.glob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
