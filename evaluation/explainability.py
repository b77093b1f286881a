"""Does a saliency map point at what matters? Pointing game, deletion and insertion curves, weight randomisation.

Maps are (rows, columns) arrays in the pixel grid of the image they explain; a higher value means more important.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from radserve.evaluation.tables import refusal

FloatArray = NDArray[np.float64]
ScoreImages = Callable[[FloatArray], FloatArray]
SSIM_WINDOW = 7  # pixels, as in the uniform-window form of Wang et al. 2004


def pointing_game(
    maps: Sequence[NDArray[np.generic]], masks: Sequence[NDArray[np.generic]], *, tolerance_px: int = 0
) -> FloatArray:
    """Return for each map whether its maximum lies in the lesion: 1 or 0, shape (maps,).

    `masks[i]` is true where the lesion is; `tolerance_px` widens it by so many pixels in each direction (Zhang et al.,
    IJCV 2018, use 15 on photographs). Where several pixels share the maximum, the value is the fraction of them that
    lies inside, so that a constant map earns the lesion's area and not a lucky 1.

    Raises RadserveError INVALID_ARGUMENT for no maps, another shape, a NaN, or an empty mask.
    """
    if not len(maps) or len(maps) != len(masks):
        raise refusal(f"maps: got {len(maps)} maps and {len(masks)} masks, expected as many and at least one")
    hits = []
    for number, (saliency, mask) in enumerate(zip(maps, masks, strict=True), start=1):
        values, inside = _map(saliency, number), np.asarray(mask, dtype=np.bool_)
        if inside.shape != values.shape:
            raise refusal(f"mask {number}: got shape {inside.shape}, expected {values.shape} as its map")
        if not inside.any():
            raise refusal(f"mask {number}: marks no pixel, so there is nothing to point at")
        if tolerance_px:
            inside = ndimage.binary_dilation(inside, np.ones((3, 3)), iterations=tolerance_px)
        hits.append(inside[values == values.max()].mean())
    return np.array(hits, dtype=np.float64)


@dataclass(frozen=True)
class PerturbationCurve:
    """The model's score against the fraction of pixels changed, 0 to 1, and the area under it (trapezium rule)."""

    fraction: FloatArray
    score: FloatArray
    area: float


def deletion(
    image: NDArray[np.generic], saliency: NDArray[np.generic], score: ScoreImages, *, baseline: float, steps: int = 50
) -> PerturbationCurve:
    """Replace the most salient pixels by `baseline`, step by step: a good map makes the score fall soon (small area).

    `image` is (rows, columns) or (rows, columns, channels); `score` takes a batch (n, *image.shape), float64, and gives
    (n,). Petsiuk et al., RISE, BMVC 2018. The baseline is a choice that changes the values: state it with them.
    """
    start = np.asarray(image, dtype=np.float64)
    return _perturbed(start, np.full_like(start, baseline), saliency, score, steps)


def insertion(
    image: NDArray[np.generic], saliency: NDArray[np.generic], score: ScoreImages, *, baseline: float, steps: int = 50
) -> PerturbationCurve:
    """Start from an image of `baseline` and put the most salient pixels back: a good map has a large area."""
    end = np.asarray(image, dtype=np.float64)
    return _perturbed(np.full_like(end, baseline), end, saliency, score, steps)


@dataclass(frozen=True)
class MapSimilarity:
    """How alike two maps are: Spearman's rank correlation and mean SSIM; None where a constant map leaves none."""

    spearman: float | None
    ssim: float | None


def map_similarity(one: NDArray[np.generic], other: NDArray[np.generic]) -> MapSimilarity:
    """Compare two maps of the same image, each scaled to 0..1 first."""
    a, b = _map(one, 1), _map(other, 2)
    if a.shape != b.shape:
        raise refusal(f"maps: got shapes {a.shape} and {b.shape}, expected the same")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return MapSimilarity(None, None)
    rank = float(stats.spearmanr(a.ravel(), b.ravel()).statistic)
    return MapSimilarity(rank, _ssim(_scaled(a), _scaled(b)) if min(a.shape) >= SSIM_WINDOW else None)


