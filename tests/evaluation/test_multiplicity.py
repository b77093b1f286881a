"""Corrections against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radserve.evaluation.multiplicity import Correction, adjust
from tests.evaluation.peers import adjusted_by_statsmodels


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.sampled_from(list(Correction)))
@settings(max_examples=50, deadline=None)
def test_adjusted_p_values_equal_statsmodels(p_values: list[float], correction: Correction) -> None:
    method = {Correction.HOLM: "holm", Correction.BENJAMINI_HOCHBERG: "fdr_bh"}[correction]
    assert adjust(p_values, correction) == pytest.approx(adjusted_by_statsmodels(p_values, method), abs=1e-12)


@pytest.mark.parametrize("correction", list(Correction))
def test_an_undefined_p_value_stays_and_does_not_count(correction: Correction) -> None:
    adjusted = adjust([0.01, float("nan"), 0.04], correction)
    assert np.isnan(adjusted[1])
    assert (adjusted[0], adjusted[2]) == adjust([0.01, 0.04], correction)
