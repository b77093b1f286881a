"""Adversarial perturbations of images inside a maximum-norm ball, for any model that can give a gradient.

The model stays outside: `gradient(images, labels)` returns the gradient of its loss by the images, same shape.
Fast gradient sign method: Goodfellow, Shlens and Szegedy (2015). Projected gradient descent: Madry et al. (2018).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from radserve.evaluation.tables import BoolArray, FloatArray, refusal

Gradient = Callable[[FloatArray, BoolArray], FloatArray]


def fgsm(images: FloatArray, labels: BoolArray, gradient: Gradient, *, epsilon: float) -> FloatArray:
    """Return the images after one step of `epsilon` along the sign of the gradient, kept in [0, 1].

    `images` is (n, ...), float64 in [0, 1]. Raises INVALID_ARGUMENT for a negative epsilon and for a gradient of
    another shape or with a value that is not finite.
    """
    _check_epsilon(epsilon)
    return np.clip(images + epsilon * np.sign(_gradient(images, labels, gradient)), 0.0, 1.0)


def pgd(
    images: FloatArray,
    labels: BoolArray,
    gradient: Gradient,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float | None = None,
    seed: int | None = None,
) -> FloatArray:
    """Return the images after `steps` signed gradient steps, each projected on the ball of `epsilon` and on [0, 1].

    `step_size` is 2.5 * epsilon / steps unless given. With a `seed` the search starts at a random point of the ball.
    Raises as `fgsm` does, and for fewer than 1 step.
    """
    _check_epsilon(epsilon)
    if steps < 1:
        raise refusal(f"steps: got {steps}, expected at least 1")
    size = 2.5 * epsilon / steps if step_size is None else step_size
    low, high = np.maximum(images - epsilon, 0.0), np.minimum(images + epsilon, 1.0)
    moved = images
    if seed is not None:
        noise = np.random.default_rng(seed).uniform(-epsilon, epsilon, images.shape)
        moved = np.clip(images + noise, low, high)
    for _ in range(steps):
        moved = np.clip(moved + size * np.sign(_gradient(moved, labels, gradient)), low, high)
    return moved


def _check_epsilon(epsilon: float) -> None:
    if not epsilon >= 0:
        raise refusal(f"epsilon: got {epsilon}, expected 0 or more")


def _gradient(images: FloatArray, labels: BoolArray, gradient: Gradient) -> FloatArray:
    slope = gradient(images, labels)
    if slope.shape != images.shape:
        raise refusal(f"gradient: got shape {slope.shape}, expected that of the images, {images.shape}")
    if not np.isfinite(slope).all():
        raise refusal("gradient: got a value that is not finite")
    return slope
