"""What a pack may be used for: warnings by default, refusals where the site is strict."""

from __future__ import annotations

import pytest

from radserve.clinical_context import ClinicalContext
from radserve.errors import ErrorCode, RequestError
from radserve.models.pack_types import IntendedUse, PackInput, TransformSpec
from radserve.pipelines.intended_use import IntendedUsePolicy, check_conflicts, check_intended_use
from radserve.references import AcquisitionContext
from radserve.results import WarningCode

CHEST = PackInput(
    name="chest",
    modalities=("CR", "DX"),
    body_parts=("CHEST",),
    labels=("Pneumonia",),
    preprocess=(TransformSpec("VoiWindow"),),
    intended_use=IntendedUse(age_years=(1.0, 5.0), views=("AP", "PA")),
)
CHILD = AcquisitionContext("CR", body_part="CHEST", view_position="AP", age_years=3.0)
NOTHING = ClinicalContext()
WARN, STRICT = IntendedUsePolicy(), IntendedUsePolicy(strict=True)


def codes(acquisition: AcquisitionContext, context: ClinicalContext = NOTHING) -> list[WarningCode]:
    return [warning.code for warning in check_intended_use(CHEST, acquisition, context, WARN)]


def test_a_study_inside_the_intended_use_has_no_warning_and_passes_a_strict_site() -> None:
    assert codes(CHILD) == []
    assert check_intended_use(CHEST, CHILD, NOTHING, STRICT) == ()


def test_an_unknown_age_is_warned_of_in_plain_words() -> None:
    unknown = AcquisitionContext("CR", body_part="CHEST", view_position="AP")
    (warning,) = check_intended_use(CHEST, unknown, NOTHING, WARN)
    assert warning.code is WarningCode.INTENDED_USE_UNKNOWN
    assert warning.message == "The patient's age is unknown; this model is for patients from 1 to 5 years."


def test_the_request_may_supply_the_age_that_the_images_lack() -> None:
    unknown = AcquisitionContext("CR", body_part="CHEST", view_position="AP")
    assert codes(unknown, ClinicalContext(age_years=3)) == []
    assert codes(unknown, ClinicalContext(age_years=64)) == [WarningCode.OUTSIDE_INTENDED_USE]


@pytest.mark.parametrize(("age", "outside"), [(0.9, True), (1.0, False), (5.0, False), (5.9, False), (6.0, True)])
def test_ages_count_in_completed_years(age: float, outside: bool) -> None:
    acquisition = AcquisitionContext("CR", body_part="CHEST", view_position="AP", age_years=age)
    assert bool(codes(acquisition)) is outside


def test_another_body_part_and_view_are_each_warned_of() -> None:
    leg = AcquisitionContext("CR", body_part="LEG", view_position="LL", age_years=3)
    assert codes(leg) == [WarningCode.OUTSIDE_INTENDED_USE] * 2


def test_a_strict_site_refuses_with_every_reason_and_without_the_age() -> None:
    adult = AcquisitionContext("CR", body_part="LEG", view_position="AP", age_years=64)
    with pytest.raises(RequestError) as caught:
        check_intended_use(CHEST, adult, NOTHING, STRICT)
    assert caught.value.code is ErrorCode.OUTSIDE_INTENDED_USE
    assert "'LEG'" in caught.value.client_message
    assert "from 1 to 5 years" in caught.value.client_message
    assert "64" not in caught.value.client_message


def test_a_strict_site_refuses_what_is_unknown_too() -> None:
    with pytest.raises(RequestError, match="unknown"):
        check_intended_use(CHEST, AcquisitionContext("CR", "CHEST", "PA"), NOTHING, STRICT)


def test_request_and_images_that_disagree_are_named() -> None:
    images = AcquisitionContext("CR", patient_sex="F", age_years=3)
    warnings = check_conflicts(images, ClinicalContext(sex="M", age_years=30))
    assert [warning.code for warning in warnings] == [WarningCode.CONTEXT_CONFLICT] * 2
    assert check_conflicts(images, ClinicalContext(sex="F", age_years=3.5)) == ()
