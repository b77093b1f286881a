"""The report-like sentences, prompts and assertion phrases of the default pack, written by this project.

A label of the data sets says "read as pneumonia" or "not" (and "malignant" or "normal or benign"), so the sentences
claim that alone: no side, size, number, device or comparison. Positive and negative sentences come in pairs that share
their opening words; greedy decoding then picks an assertion by comparing two words in one place, and is not biased
towards the label that has fewer wordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Pair:
    """One sentence in its asserting and its denying form."""

    positive: str
    negative: str

    def of(self, positive: bool) -> str:
        return self.positive if positive else self.negative


@dataclass(frozen=True)
class LabelWording:
    """Everything that is said about one label.

    `assertions_positive` and `assertions_negative` are phrases that, as whole words in lower-case text, assert or deny
    the label; every report of `reports` contains phrases of exactly one kind, in each of its sections.
    """

    label: str
    input_name: str
    openings: tuple[str, ...]
    findings: tuple[Pair, ...]
    scopes: tuple[str, ...]
    impressions: tuple[Pair, ...]
    prompts: tuple[Pair, ...]
    assertions_positive: tuple[str, ...]
    assertions_negative: tuple[str, ...]

    def reports(self, positive: bool) -> tuple[str, ...]:
        """Every report text of one state of the label, in a fixed order."""
        parts = product(self.openings, self.findings, self.scopes, self.impressions)
        return tuple(
            f"findings : {opening} . {finding.of(positive)} . {scope} . impression : {impression.of(positive)} ."
            for opening, finding, scope, impression in parts
        )


PNEUMONIA = LabelWording(
    label="Pneumonia",
    input_name="chest_radiograph",
    openings=(
        "chest radiograph",
        "radiograph of the chest",
        "single radiograph of the chest",
    ),
    findings=(
        Pair(
            "the lungs show opacity consistent with pneumonia",
            "the lungs show no opacity to suggest pneumonia",
        ),
        Pair(
            "there is lung opacity in keeping with pneumonia",
            "there is no radiographic sign of pneumonia",
        ),
        Pair(
            "the image is read as showing opacity suggestive of pneumonia",
            "the image is read as showing no sign of pneumonia",
        ),
        Pair(
            "appearances of the lungs are consistent with pneumonia",
            "appearances of the lungs are without evidence of pneumonia",
        ),
    ),
    scopes=(
        "other conditions are not assessed",
        "this reading does not assess other conditions",
        "no other condition is assessed",
    ),
    impressions=(
        Pair("radiograph consistent with pneumonia", "radiograph without evidence of pneumonia"),
        Pair("the image is read as positive for pneumonia", "the image is read as negative for pneumonia"),
        Pair("there is evidence suggestive of pneumonia", "there is no radiographic sign of pneumonia"),
        Pair("chest radiograph in keeping with pneumonia", "chest radiograph without a sign of pneumonia"),
    ),
    prompts=(
        Pair("chest radiograph consistent with pneumonia .", "chest radiograph without evidence of pneumonia ."),
        Pair("the lungs show opacity consistent with pneumonia .", "the lungs show no opacity to suggest pneumonia ."),
        Pair("there is lung opacity in keeping with pneumonia .", "there is no radiographic sign of pneumonia ."),
        Pair("radiograph of the chest positive for pneumonia .", "radiograph of the chest negative for pneumonia ."),
        Pair("impression : suggestive of pneumonia .", "impression : no sign of pneumonia ."),
    ),
    assertions_positive=(
        "consistent with pneumonia",
        "in keeping with pneumonia",
        "suggestive of pneumonia",
        "positive for pneumonia",
    ),
    assertions_negative=(
        "no opacity to suggest pneumonia",
        "no radiographic sign of pneumonia",
        "no sign of pneumonia",
        "without evidence of pneumonia",
        "without a sign of pneumonia",
        "negative for pneumonia",
    ),
)

MALIGNANT_BREAST_LESION = LabelWording(
    label="Malignant breast lesion",
    input_name="breast_ultrasound",
    openings=(
        "breast ultrasound",
        "ultrasound of the breast",
        "single ultrasound image of the breast",
    ),
    findings=(
        Pair(
            "the image shows a lesion consistent with malignancy",
            "the image shows no lesion to suggest malignancy",
        ),
        Pair(
            "there is a lesion in keeping with malignancy",
            "there is no sonographic sign of malignancy",
        ),
        Pair(
            "the image is read as showing features suggestive of malignancy",
            "the image is read as showing no sign of malignancy",
        ),
        Pair(
            "appearances of the breast are consistent with malignancy",
            "appearances of the breast are normal or benign",
        ),
    ),
    scopes=PNEUMONIA.scopes,
    impressions=(
        Pair("ultrasound consistent with malignancy", "ultrasound without evidence of malignancy"),
        Pair("the image is read as positive for malignancy", "the image is read as negative for malignancy"),
        Pair("there is a lesion suggestive of malignancy", "there is no sonographic sign of malignancy"),
        Pair("breast ultrasound in keeping with malignancy", "breast ultrasound with normal or benign appearances"),
    ),
    prompts=(
        Pair("breast ultrasound consistent with malignancy .", "breast ultrasound without evidence of malignancy ."),
        Pair(
            "the image shows a lesion consistent with malignancy .", "the image shows no lesion to suggest malignancy ."
        ),
        Pair("there is a lesion in keeping with malignancy .", "there is no sonographic sign of malignancy ."),
        Pair(
            "ultrasound of the breast positive for malignancy .", "ultrasound of the breast negative for malignancy ."
        ),
        Pair("impression : suggestive of malignancy .", "impression : normal or benign appearances ."),
    ),
    assertions_positive=(
        "consistent with malignancy",
        "in keeping with malignancy",
        "suggestive of malignancy",
        "positive for malignancy",
    ),
    assertions_negative=(
        "no lesion to suggest malignancy",
        "no sonographic sign of malignancy",
        "no sign of malignancy",
        "without evidence of malignancy",
        "negative for malignancy",
        "normal or benign",
    ),
)

WORDINGS: tuple[LabelWording, ...] = (PNEUMONIA, MALIGNANT_BREAST_LESION)


def asserted_states(text: str, wording: LabelWording) -> frozenset[bool]:
    """Which states of the label a text asserts: True for present, False for absent, both when it contradicts itself."""
    padded = f" {' '.join(text.lower().replace('.', ' . ').replace(':', ' : ').split())} "
    found = {
        state
        for state, phrases in ((True, wording.assertions_positive), (False, wording.assertions_negative))
        if any(f" {phrase} " in padded for phrase in phrases)
    }
    return frozenset(found)


def vocabulary() -> tuple[str, ...]:
    """Every word of every report and prompt, sorted."""
    texts = [text for wording in WORDINGS for state in (True, False) for text in wording.reports(state)]
    texts += [pair.of(state) for wording in WORDINGS for pair in wording.prompts for state in (True, False)]
    return tuple(sorted({word for text in texts for word in text.split()}))
