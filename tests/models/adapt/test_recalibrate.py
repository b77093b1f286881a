"""Recalibration: the error falls on data it was not fitted on, the order and the decisions stay."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.calibrators import Method
from radserve.findings import CodedConcept
from radserve.models.adapt.calibrate import Calibrated
from radserve.models.adapt.dataset import LabelledImages
from radserve.models.adapt.recalibrate import moved, recalibrate
from radserve.models.pack_types import PackLabel, PromptScoring

CODE = CodedConcept("233604007", "SCT", "Pneumonia")


def label(threshold: float = 0.3) -> PackLabel:
    return PackLabel(name="P", code=CODE, site=CODE, scoring=PromptScoring("prompts", 10.0), threshold=threshold)


def site(scale: float, shift: float) -> tuple[LabelledImages, np.ndarray]:
    """3,000 / 3,000 cases; logits are wrong by a factor and a shift: sigmoid(logit / scale - shift) is true."""
    rng = np.random.default_rng(0)
    true = rng.normal(-0.5, 1.5, 6000)
    positive = rng.random(6000) < expit(true)
    images = [np.zeros((1, 1), np.uint8)] * 6000
    patients = np.array([str(number) for number in range(6000)])
    return LabelledImages(images, positive, patients, np.repeat(["train", "val"], 3000)), (true + shift) * scale


@pytest.mark.parametrize(("method", "scale", "shift"), [(Method.TEMPERATURE, 3.0, 0.0), (Method.PLATT, 2.0, 1.5)])
def test_the_calibration_error_falls_and_the_order_stays(method: Method, scale: float, shift: float) -> None:
    made = recalibrate(label(), *site(scale, shift), method)
    by_method = {each.method: each for each in made.figures}
    assert made.passed
    assert by_method[method].ece < 0.03 < 0.08 < by_method["before"].ece
    assert by_method[method].auroc == by_method["before"].auroc
    assert by_method["isotonic"].ece < 0.04
    assert made.calibrated.temperature == pytest.approx(scale, rel=0.1)
    assert made.calibrated.offset == pytest.approx(-shift, abs=0.15)


def test_the_threshold_moves_along_so_that_decisions_stay() -> None:
    data, logits = site(2.0, 1.5)
    made = recalibrate(label(0.3), data, logits, Method.PLATT)
    before = Calibrated(1.0, 0.0, 0.3).probabilities(logits) >= 0.3
    after = made.calibrated.probabilities(logits) >= made.calibrated.threshold
    assert made.calibrated.threshold != pytest.approx(0.3, abs=0.05)
    assert (before == after).all()
    assert moved(1.0, Calibrated(1.0, 0.0, 0.5), made.calibrated) == 1.0


def test_what_a_pack_cannot_state_is_refused() -> None:
    with pytest.raises(RadserveError, match="got 'isotonic', expected temperature or platt") as caught:
        recalibrate(label(), *site(1.0, 0.0), Method.ISOTONIC)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
