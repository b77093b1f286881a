"""What both readers of context share: ages, sexes, and lines that stand in the draft word for word."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

MOST_YEARS = 200


def completed_years(birth: date, at: date) -> float | None:
    """The age in completed years; None where it cannot be an age."""
    years = at.year - birth.year - ((at.month, at.day) < (birth.month, birth.day))
    return float(years) if 0 <= years < MOST_YEARS else None


def joined(lines: Iterable[str]) -> str:
    """The lines that say something, each once, in their order."""
    return "\n".join(dict.fromkeys(line.strip() for line in lines if line.strip()))
