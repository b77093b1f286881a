"""A checker of drafts and findings for it."""

from __future__ import annotations

from radserve.findings import CodedConcept, Finding, Region
from radserve.models.pack_types import Assertions, PackLabel, PromptScoring
from radserve.models.train.wordings import WORDINGS
from radserve.pipelines.check import DraftChecker
from radserve.pipelines.claims import built_in_claims
from radserve.references import InstanceRef

CODES = {"Pneumonia": "233604007", "Malignant breast lesion": "254837009"}


LABELS = tuple(
    PackLabel(
        name=wording.label,
        code=CodedConcept(CODES[wording.label], "SCT", wording.label),
        site=CodedConcept("1", "SCT", "site"),
        threshold=0.5,
        scoring=PromptScoring("prompts", 1.0),
        temperature=1.0,
        assertions=Assertions(wording.assertions_positive, wording.assertions_negative),
    )
    for wording in WORDINGS
)
CHECKER = DraftChecker(LABELS, built_in_claims())


def finding(label: str, positive: bool) -> Finding:
    code = next(each.code for each in LABELS if each.name == label)
    region = Region(InstanceRef("1.2", "1.3", "1.4", "1.5"), 1)
    probability = 0.9 if positive else 0.1
    return Finding(label, code, code, probability, probability, 0.5, region, f"pack/{label}", "1.6")
