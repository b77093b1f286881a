"""Corruptions, adversarial steps and what a report makes of them."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.adversarial import fgsm, pgd
from radserve.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from radserve.evaluation.robustness import assess_robustness, corrupted_scores, flip_rate

Images = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]


def disc_images(n: int = 120, side: int = 28, seed: int = 0) -> tuple[Images, Labels]:
    """Noise about 0.45; the positive ones have a small bright disc in the middle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] - side / 2
    disc = np.clip((side / 10 - np.hypot(y, x)) / 2, 0, 1)
    labels = np.arange(n) % 2 == 0
    base = 0.45 + 0.03 * rng.standard_normal((n, side, side)) + 0.03 * rng.standard_normal((n, 1, 1))
    return np.clip(base + np.where(labels, 0.12, 0.0)[:, None, None] * disc, 0, 1), labels


def template_score(images: list[npt.NDArray[np.floating]]) -> npt.NDArray[np.float64]:
    """The matched filter of the disc, as a probability at threshold 0.5."""
    side = images[0].shape[0]
    y, x = np.mgrid[0:side, 0:side] - side / 2
    disc = np.clip((side / 10 - np.hypot(y, x)) / 2, 0, 1)
    weights = disc / disc.sum() - (1 - disc) / (1 - disc).sum()
    contrast = np.array([np.sum(weights * image) for image in images])
    return np.asarray(1 / (1 + np.exp(-40 * (contrast - 0.05))), np.float64)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_each_corruption_is_repeatable_stays_in_range_and_changes_the_image(name: str) -> None:
    image = disc_images(1, 48)[0][0].astype(np.float32)
    kept = image.copy()
    clean = corrupt(image, name, 0, seed=3)
    np.testing.assert_array_equal(clean, image)
    assert clean is not image
    for severity in SEVERITIES:
        changed = corrupt(image, name, severity, seed=3)
        assert (changed.shape, changed.dtype) == (image.shape, image.dtype)
        assert changed.min() >= 0 and changed.max() <= 1
        assert not np.array_equal(changed, image)
        np.testing.assert_array_equal(changed, corrupt(image, name, severity, seed=3))
    np.testing.assert_array_equal(image, kept)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_each_corruption_grows_with_its_severity(name: str) -> None:
    images = disc_images(8, 64)[0]
    distances = [
        np.mean([np.abs(corrupt(im, name, s, seed=1, index=i) - im).mean() for i, im in enumerate(images)])
        for s in (0, *SEVERITIES)
    ]
    assert distances[0] == 0
    assert np.all(np.diff(distances) > 0), distances


def test_seed_and_index_change_the_noise() -> None:
    image = disc_images(1)[0][0]
    one = corrupt(image, "gaussian_noise", 3, seed=1, index=0)
    assert not np.array_equal(one, corrupt(image, "gaussian_noise", 3, seed=2, index=0))
    assert not np.array_equal(one, corrupt(image, "gaussian_noise", 3, seed=1, index=1))


def test_noise_has_its_stated_standard_deviation() -> None:
    flat = np.full((400, 400), 0.5)
    noise = corrupt(flat, "gaussian_noise", 2, seed=0) - flat
    assert noise.std() == pytest.approx(0.05, rel=0.02)
    shot = corrupt(flat, "shot_noise", 2, seed=0) - flat
    assert shot.std() == pytest.approx((0.5 / 120) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("image", "name", "severity", "message"),
    [
        (np.zeros((4, 4)), "fog", 1, "corruption: got 'fog'"),
        (np.zeros((4, 4)), "jpeg", 6, "severity: got 6"),
        (np.zeros((4, 4, 3)), "jpeg", 1, r"shape \(4, 4, 3\)"),
        (np.zeros((4, 4), np.uint8), "jpeg", 1, "uint8"),
        (np.full((4, 4), 2.0), "jpeg", 1, "from 2.0 to 2.0"),
        (np.full((4, 4), np.nan), "jpeg", 1, "nan"),
    ],
)
def test_what_cannot_be_corrupted_is_refused(image: Images, name: str, severity: int, message: str) -> None:
    with pytest.raises(RadserveError, match=message) as caught:
        corrupt(image, name, severity, seed=0)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_severity_0_reproduces_the_clean_auroc_exactly_and_flips_nothing() -> None:
    images, labels = disc_images()
    clean = template_score(list(images))
    scores = corrupted_scores(template_score, list(images), CORRUPTIONS, severities=(0,), seed=1)
    report = assess_robustness(labels, clean, scores, threshold=0.5)
    assert {each.auroc for each in report.conditions} == {report.clean_auroc}
    assert {each.auroc_drop for each in report.conditions} == {0.0}
    assert {each.flip_rate for each in report.conditions} == {0.0}


