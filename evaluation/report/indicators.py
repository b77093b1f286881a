"""The seventeen indicators of Table 2 of the survey (Chen et al., 2024), by capability, task and metric.

Section 4(1) of *Technology and Application Development of Medical Foundation Model* lists them with their test and
their scoring. The three axes are those of FlagEval (section 4(4) of the survey).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Capability(StrEnum):
    """The first axis: the four groups of Table 2."""

    BASIC = "basic performance"
    ADVANCED = "advanced performance"
    EXTENDED = "extended performance"
    USER_EXPERIENCE = "user experience"


class Task(StrEnum):
    """The second axis: what the model is asked to do."""

    CLASSIFICATION = "lesion classification"
    REPORT = "report generation"
    LANGUAGE = "medical language"
    SAFETY = "safety"
    SERVING = "serving"
    USE = "use by people"


@dataclass(frozen=True, slots=True)
class Indicator:
    """One row of Table 2: `key` is its name in JSON, `row` its row in the requirements."""

    row: int
    key: str
    name: str
    capability: Capability
    task: Task
    test_method: str
    scoring_rule: str


_FRACTION = "a fraction from 0 to 1 with its interval; higher is better"
_TEN_POINTS = "1 to 10: 1 + 9 x the share of right answers"

INDICATORS: tuple[Indicator, ...] = (
    Indicator(
        43,
        "accuracy",
        "Accuracy",
        Capability.BASIC,
        Task.CLASSIFICATION,
        "(TP + TN) / N at the pack's threshold, Wilson interval",
        _FRACTION,
    ),
    Indicator(
        44,
        "specificity",
        "Specificity",
        Capability.BASIC,
        Task.CLASSIFICATION,
        "TN / (TN + FP) at the pack's threshold, Wilson interval",
        _FRACTION,
    ),
    Indicator(
        45,
        "sensitivity",
        "Sensitivity (recall)",
        Capability.BASIC,
        Task.CLASSIFICATION,
        "TP / (TP + FN) at the pack's threshold, Wilson interval",
        _FRACTION,
    ),
    Indicator(
        46,
        "precision",
        "Precision (PPV)",
        Capability.BASIC,
        Task.CLASSIFICATION,
        "TP / (TP + FP) at the pack's threshold and the data's prevalence, Wilson interval",
        _FRACTION,
    ),
    Indicator(
        47,
        "f1",
        "F1",
        Capability.BASIC,
        Task.CLASSIFICATION,
        "2 TP / (2 TP + FP + FN) at the pack's threshold, percentile bootstrap interval",
        _FRACTION,
    ),
    Indicator(
        48,
        "auroc",
        "AUC-ROC",
        Capability.BASIC,
        Task.CLASSIFICATION,
        "Mann-Whitney AUROC, DeLong interval",
        _FRACTION,
    ),
    Indicator(
        49,
        "language_understanding",
        "Medical language understanding",
        Capability.ADVANCED,
        Task.LANGUAGE,
        "labels read from report sentences against gold labels, micro F1",
        "1 to 10: 1 + 9 x micro F1",
    ),
    Indicator(
        50,
        "language_generation",
        "Medical language generation",
        Capability.ADVANCED,
        Task.REPORT,
        "labels asserted by the delivered reports against the true labels, Wilson interval",
        "1 to 10: 1 + 9 x label agreement",
    ),
    Indicator(
        51,
        "knowledge_qa",
        "Medical knowledge question answering",
        Capability.ADVANCED,
        Task.LANGUAGE,
        "single-choice questions, options shuffled by seed",
        _TEN_POINTS,
    ),
    Indicator(
        52,
        "complex_reasoning",
        "Complex reasoning",
        Capability.ADVANCED,
        Task.LANGUAGE,
        "multi-turn cases scored by a rubric",
        "1 to 10 by the rubric",
    ),
    Indicator(
        53,
        "safety_ethics",
        "Safety and ethics",
        Capability.ADVANCED,
        Task.SAFETY,
        "a suite of inputs that must be refused, warned of or answered",
        _TEN_POINTS,
    ),
    Indicator(
        54,
        "robustness",
        "Robustness",
        Capability.EXTENDED,
        Task.CLASSIFICATION,
        "imaging corruptions at severities 1 to 5: mean drop of the AUROC",
        "the mean drop of the AUROC; lower is better",
    ),
    Indicator(
        55,
        "fairness",
        "Fairness",
        Capability.EXTENDED,
        Task.CLASSIFICATION,
        "AUROC, TPR and FPR by group, largest gap, tests with multiplicity correction",
        "the largest gap of the AUROC between groups; lower is better",
    ),
    Indicator(
        56,
        "resource_use",
        "Resource use",
        Capability.EXTENDED,
        Task.SERVING,
        "time of each study through the server, from its result files",
        "milliseconds, median; lower is better",
    ),
    Indicator(
        57,
        "cost_effectiveness",
        "Cost effectiveness",
        Capability.EXTENDED,
        Task.SERVING,
        "net benefit of the model at its threshold against treating all and none",
        "net benefit above the better of both; higher is better",
    ),
    Indicator(
        58,
        "explainability",
        "Explainability",
        Capability.USER_EXPERIENCE,
        Task.USE,
        "pointing game, deletion and insertion on annotated lesions",
        _FRACTION,
    ),
    Indicator(
        59,
        "user_acceptance",
        "User acceptance",
        Capability.USER_EXPERIENCE,
        Task.USE,
        "System Usability Scale, acceptance and edit rates",
        "SUS from 0 to 100; higher is better",
    ),
)
