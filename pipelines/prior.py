"""The tool that reads a prior study for the draft: the same model answers for it, and both answers are told.

It is called where the request names a study of the same patient that is stored here. Nothing is concluded from the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from radserve.findings import Finding


@dataclass(frozen=True, slots=True, eq=False)
class PriorReading:
    """What the model found in a prior study; `study_date` as its header has it, YYYYMMDD or empty."""

    study_instance_uid: str
    study_date: str
    findings: tuple[Finding, ...]

    def beside(self, findings: Sequence[Finding]) -> list[tuple[Finding, Finding]]:
        """The findings now, each with the prior one of its label; a label that either study has twice stays out."""
        once_now, once_then = _once(findings), _once(self.findings)
        return [(now, once_then[label]) for label, now in once_now.items() if label in once_then]


def _once(findings: Sequence[Finding]) -> dict[str, Finding]:
    number = Counter(each.label for each in findings)
    return {each.label: each for each in findings if number[each.label] == 1}
