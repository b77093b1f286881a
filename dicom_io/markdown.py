"""The Markdown of the statements that are made from the tables of the code."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 120


def paragraph(text: str, indent: str = "") -> list[str]:
    """A text as lines of at most WIDTH characters; `indent` before all but the first."""
    return textwrap.wrap(" ".join(text.split()), WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def bullets(*texts: str) -> list[str]:
    """A list of texts."""
    return [line for text in texts for line in paragraph(f"- {text}", "  ")]


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table; what would end a cell is shown as a slash."""
    lines = [headers, ["---"] * len(headers), *rows]
    return [f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines]
