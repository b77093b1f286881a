"""Other packages as tests compare with them."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from statsmodels.stats.multitest import multipletests


def adjusted_by_statsmodels(p_values: Sequence[float], method: str) -> npt.NDArray[np.float64]:
    """The adjusted p values of `multipletests`.

    It collects garbage at every call, which takes half a second where torch is loaded: what was there is put aside.
    """
    gc.freeze()
    try:
        adjusted: npt.NDArray[np.float64] = multipletests(p_values, method=method)[1]
    finally:
        gc.unfreeze()
    return adjusted