@dataclass(frozen=True)
class RandomisationCheck:
    """Whether maps change when the model's weights are replaced by random ones; `similarities` per image."""

    similarities: tuple[MapSimilarity, ...]
    mean_absolute_spearman: float | None
    limit: float
    passed: bool | None
    reason: str | None


def randomisation_check(
    trained: Sequence[NDArray[np.generic]], randomised: Sequence[NDArray[np.generic]], *, limit: float = 0.5
) -> RandomisationCheck:
    """Compare maps of the trained model with maps of the same images by the model with random weights.

    A map that hardly changes does not explain the model but the image (Adebayo et al., NeurIPS 2018): the check passes
    when the mean absolute rank correlation is under `limit`. Maps that are constant are left out; with none left the
    result is None with the reason.
    """
    if not len(trained) or len(trained) != len(randomised):
        raise refusal(f"maps: got {len(trained)} trained and {len(randomised)} randomised, expected as many")
    similarities = tuple(map_similarity(a, b) for a, b in zip(trained, randomised, strict=True))
    ranks = [abs(each.spearman) for each in similarities if each.spearman is not None]
    if not ranks:
        return RandomisationCheck(similarities, None, limit, None, "every pair has a constant map")
    mean = float(np.mean(ranks))
    return RandomisationCheck(similarities, mean, limit, mean < limit, None)


def _perturbed(
    start: FloatArray, end: FloatArray, saliency: NDArray[np.generic], score: ScoreImages, steps: int
) -> PerturbationCurve:
    values = _map(saliency, 1)
    if start.shape[:2] != values.shape:
        raise refusal(f"map: got shape {values.shape}, expected {start.shape[:2]} as the image")
    if steps < 1:
        raise refusal(f"steps: got {steps}, expected at least 1")
    order = np.argsort(-values, axis=None, kind="stable")
    counts = np.unique(np.linspace(0, order.size, steps + 1).round().astype(np.int64))
    batch = np.repeat(start[np.newaxis], len(counts), axis=0)
    pixels = batch.reshape(len(counts), order.size, -1)
    goal = end.reshape(order.size, -1)
    for row, count in enumerate(counts):
        pixels[row, order[:count]] = goal[order[:count]]
    scores = np.asarray(score(batch), dtype=np.float64)
    if scores.shape != (len(counts),) or not np.isfinite(scores).all():
        raise refusal(f"score: got shape {scores.shape} or a value that is not finite, expected ({len(counts)},)")
    fraction = counts / order.size
    return PerturbationCurve(fraction, scores, float(np.trapz(scores, fraction)))


def _map(saliency: NDArray[np.generic], number: int) -> FloatArray:
    values = np.asarray(saliency, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise refusal(f"map {number}: got shape {values.shape}, expected (rows, columns)")
    if not np.isfinite(values).all():
        raise refusal(f"map {number}: has a NaN or an infinity")
    return values


def _scaled(values: FloatArray) -> FloatArray:
    return np.asarray((values - values.min()) / np.ptp(values))


def _ssim(a: FloatArray, b: FloatArray) -> float:
    """Return the mean structural similarity (Wang et al., IEEE TIP 2004), uniform window, unbiased covariances."""
    pixels = SSIM_WINDOW**2
    unbiased = pixels / (pixels - 1)
    mean_a, mean_b = ndimage.uniform_filter(a, SSIM_WINDOW), ndimage.uniform_filter(b, SSIM_WINDOW)
    var_a = unbiased * (ndimage.uniform_filter(a * a, SSIM_WINDOW) - mean_a**2)
    var_b = unbiased * (ndimage.uniform_filter(b * b, SSIM_WINDOW) - mean_b**2)
    cov = unbiased * (ndimage.uniform_filter(a * b, SSIM_WINDOW) - mean_a * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    local = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    inner = SSIM_WINDOW // 2
    return float(local[inner : a.shape[0] - inner, inner : a.shape[1] - inner].mean())
