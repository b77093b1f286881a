"""What a pack may be used for, checked at request time: modality, body part, view, age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from radserve.clinical_context import ClinicalContext
from radserve.errors import ErrorCode, RequestError
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackInput
from radserve.references import AcquisitionContext
from radserve.results import ResultWarning, WarningCode


@dataclass(frozen=True, slots=True)
class IntendedUsePolicy:
    """What the site wants done with a study outside a pack's intended use: a warning, or (strict) a refusal."""

    strict: bool = False


def input_for(pack: ModelPack, acquisition: AcquisitionContext) -> PackInput | None:
    """The pack's input for a series: same modality, and the same body part where several inputs take the modality."""
    fitting = [each for each in pack.inputs if acquisition.modality in each.modalities]
    by_body_part = [each for each in fitting if acquisition.body_part.upper() in each.body_parts]
    return next(iter(by_body_part + fitting), None)


def check_intended_use(
    use: PackInput, acquisition: AcquisitionContext, context: ClinicalContext, policy: IntendedUsePolicy
) -> tuple[ResultWarning, ...]:
    """Say in plain words where the study leaves the intended use of `use`, or where that cannot be known.

    Raises RequestError OUTSIDE_INTENDED_USE with every reason when the policy is strict and there is one.
    """
    warnings = (
        *_check_named("body part", acquisition.body_part, use.body_parts),
        *_check_named("view", acquisition.view_position, use.intended_use.views),
        *_check_age(use, acquisition, context),
    )
    if policy.strict and warnings:
        reasons = "; ".join(warning.message for warning in warnings)
        raise RequestError(ErrorCode.OUTSIDE_INTENDED_USE, f"the site's policy is strict: {reasons}")
    return warnings


def _check_named(what: str, value: str, allowed: Sequence[str]) -> tuple[ResultWarning, ...]:
    if not allowed or value.upper() in allowed:
        return ()
    if not value:
        message = f"The images do not say their {what}; this model is for {what} {' or '.join(allowed)}."
        return (ResultWarning(WarningCode.INTENDED_USE_UNKNOWN, message),)
    message = f"The images say {what} {value!r}; this model is for {what} {' or '.join(allowed)}."
    return (ResultWarning(WarningCode.OUTSIDE_INTENDED_USE, message),)


def _check_age(use: PackInput, acquisition: AcquisitionContext, context: ClinicalContext) -> tuple[ResultWarning, ...]:
    if use.intended_use.age_years is None:
        return ()
    least, greatest = use.intended_use.age_years
    ages = {"request": context.age_years, "images": acquisition.age_years}
    known = {source: age for source, age in ages.items() if age is not None}
    span = f"patients from {least:g} to {greatest:g} years"
    if not known:
        message = f"The patient's age is unknown; this model is for {span}."
        return (ResultWarning(WarningCode.INTENDED_USE_UNKNOWN, message),)
    # Ages count in completed years: five years and ten months is five. The age itself stays out of the message.
    return tuple(
        ResultWarning(
            WarningCode.OUTSIDE_INTENDED_USE,
            f"The patient's age, by the {source}, is outside the intended range; this model is for {span}.",
        )
        for source, age in known.items()
        if not least <= age < greatest + 1
    )


def check_conflicts(acquisition: AcquisitionContext, context: ClinicalContext) -> tuple[ResultWarning, ...]:
    """Say where the requester and the image headers speak differently of the patient."""
    warnings = []
    if context.sex and acquisition.patient_sex and context.sex != acquisition.patient_sex:
        warnings.append("The request and the images give different sexes of the patient.")
    ages = (context.age_years, acquisition.age_years)
    if ages[0] is not None and ages[1] is not None and abs(ages[0] - ages[1]) > 1:
        warnings.append("The request and the images give ages of the patient more than a year apart.")
    return tuple(ResultWarning(WarningCode.CONTEXT_CONFLICT, message) for message in warnings)
