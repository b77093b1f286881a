"""Drafts with a planted fault, twelve of each class, and drafts without: what the checker is measured on.

A draft is (case, text). A case says what is true: the label, whether the finding is positive, the laterality of the
header. The texts are written as a decoder or a person might, not from the checker's word lists.
"""

# ruff: noqa: RUF001

from __future__ import annotations

from radserve.pipelines.check import Verdict

CHEST_POSITIVE = ("Pneumonia", True, "")
CHEST_NEGATIVE = ("Pneumonia", False, "")
BREAST_POSITIVE = ("Malignant breast lesion", True, "L")
BREAST_NEGATIVE = ("Malignant breast lesion", False, "R")
C1, C0, B1, B0 = CHEST_POSITIVE, CHEST_NEGATIVE, BREAST_POSITIVE, BREAST_NEGATIVE
Draft = tuple[tuple[str, bool, str], str]

FAULTY: dict[Verdict, tuple[Draft, ...]] = {
    Verdict.CONTRADICTED: (
        (C1, "Findings: The lungs show no opacity to suggest pneumonia.\nImpression: No sign of pneumonia."),
        (C1, "Findings: Chest radiograph. The lungs are clear.\nImpression: Normal chest."),
        (C0, "Findings: There is lung opacity in keeping with pneumonia.\nImpression: Positive for pneumonia."),
        (C0, "Findings: Chest radiograph.\nImpression: Findings suspicious for bronchopneumonia."),
        (B1, "Findings: The image shows no lesion to suggest malignancy.\nImpression: Normal or benign."),
        (B0, "Findings: There is a lesion.\nImpression: The lesion represents carcinoma."),
        (C1, "Findings: 肺部未见提示肺炎的密度增高影。\nImpression: 胸片判读为肺炎阴性。"),
        (C1, "Findings: 双肺清晰，未见异常。\nImpression: 影像提示肺炎。"),
        (C0, "Findings: 影像可见肺炎征象。\nImpression: 表现符合肺炎。"),
        (C0, "Findings: 胸片。考虑肺部感染。\nImpression: 影像未提示肺炎。"),
        (B1, "Findings: 图像未见恶性征象。\nImpression: 超声判读为恶性阴性。"),
        (B0, "Findings: 图像可见病灶。\nImpression: 考虑乳腺癌。"),
    ),
    Verdict.UNSUPPORTED: (
        (
            C1,
            "Findings: The lungs show opacity consistent with pneumonia. There is a small pleural effusion.\n"
            "Impression: Pneumonia.",
        ),
        (C1, "Findings: Lung opacity consistent with pneumonia. No pneumothorax.\nImpression: Pneumonia."),
        (
            C0,
            "Findings: No sign of pneumonia. The heart is enlarged with cardiomegaly.\n"
            "Impression: Negative for pneumonia.",
        ),
        (C0, "Findings: There is an opacity at the base.\nImpression: No sign of pneumonia."),
        (B1, "Findings: A lesion of 14 mm consistent with malignancy.\nImpression: Suggestive of malignancy."),
        (B1, "Findings: Lesion in keeping with malignancy.\nImpression: Diagnostic of cancer. The prognosis is poor."),
        (C1, "Findings: 影像可见肺炎征象。可见少量胸腔积液。\nImpression: 影像提示肺炎。"),
        (C1, "Findings: 影像可见肺炎征象。未见气胸。\nImpression: 影像提示肺炎，建议手术。"),
        (C0, "Findings: 影像未见肺炎征象。心影增大。\nImpression: 影像未提示肺炎。"),
        (C0, "Findings: 影像未见肺炎征象。肋骨骨折。\nImpression: 影像未提示肺炎。"),
        (B1, "Findings: 图像可见符合恶性的病灶，大小约 14 毫米。\nImpression: 超声提示恶性。"),
        (B0, "Findings: 图像未见恶性征象。可见囊肿。\nImpression: 超声未提示恶性。"),
    ),
    Verdict.OMITTED: (
        (C1, "Findings: Chest radiograph. Other conditions are not assessed.\nImpression: Chest radiograph."),
        (C1, "Findings: Single radiograph of the chest.\nImpression: This reading does not assess other conditions."),
        (C1, "Findings: There is lung opacity.\nImpression: Opacity."),
        (C1, "Findings: Consolidation is seen.\nImpression: Consolidation."),
        (B1, "Findings: Breast ultrasound.\nImpression: No other condition is assessed."),
        (B1, "Findings: There is a breast mass.\nImpression: Breast mass."),
        (C1, "Findings: 胸片。其他疾病未作评估。\nImpression: 胸部平片。"),
        (C1, "Findings: 肺部可见密度增高影。\nImpression: 密度增高影。"),
        (C1, "Findings: 单张胸片。\nImpression: 本次判读不评估其他疾病。"),
        (B1, "Findings: 乳腺超声。\nImpression: 本次判读不评估其他疾病。"),
        (B1, "Findings: 图像可见病灶。\nImpression: 可见病灶。"),
        (B1, "Findings: 单幅乳腺超声图像。其他疾病未作评估。\nImpression: 乳腺超声图像。"),
    ),
    Verdict.INVENTED_COMPARISON: (
        (C1, "Findings: Opacity consistent with pneumonia, unchanged.\nImpression: Consistent with pneumonia."),
        (C1, "Findings: Consistent with pneumonia.\nImpression: The pneumonia has worsened since the previous study."),
        (C0, "Findings: No sign of pneumonia.\nImpression: Compared with the prior radiograph no sign of pneumonia."),
        (C0, "Findings: No sign of pneumonia. Interval resolution.\nImpression: Negative for pneumonia."),
        (B1, "Findings: Lesion consistent with malignancy, larger than before.\nImpression: Suggestive of malignancy."),
        (B0, "Findings: No sign of malignancy.\nImpression: Negative for malignancy, no change."),
        (C1, "Findings: 影像可见肺炎征象，较前进展。\nImpression: 影像提示肺炎。"),
        (C1, "Findings: 影像可见肺炎征象。\nImpression: 影像提示肺炎，与前片相仿。"),
        (C0, "Findings: 影像未见肺炎征象，无明显变化。\nImpression: 影像未提示肺炎。"),
        (C0, "Findings: 影像未见肺炎征象。\nImpression: 影像未提示肺炎，病变已较前吸收。"),
        (B1, "Findings: 图像可见符合恶性的病灶，为新出现。\nImpression: 超声提示恶性。"),
        (B0, "Findings: 图像未见恶性征象。\nImpression: 超声未提示恶性，对比既往检查相同。"),
    ),
    Verdict.WRONG_LATERALITY: (
        (C1, "Findings: Right lung opacity consistent with pneumonia.\nImpression: Consistent with pneumonia."),
        (C1, "Findings: Consistent with pneumonia.\nImpression: Left sided findings suggestive of pneumonia."),
        (C1, "Findings: Bilateral opacities consistent with pneumonia.\nImpression: Consistent with pneumonia."),
        (B1, "Findings: Lesion in the right breast consistent with malignancy.\nImpression: Suggestive of malignancy."),
        (B1, "Findings: Consistent with malignancy.\nImpression: Both breasts are suggestive of malignancy."),
        (B0, "Findings: Left breast without evidence of malignancy.\nImpression: Negative for malignancy."),
        (C1, "Findings: 右肺可见肺炎征象。\nImpression: 影像提示肺炎。"),
        (C1, "Findings: 影像可见肺炎征象。\nImpression: 左肺表现符合肺炎。"),
        (C1, "Findings: 双侧肺部表现符合肺炎。\nImpression: 影像提示肺炎。"),
        (B1, "Findings: 右侧乳腺可见恶性征象。\nImpression: 超声提示恶性。"),
        (B0, "Findings: 左乳未见恶性征象。\nImpression: 超声未提示恶性。"),
        (B1, "Findings: 图像可见恶性征象。\nImpression: 双侧乳腺超声提示恶性。"),
    ),
}

