"""What the documents of the project hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "result.schema.json").read_text())
