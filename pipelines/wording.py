# ruff: noqa: RUF001
"""The fixed sentences of a draft, in the languages that drafts are written in. Section names stay English."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from radserve.errors import ErrorCode, RequestError
from radserve.findings import Finding
from radserve.models.ontology import Ontology


@dataclass(frozen=True, slots=True)
class Wording:
    """One language; `{}` are filled by name."""

    language: str
    withheld: str
    unsure: str
    not_given: str
    age: str
    sex: str
    technique: str
    no_view: str
    no_body_part: str
    one_image: str
    images: str
    unread: str
    no_prior: str
    prior: str
    prior_read: str
    compared: str
    series: str
    found: str
    not_found: str
    cannot_assess: str
    impression: str
    no_impression: str
    measured: str
    states: tuple[str, str, str]
    exemplars: str
    written_by: str
    put_together: str
    worded_by: str
    by_template: str
    notice: str
    stop: str
    join: str

    def name(self, finding: Finding, ontology: Ontology) -> str:
        """What a finding is called: in Chinese by the ontology where it knows the label, else as the pack calls it."""
        node = ontology.of_label(finding.label, (finding.code.scheme, finding.code.value))
        names = node.names.get(self.language, ()) if node and self.language != "en" else ()
        return names[0] if names else finding.label


ENGLISH = Wording(
    language="en",
    withheld="Text withheld: it contradicted the model's own findings or went beyond them.",
    unsure="Text withheld: the model cannot assess the image; its numbers stand under Model findings.",
    not_given="Not given.",
    age="Age: {age:g} years.",
    sex="Sex: {sex}.",
    technique="{modality}, {body_part}, {view}, {count}.",
    no_view="view not stated",
    no_body_part="body part not stated",
    one_image="1 image",
    images="{count} images",
    unread=", {count} more could not be read and were not analysed",
    no_prior="None.",
    prior="Prior study {uid} was named. No comparison was made.",
    prior_read="Prior study {uid}{date}: read by the same model. The images were not compared with one another.",
    compared="{name}: {now} (probability {probability:.3f}), in the prior study {then} ({prior_probability:.3f}).",
    series="Series {number}: {text}",
    found="{name}: found{measures}.",
    not_found="Not found: {names}.",
    cannot_assess="Cannot be assessed: {names}.",
    impression="Found: {names}.",
    no_impression="No finding above threshold.",
    measured="{name}: {state}, probability {probability:.3f} (threshold {threshold:.3f}).",
    states=("positive", "negative", "cannot be assessed"),
    exemplars=" Most alike among labelled examples: {examples}.",
    written_by="written by",
    put_together="put together from the findings of",
    worded_by=" Findings and Impression worded by the text service's model {name}.",
    by_template=" Findings and Impression worded by the report template {name}.",
    notice="Draft {how} {name} {version} (pipeline {digest}). Not verified by a person. Research use only.",
    stop=" ",
    join=", ",
)
CHINESE = Wording(
    language="zh",
    withheld="生成的文字已扣留：其内容与模型自身的判读不符或超出判读范围。",
    unsure="生成的文字已扣留：模型无法评估该图像，数值见 Model findings。",
    not_given="未提供。",
    age="年龄：{age:g} 岁。",
    sex="性别：{sex}。",
    technique="{modality}，{body_part}，{view}，{count}。",
    no_view="体位未注明",
    no_body_part="部位未注明",
    one_image="1 幅图像",
    images="{count} 幅图像",
    unread="，另有 {count} 幅无法读取，未作判读",
    no_prior="无。",
    prior="申请中提及既往检查 {uid}，未作比较。",
    prior_read="既往检查 {uid}{date}：由同一模型判读，图像之间未作比较。",
    compared="{name}：{now}（概率 {probability:.3f}），既往检查为{then}（{prior_probability:.3f}）。",
    series="序列 {number}：{text}",
    found="{name}：阳性{measures}。",
    not_found="未见：{names}。",
    cannot_assess="无法评估：{names}。",
    impression="阳性：{names}。",
    no_impression="无超过阈值的判读。",
    measured="{name}：{state}，概率 {probability:.3f}（阈值 {threshold:.3f}）。",
    states=("阳性", "阴性", "无法评估"),
    exemplars="最相似的标注样例：{examples}。",
    written_by="撰写者：",
    put_together="由以下模型的判读汇编：",
    worded_by="Findings 与 Impression 由文本服务的模型 {name} 撰写。",
    by_template="Findings 与 Impression 由报告模板 {name} 撰写。",
    notice="草稿，{how} {name} {version}（pipeline {digest}）。未经人员核实。仅供研究使用。",
    stop="",
    join="、",
)
WORDINGS: Mapping[str, Wording] = MappingProxyType({each.language: each for each in (ENGLISH, CHINESE)})
WITHHELD = tuple(sentence for each in WORDINGS.values() for sentence in (each.withheld, each.unsure))
"""Every sentence that says that a generated text was withheld."""


def wording_of(language: str) -> Wording:
    """The wording of a language. Raises LANGUAGE_NOT_AVAILABLE."""
    if language not in WORDINGS:
        message = f"language: got {language!r}, expected one of {list(WORDINGS)}, in which drafts are written"
        raise RequestError(ErrorCode.LANGUAGE_NOT_AVAILABLE, message)
    return WORDINGS[language]