GOOD: tuple[Draft, ...] = (
    (C1, "Findings: There is pneumonia with consolidation.\nImpression: Pneumonia."),
    (C1, "Findings: Airspace opacity is present.\nImpression: Lung infection."),
    (C1, "Findings: Infiltrates are seen.\nImpression: Consistent with pneumonia."),
    (C0, "Findings: The lungs are clear.\nImpression: No pneumonia."),
    (C0, "Findings: No consolidation is seen.\nImpression: Pneumonia is not identified."),
    (C0, "Findings: The lungs are unremarkable.\nImpression: Without evidence of pneumonia."),
    (B1, "Findings: There is a lesion of the left breast.\nImpression: Suggestive of malignancy."),
    (B1, "Findings: Breast ultrasound of the left side.\nImpression: The lesion is consistent with malignancy."),
    (B0, "Findings: No lesion is seen in the right breast.\nImpression: Negative for malignancy."),
    (B0, "Findings: The appearances are normal.\nImpression: No sign of malignancy."),
    (C1, "Findings: 可见肺实变。\nImpression: 肺炎。"),
    (C1, "Findings: 可见斑片影。\nImpression: 考虑肺部感染。"),
    (C0, "Findings: 肺野清晰。\nImpression: 未见肺炎。"),
    (C0, "Findings: 未见实变。\nImpression: 无肺炎征象。"),
    (B1, "Findings: 左乳可见病灶。\nImpression: 超声提示恶性。"),
    (B0, "Findings: 右乳未见肿块。\nImpression: 恶性阴性。"),
)
"""Written by hand; the wordings of the default pack come on top (test_check.py)."""
