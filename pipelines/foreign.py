"""What a result says of images unlike those its pack learned from, and of findings the pack cannot assess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from radserve.errors import ErrorCode, RequestError
from radserve.findings import Finding
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackInput
from radserve.pipelines.intended_use import IntendedUsePolicy
from radserve.pipelines.scoring import EncodedFrame
from radserve.results import ResultWarning, WarningCode

_FOREIGN = "An image is unlike those this model learned from, so what it says of it may mean nothing"


def gauge(pack: ModelPack, use: PackInput, found: Sequence[tuple[Finding, EncodedFrame]]) -> tuple[Finding, ...]:
    """The findings with the score of the input's gate for the frame each stands on; unchanged without a gate."""
    gate = pack.gates.get(use.name)
    if gate is None:
        return tuple(finding for finding, _ in found)
    return tuple(replace(finding, ood_score=float(gate.score(frame.image_tokens))) for finding, frame in found)


def check_findings(use: PackInput, findings: Sequence[Finding], policy: IntendedUsePolicy) -> tuple[ResultWarning, ...]:
    """Warn of findings on foreign images and of those without an answer.

    Raises RequestError OUTSIDE_INTENDED_USE for a foreign image when the policy is strict.
    """
    warnings = [
        ResultWarning(
            WarningCode.CANNOT_ASSESS,
            f"{each.label} cannot be assessed: a probability of {each.probability:.3f} was wrong too often.",
        )
        for each in findings
        if each.cannot_assess
    ]
    scores = [each.ood_score for each in findings if each.ood_score is not None]
    if use.gate and scores and max(scores) > use.gate.threshold:
        message = f"{_FOREIGN} (score {max(scores):.3g}, limit {use.gate.threshold:.3g})."
        if policy.strict:
            raise RequestError(ErrorCode.OUTSIDE_INTENDED_USE, f"the site's policy is strict: {message}")
        warnings.append(ResultWarning(WarningCode.OUT_OF_DISTRIBUTION, message))
    return tuple(warnings)
