"""Pointing game, deletion and insertion, weight randomisation: planted maps with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from radserve.errors import RadserveError
from radserve.evaluation.explainability import deletion, insertion, map_similarity, pointing_game, randomisation_check

FloatArray = NDArray[np.float64]


def planted(count: int = 60, seed: int = 0) -> tuple[list[FloatArray], list[NDArray[np.bool_]]]:
    """Maps whose maximum lies in a disc-like lesion, with noise elsewhere."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for _ in range(count):
        row, column = rng.integers(4, 24, size=2)
        mask = np.zeros((28, 28), dtype=np.bool_)
        mask[row - 2 : row + 3, column - 2 : column + 3] = True
        saliency = rng.uniform(0, 1, (28, 28))
        saliency[row, column] = 2.0
        maps.append(saliency)
        masks.append(mask)
    return maps, masks


def test_planted_lesions_are_all_hit_and_random_maps_hit_their_area() -> None:
    maps, masks = planted()
    assert pointing_game(maps, masks).mean() >= 0.9
    rng = np.random.default_rng(9)
    random_maps = [rng.uniform(size=(28, 28)) for _ in maps]
    assert pointing_game(random_maps, masks).mean() < 0.2  # 25 of 784 pixels


def test_a_constant_map_earns_the_share_of_the_lesion() -> None:
    mask = np.zeros((4, 5), dtype=np.bool_)
    mask[0, :2] = True
    assert pointing_game([np.ones((4, 5))], [mask])[0] == pytest.approx(2 / 20)


def test_tolerance_widens_the_lesion_by_pixels() -> None:
    saliency, mask = np.zeros((9, 9)), np.zeros((9, 9), dtype=np.bool_)
    saliency[2, 2], mask[4, 4] = 1.0, True
    assert pointing_game([saliency], [mask], tolerance_px=1)[0] == 0
    assert pointing_game([saliency], [mask], tolerance_px=2)[0] == 1


def test_maps_that_cannot_be_judged_are_refused() -> None:
    mask = np.ones((2, 2), dtype=np.bool_)
    with pytest.raises(RadserveError, match="marks no pixel"):
        pointing_game([np.ones((2, 2))], [~mask])
    with pytest.raises(RadserveError, match="map 1: has a NaN"):
        pointing_game([np.array([[0, np.nan], [0, 0]])], [mask])
    with pytest.raises(RadserveError, match=r"got shape \(2, 2\), expected \(3, 3\)"):
        pointing_game([np.ones((3, 3))], [mask])
    with pytest.raises(RadserveError, match="got 0 maps"):
        pointing_game([], [])


WEIGHTS = np.random.default_rng(4).uniform(0, 1, (8, 8))


def weighted_sum(batch: FloatArray) -> FloatArray:
    """A linear model whose true importance of a pixel is its weight."""
    return np.asarray((batch * WEIGHTS).sum(axis=(1, 2)) / WEIGHTS.sum())


def test_deletion_of_a_linear_model_has_the_area_of_its_definition() -> None:
    curve = deletion(np.ones((8, 8)), WEIGHTS, weighted_sum, baseline=0.0, steps=64)
    gone = np.concatenate([[0], np.cumsum(np.sort(WEIGHTS.ravel())[::-1])]) / WEIGHTS.sum()
    assert curve.score == pytest.approx(1 - gone)
    assert curve.area == pytest.approx(np.mean((1 - gone[:-1] + 1 - gone[1:]) / 2))
    assert curve.score[0] == pytest.approx(1)
    assert curve.score[-1] == pytest.approx(0)


def test_insertion_mirrors_deletion_of_a_linear_model() -> None:
    out = deletion(np.ones((8, 8)), WEIGHTS, weighted_sum, baseline=0.0)
    back = insertion(np.ones((8, 8)), WEIGHTS, weighted_sum, baseline=0.0)
    assert back.score == pytest.approx(1 - out.score)
    assert back.area == pytest.approx(1 - out.area)


def test_the_true_map_deletes_sooner_than_a_random_and_an_inverted_one() -> None:
    shuffled = np.random.default_rng(1).permutation(WEIGHTS.ravel()).reshape(8, 8)
    areas = [deletion(np.ones((8, 8)), each, weighted_sum, baseline=0.0).area for each in (WEIGHTS, shuffled, -WEIGHTS)]
    assert areas == sorted(areas)
    assert areas[0] < areas[1] < areas[2]


def test_a_scorer_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(RadserveError, match="score: got shape"):
        deletion(np.ones((8, 8)), WEIGHTS, lambda batch: batch, baseline=0.0)


def test_colour_images_keep_their_channels() -> None:
    curve = deletion(np.ones((8, 8, 3)), WEIGHTS, lambda batch: batch.mean(axis=(1, 2, 3)), baseline=0.0, steps=4)
    assert curve.score == pytest.approx(1 - curve.fraction)


def test_rank_similarity_is_spearmans_and_ssim_of_a_map_with_itself_is_1() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(16, 16)), rng.normal(size=(16, 16))
    assert map_similarity(a, b).spearman == pytest.approx(stats.spearmanr(a.ravel(), b.ravel()).statistic)
    assert map_similarity(a, a).ssim == pytest.approx(1)
    assert map_similarity(a, 3 * a + 5).ssim == pytest.approx(1)


def test_ssim_equals_scikit_images_value() -> None:
    # scikit-image 0.26.0: structural_similarity(a, b, data_range=1.0) of the two arrays below, scaled to 0..1
    grid = np.arange(144, dtype=np.float64).reshape(12, 12)
    a, b = np.sin(grid / 7), np.sin(grid / 7 + 0.4) + 0.2 * np.cos(grid)
    ssim = map_similarity(a, b).ssim
    assert ssim == pytest.approx(0.8976026661537728, abs=1e-12)


def test_random_weights_lower_the_similarity_of_a_map_that_explains_the_model() -> None:
    rng = np.random.default_rng(7)
    trained = [rng.normal(size=(14, 14)) for _ in range(20)]
    others = [rng.normal(size=(14, 14)) for _ in range(20)]
    honest = randomisation_check(trained, others)
    assert honest.passed is True
    assert honest.mean_absolute_spearman is not None
    assert honest.mean_absolute_spearman < 0.2
    edges = [each + 0.05 * rng.normal(size=(14, 14)) for each in trained]  # a map that only copies the image
    assert randomisation_check(trained, edges).passed is False


def test_constant_maps_give_no_verdict_but_a_reason() -> None:
    check = randomisation_check([np.zeros((8, 8))], [np.zeros((8, 8))])
    assert (check.passed, check.mean_absolute_spearman) == (None, None)
    assert check.reason == "every pair has a constant map"
