"""The map of a site's grey values: it rises, stands where the chain normalises, and needs something to map to."""

from __future__ import annotations

import numpy as np
import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.models.adapt.normalise import IntensityMap, estimate, place_of_map
from radserve.models.pack_types import PackInput, TransformSpec

WINDOW = TransformSpec("VoiWindow", {})


def use(*steps: TransformSpec) -> PackInput:
    return PackInput("chest", ("CR",), (), ("P",), (WINDOW, *steps))


def applied(found: IntensityMap, values: np.ndarray) -> np.ndarray:
    return np.interp(values, found.source, found.target)


def test_quantiles_of_the_site_become_those_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    reference = rng.beta(2, 3, (50, 1, 20, 20))
    site = 0.7 * reference**1.8 + 0.1  # gamma, gain and offset
    found = estimate(use(TransformSpec("NormalizeIntensity", {})), site, reference)
    assert (found.method, found.place) == ("quantiles", 1)
    np.testing.assert_allclose(
        np.percentile(applied(found, site), [5, 25, 50, 75, 95]),
        np.percentile(reference, [5, 25, 50, 75, 95]),
        atol=1e-3,
    )
    assert (np.diff(found.source) > 0).all()
    assert (np.diff(found.target) > 0).all()
    assert found.within(use(TransformSpec("NormalizeIntensity", {}))).preprocess[1] == TransformSpec(
        "MapIntensity", {"source": found.source, "target": found.target}
    )


def test_without_a_reference_mean_and_deviation_become_those_that_the_chain_states() -> None:
    site = np.random.default_rng(1).normal(0.2, 0.05, (20, 1, 9, 9))
    stated = TransformSpec(
        "NormalizeIntensity", {"subtrahend": (0.5, 0.4), "divisor": (0.2, 0.3), "channel_wise": True}
    )
    found = estimate(use(TransformSpec("RepeatChannel", {"repeats": 2}), stated), site, None)
    assert (found.method, found.place) == ("mean and standard deviation", 2)
    slope = (found.target[1] - found.target[0]) / (found.source[1] - found.source[0])
    mapped = found.target[0] + slope * (site - found.source[0])
    assert mapped.mean() == pytest.approx(0.45)
    assert mapped.std() == pytest.approx(0.25)


def test_a_chain_that_does_not_normalise_is_mapped_at_its_end() -> None:
    assert place_of_map(use(TransformSpec("CropToSquare", {}))) == 2


@pytest.mark.parametrize(
    ("steps", "site", "reference", "cause"),
    [
        ((TransformSpec("NormalizeIntensity", {}),), np.ones((1, 1, 2, 2)), None, "states no mean"),
        ((), np.arange(4.0).reshape(1, 1, 2, 2), None, "states no mean"),
        ((), np.ones((1, 1, 2, 2)), np.arange(4.0), "one grey value"),
        (
            (TransformSpec("MapIntensity", {"source": (0, 1), "target": (0, 2)}),),
            np.arange(4.0),
            np.arange(4.0),
            "already",
        ),
    ],
)
def test_what_cannot_be_mapped_is_refused(
    steps: tuple[TransformSpec, ...], site: np.ndarray, reference: np.ndarray | None, cause: str
) -> None:
    with pytest.raises(RadserveError, match=cause) as caught:
        estimate(use(*steps), site, reference)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
