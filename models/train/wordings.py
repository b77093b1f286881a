"""The report-like sentences, prompts and assertion phrases of the default pack, written by this project.

A label of the data sets says "read as pneumonia" or "not" (and "malignant" or "normal or benign"), so the sentences
claim that alone: no side, size, number, device or comparison. Positive and negative sentences come in pairs that share
their opening words; greedy decoding then picks an assertion by comparing two words in one place, and is not biased
towards the label that has fewer wordings.

Chinese texts are written word by word, with spaces that the tokenizer takes out again; their section heads stay
English, as those of the whole draft do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from radserve.models.tokenizer import START, is_chinese

START_TOKENS = {"en": START, "zh": "<zh>"}
"""ISO 639-1 code of a language to the token that starts its texts."""


@dataclass(frozen=True)
class Pair:
    """One sentence in its asserting and its denying form."""

    positive: str
    negative: str

    def of(self, positive: bool) -> str:
        return self.positive if positive else self.negative


@dataclass(frozen=True)
class ReportParts:
    """The sentences of one language, without their full stops, from which the reports of a label are put together."""

    openings: tuple[str, ...]
    findings: tuple[Pair, ...]
    scopes: tuple[str, ...]
    impressions: tuple[Pair, ...]
    stop: str = "."

    def reports(self, positive: bool) -> tuple[str, ...]:
        return tuple(
            f"findings : {opening} {self.stop} {finding.of(positive)} {self.stop} {scope} {self.stop} "
            f"impression : {impression.of(positive)} {self.stop}"
            for opening, finding, scope, impression in product(
                self.openings, self.findings, self.scopes, self.impressions
            )
        )


@dataclass(frozen=True)
class LabelWording:
    """Everything that is said about one label; `parts` by language.

    `assertions_positive` and `assertions_negative` are phrases that assert or deny the label: whole words in lower-case
    text, or any part of Chinese text. Every report contains phrases of exactly one kind, in each of its sections, where
    longer phrases count first.
    """

    label: str
    input_name: str
    parts: Mapping[str, ReportParts]
    prompts: tuple[Pair, ...]
    assertions_positive: tuple[str, ...]
    assertions_negative: tuple[str, ...]

    def reports(self, positive: bool, language: str = "en") -> tuple[str, ...]:
        """Every report text of one state of the label, in a fixed order."""
        return self.parts[language].reports(positive)


_PNEUMONIA_EN = ReportParts(
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
)

_PNEUMONIA_ZH = ReportParts(
    openings=("胸片", "胸部 平片", "单 张 胸片"),
    findings=(
        Pair("肺部 可见 符合 肺炎 的 密度 增高 影", "肺部 未见 提示 肺炎 的 密度 增高 影"),
        Pair("影像 可见 肺炎 征象", "影像 未见 肺炎 征象"),
        Pair("肺部 表现 符合 肺炎", "肺部 表现 无 肺炎 征象"),
    ),
    scopes=("其他 疾病 未 作 评估", "本次 判读 不 评估 其他 疾病"),
    impressions=(
        Pair("胸片 判读 为 肺炎 阳性", "胸片 判读 为 肺炎 阴性"),
        Pair("影像 提示 肺炎", "影像 未 提示 肺炎"),
        Pair("表现 符合 肺炎", "表现 不 符合 肺炎"),
    ),
    stop="。",
)

PNEUMONIA = LabelWording(
    label="Pneumonia",
    input_name="chest_radiograph",
    parts={"en": _PNEUMONIA_EN, "zh": _PNEUMONIA_ZH},
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
        "符合肺炎",
        "可见肺炎征象",
        "肺炎阳性",
        "提示肺炎",
    ),
    assertions_negative=(
        "no opacity to suggest pneumonia",
        "no radiographic sign of pneumonia",
        "no sign of pneumonia",
        "without evidence of pneumonia",
        "without a sign of pneumonia",
        "negative for pneumonia",
        "未见提示肺炎",
        "未见肺炎征象",
        "无肺炎征象",
        "肺炎阴性",
        "未提示肺炎",
        "不符合肺炎",
    ),
)

_MALIGNANCY_EN = ReportParts(
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
    scopes=_PNEUMONIA_EN.scopes,
    impressions=(
        Pair("ultrasound consistent with malignancy", "ultrasound without evidence of malignancy"),
        Pair("the image is read as positive for malignancy", "the image is read as negative for malignancy"),
        Pair("there is a lesion suggestive of malignancy", "there is no sonographic sign of malignancy"),
        Pair("breast ultrasound in keeping with malignancy", "breast ultrasound with normal or benign appearances"),
    ),
)

_MALIGNANCY_ZH = ReportParts(
    openings=("乳腺 超声", "乳腺 超声 图像", "单 幅 乳腺 超声 图像"),
    findings=(
        Pair("图像 可见 符合 恶性 的 病灶", "图像 未见 提示 恶性 的 病灶"),
        Pair("图像 可见 恶性 征象", "图像 未见 恶性 征象"),
        Pair("乳腺 表现 符合 恶性", "乳腺 表现 为 正常 或 良性"),
    ),
    scopes=_PNEUMONIA_ZH.scopes,
    impressions=(
        Pair("超声 判读 为 恶性 阳性", "超声 判读 为 恶性 阴性"),
        Pair("超声 提示 恶性", "超声 未 提示 恶性"),
        Pair("表现 符合 恶性", "表现 为 正常 或 良性"),
    ),
    stop="。",
)

MALIGNANT_BREAST_LESION = LabelWording(
    label="Malignant breast lesion",
    input_name="breast_ultrasound",
    parts={"en": _MALIGNANCY_EN, "zh": _MALIGNANCY_ZH},
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
        "符合恶性",
        "可见恶性征象",
        "恶性阳性",
        "提示恶性",
    ),
    assertions_negative=(
        "no lesion to suggest malignancy",
        "no sonographic sign of malignancy",
        "no sign of malignancy",
        "without evidence of malignancy",
        "negative for malignancy",
        "normal or benign",
        "未见提示恶性",
        "未见恶性征象",
        "恶性阴性",
        "未提示恶性",
        "正常或良性",
    ),
)

WORDINGS: tuple[LabelWording, ...] = (PNEUMONIA, MALIGNANT_BREAST_LESION)


def asserted_states(text: str, wording: LabelWording) -> frozenset[bool]:
    """Which states of the label a text asserts: True for present, False for absent, both when it contradicts itself."""
    words = text.lower().replace(".", " . ").replace(":", " : ").split()
    left, joined = f" {' '.join(words)} ", "".join(words)
    phrases = [(phrase, True) for phrase in wording.assertions_positive]
    phrases += [(phrase, False) for phrase in wording.assertions_negative]
    found = set()
    for phrase, state in sorted(phrases, key=lambda each: -len(each[0])):
        if is_chinese(phrase) and phrase in joined:
            joined = joined.replace(phrase, "|")
            found.add(state)
        elif f" {phrase} " in left:
            found.add(state)
    return frozenset(found)


def vocabulary() -> tuple[str, ...]:
    """Every word of every report and prompt, sorted."""
    texts = [
        text
        for wording in WORDINGS
        for language in wording.parts
        for state in (True, False)
        for text in wording.reports(state, language)
    ]
    texts += [pair.of(state) for wording in WORDINGS for pair in wording.prompts for state in (True, False)]
    return tuple(sorted({word for text in texts for word in text.split()}))