def test_drop_and_flip_rate_are_monotone_on_the_planted_set_and_equal_scikit_learn() -> None:
    images, labels = disc_images(160)
    clean = template_score(list(images))
    planted = ["gaussian_noise", "shot_noise", "gaussian_blur", "contrast"]
    scores = corrupted_scores(template_score, list(images), planted, seed=1)
    report = assess_robustness(labels, clean, scores, threshold=0.5)
    assert report.clean_auroc > 0.99
    for name in planted:
        rows = [each for each in report.conditions if each.corruption == name]
        assert [each.severity for each in rows] == list(SEVERITIES)
        flips = [each.flip_rate for each in rows]
        assert all(a <= b for a, b in itertools.pairwise(flips)), (name, flips)
        assert flips[-1] > flips[0]
    noisy = [each.auroc_drop for each in report.conditions if each.corruption == "gaussian_noise"]
    assert all(a <= b for a, b in itertools.pairwise(noisy))
    assert noisy[-1] > 0.02
    for each in report.conditions:
        values = scores[each.corruption, each.severity]
        assert each.auroc == pytest.approx(roc_auc_score(labels, values), abs=1e-12)
        assert each.balanced_error == pytest.approx(1 - balanced_accuracy_score(labels, values >= 0.5), abs=1e-12)


def test_the_baseline_itself_has_relative_error_1_and_a_better_model_less() -> None:
    images, labels = disc_images(160)
    clean = template_score(list(images))
    names = ["gaussian_noise", "gaussian_blur"]
    scores = corrupted_scores(template_score, list(images), names, severities=(3, 4, 5), seed=1)
    itself = assess_robustness(labels, clean, scores, threshold=0.5, baseline_clean=clean, baseline=scores)
    assert (itself.mean_relative_error, itself.mean_corruption_error) == (1.0, 1.0)
    assert [each.relative_error for each in itself.corruptions] == [1.0, 1.0]
    halfway = {condition: np.where(np.arange(160) % 3, clean, values) for condition, values in scores.items()}
    better = assess_robustness(labels, clean, halfway, threshold=0.5, baseline_clean=clean, baseline=scores)
    assert better.mean_relative_error is not None
    assert 0 < better.mean_relative_error < 0.7


def test_without_a_baseline_or_its_error_the_relative_error_is_null_with_the_reason() -> None:
    labels = np.array([True, False, True, False])
    clean = np.array([0.9, 0.1, 0.8, 0.2])
    same = {("blur", 1): clean}
    report = assess_robustness(labels, clean, same, threshold=0.5)
    assert report.mean_relative_error is None
    assert "no baseline" in report.warnings[0]
    report = assess_robustness(labels, clean, same, threshold=0.5, baseline_clean=clean, baseline=same)
    assert report.mean_relative_error is None
    assert "undefined" in report.warnings[0]
    with pytest.raises(RadserveError, match="baseline"):
        assess_robustness(labels, clean, same, threshold=0.5, baseline_clean=clean, baseline={("blur", 2): clean})
    with pytest.raises(RadserveError, match="at least one condition"):
        assess_robustness(labels, clean, {}, threshold=0.5)


