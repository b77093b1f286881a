"""The gate of an import: what is no number, or has no direction, is near nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from radserve.models.importing.imported import prepared_range
from radserve.models.importing.parity import _parity

REFERENCE = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, 0.0, -1.0])
def test_half_precision_that_overflows_or_vanishes_does_not_pass(spoilt: float) -> None:
    given = REFERENCE.copy()
    given[0] = spoilt
    assert not _parity("graph", "output", [(given, REFERENCE)]).passes("fp16")
    assert not _parity("graph", "output", [(given, REFERENCE)]).passes("fp32")


def test_rows_that_are_equal_or_nearly_pass_rows_of_zeros_too() -> None:
    near = REFERENCE * 1.001
    assert _parity("graph", "output", [(near, REFERENCE)]).passes("fp16")
    assert _parity("graph", "output", [(REFERENCE, REFERENCE)]).least_cosine == 1


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (("ScaleIntensityRange", {"a_min": 0, "a_max": 1, "b_min": -1024.0, "b_max": 1024.0}), (-1024, 1024)),
        (("ScaleIntensityRange", {"a_min": -1000, "a_max": 400}), (0, 1)),
        (("NormalizeIntensity", {"subtrahend": [0.5, 0.5], "divisor": [0.25, 0.25]}), (-2, 2)),
        (("NormalizeIntensity", {"nonzero": True}), (-3, 3)),
    ],
)
def test_graphs_are_tried_on_pixels_as_their_chain_gives_them(step: Any, expected: tuple[float, float]) -> None:
    assert prepared_range((("VoiWindow", {}), step)) == expected
