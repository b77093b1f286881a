"""What a generated report says of a finding, by the phrases that its own pack declares."""

from __future__ import annotations

from radserve.models.catalogue import PackCatalogue
from radserve.pipelines.report import asserted_states
from radserve.pipelines.wording import WITHHELD

_WORDS = {frozenset({True}): "present", frozenset({False}): "absent", frozenset({True, False}): "both"}


class PackReportReader:
    """Reads by the assertion phrases of the packs of this installation; a text that was withheld says "withheld"."""

    def __init__(self, catalogue: PackCatalogue | None = None) -> None:
        self._catalogue = catalogue or PackCatalogue()

    def __call__(self, pack: str, finding: str, text: str) -> str:
        """present, absent, both, nothing, or withheld. Raises PackError UNKNOWN_PACK."""
        if any(sentence in text for sentence in WITHHELD):
            return "withheld"
        return _WORDS.get(asserted_states(text, self._catalogue.get(pack).label(finding)), "nothing")