def test_a_drop_whose_variance_is_zero_has_no_test_and_says_so() -> None:
    labels = np.array([True, True, False, False])
    report = assess_robustness(
        labels, np.array([0.9, 0.8, 0.2, 0.1]), {("blur", 2): np.array([0.1, 0.2, 0.8, 0.9])}, threshold=0.5
    )
    (condition,) = report.conditions
    assert condition.auroc_drop == 1.0
    assert np.isnan(condition.auroc_drop_p)
    assert report.warnings[0].startswith("blur@2: auroc_drop: the areas differ and their difference has variance 0")


def test_a_scoring_function_that_loses_an_image_is_refused() -> None:
    images, _ = disc_images(4)
    with pytest.raises(RadserveError, match=r"shape \(3,\), expected \(4,\)"):
        corrupted_scores(lambda given: template_score(given)[:3], list(images), ["jpeg"], severities=(1,), seed=0)


class Logistic:
    """A tiny model whose gradient is known: cross-entropy of sigmoid(w . x + b)."""

    def __init__(self, images: Images, labels: Labels) -> None:
        flat = images.reshape(len(images), -1)
        self.weights = 8 * (flat[labels].mean(axis=0) - flat[~labels].mean(axis=0))
        self.bias = -float(np.median(flat @ self.weights))

    def probabilities(self, images: Images) -> npt.NDArray[np.float64]:
        logits = images.reshape(len(images), -1) @ self.weights + self.bias
        return np.asarray(1 / (1 + np.exp(-logits)), np.float64)

    def gradient(self, images: Images, labels: Labels) -> Images:
        return ((self.probabilities(images) - labels)[:, None] * self.weights).reshape(images.shape)


def test_attacks_stay_in_their_ball_and_lower_the_auroc_more_with_more_epsilon() -> None:
    images, labels = disc_images(100)
    model = Logistic(images, labels)
    clean = model.probabilities(images)
    drops = []
    for epsilon in (0.0, 0.01, 0.03, 0.06):
        attacked = fgsm(images, labels, model.gradient, epsilon=epsilon)
        assert np.abs(attacked - images).max() <= epsilon + 1e-15
        assert attacked.min() >= 0 and attacked.max() <= 1
        drops.append(roc_auc_score(labels, clean) - roc_auc_score(labels, model.probabilities(attacked)))
    assert drops[0] == 0
    assert all(a <= b for a, b in itertools.pairwise(drops))
    assert drops[-1] > 0.5


def test_on_a_linear_model_pgd_reaches_what_fgsm_reaches_and_the_best_possible() -> None:
    images, labels = disc_images(60)
    images = 0.2 + 0.6 * images
    model = Logistic(images, labels)
    one = fgsm(images, labels, model.gradient, epsilon=0.02)
    many = pgd(images, labels, model.gradient, epsilon=0.02, steps=8)
    np.testing.assert_allclose(many, one, atol=1e-12)
    started_elsewhere = pgd(images, labels, model.gradient, epsilon=0.02, steps=8, seed=3)
    np.testing.assert_allclose(started_elsewhere, one, atol=1e-12)
    optimum = images + 0.02 * np.where(labels, -1, 1)[:, None, None] * np.sign(model.weights).reshape(28, 28)
    np.testing.assert_allclose(one, optimum, atol=1e-12)
    assert flip_rate(model.probabilities(images), model.probabilities(one), 0.5) > 0


def test_bad_attacks_are_refused() -> None:
    images, labels = disc_images(4)
    with pytest.raises(RadserveError, match="epsilon: got -1"):
        fgsm(images, labels, lambda x, _: x, epsilon=-1)
    with pytest.raises(RadserveError, match="steps: got 0"):
        pgd(images, labels, lambda x, _: x, epsilon=0.1, steps=0)
    with pytest.raises(RadserveError, match="gradient: got shape"):
        fgsm(images, labels, lambda x, _: x[:1], epsilon=0.1)
    with pytest.raises(RadserveError, match="not finite"):
        fgsm(images, labels, lambda x, _: x * np.nan, epsilon=0.1)
