"""The gaps of two models: against DeLong's variance of the same contrast, a resampling written out, planted gaps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.delong import delong
from radserve.evaluation.fairness import assess_fairness
from radserve.evaluation.gap_comparison import GapComparison, Model, compare_gaps
from radserve.evaluation.tables import BoolArray, FloatArray

Cohort = tuple[BoolArray, dict[str, FloatArray], dict[str, tuple[str, ...]]]


def cohort(n: int = 600, seed: int = 0) -> Cohort:
    """Model "fair" is as good for both sexes, "unfair" is worse for F; both share the noise of the patient."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["F", "M"], n)
    labels = rng.random(n) < 0.4
    noise = rng.normal(0, 1, n)
    fair = 1.8 * labels + noise + rng.normal(0, 0.3, n)
    unfair = np.where(sex == "F", 0.6, 1.8) * labels + noise + rng.normal(0, 0.3, n)
    return labels, {"fair": fair, "unfair": unfair}, {"sex": tuple(sex.tolist())}


def compared(data: Cohort, **options: object) -> dict[str, GapComparison]:
    labels, scores, attributes = data
    models = [
        Model(name, values, 0.9, assess_fairness(labels, values, attributes, threshold=0.9))
        for name, values in scores.items()
    ]
    return {each.measure: each for each in compare_gaps(labels, models, attributes, **options)}  # type: ignore[arg-type]


def test_the_gaps_stand_side_by_side_and_the_planted_difference_is_found() -> None:
    labels, scores, attributes = cohort(1500)
    found = compared((labels, scores, attributes), replicates=400, seed=1)
    area = found["auroc"]
    sex = np.array(attributes["sex"])
    for side, name in ((area.a, "fair"), (area.b, "unfair")):
        by_sex = [roc_auc_score(labels[sex == s], scores[name][sex == s]) for s in "FM"]
        assert side.score == name
        assert side.gap == pytest.approx(max(by_sex) - min(by_sex), abs=1e-14)
        assert side.ci[0] < side.gap < side.ci[1]
    assert area.difference == area.a.gap - area.b.gap
    assert area.difference_ci[1] < 0  # "unfair" has the larger gap
    assert area.method == "paired bootstrap"
    assert set(found) == {"auroc", "tpr", "fpr"}
    assert found["tpr"].difference_ci[1] < 0
    assert found["fpr"].difference_ci[0] < 0 < found["fpr"].difference_ci[1]  # nothing planted


def test_the_width_is_that_of_delongs_variance_of_the_contrast() -> None:
    labels, scores, attributes = cohort(seed=4)
    area = compared((labels, scores, attributes), replicates=1500, seed=2)["auroc"]
    # gap = s (M - F) with s = +1 or -1; the sexes are independent, the models inside each are correlated
    signs = np.array([1.0 if side.highest_group == "M" else -1.0 for side in (area.a, area.b)])
    sex, both = np.array(attributes["sex"]), np.stack([scores["fair"], scores["unfair"]])
    covariance = sum(delong(both[:, sex == s], labels[sex == s]).covariance for s in "FM")
    contrast = signs * np.array([1.0, -1.0])
    expected = 2 * 1.959964 * math.sqrt(contrast @ covariance @ contrast)
    assert area.difference_ci[1] - area.difference_ci[0] == pytest.approx(expected, rel=0.1)
    single = 2 * 1.959964 * math.sqrt(covariance[0, 0])
    assert area.a.ci[1] - area.a.ci[0] == pytest.approx(single, rel=0.1)


def test_a_model_and_its_copy_differ_by_exactly_nothing_which_only_paired_draws_give() -> None:
    labels, scores, attributes = cohort()
    copy = {"one": scores["unfair"], "other": np.exp(scores["unfair"])}  # the same ranks
    area = compared((labels, copy, attributes), replicates=50)["auroc"]
    assert (area.difference, area.difference_ci) == (0.0, (0.0, 0.0))
    assert area.a.ci[1] > area.a.ci[0]


def test_patients_drawn_whole_give_twice_the_width_on_four_copies_of_each_row() -> None:
    labels, scores, attributes = cohort(300, 5)
    repeated: Cohort = (
        np.repeat(labels, 4),
        {name: np.repeat(values, 4) for name, values in scores.items()},
        {"sex": tuple(np.repeat(attributes["sex"], 4).tolist())},
    )
    patients = np.repeat(np.arange(300), 4).astype(str).tolist()
    rows = compared(repeated, replicates=400, seed=1)
    whole = compared(repeated, replicates=400, seed=1, clusters=patients)
    for measure in ("auroc", "tpr", "fpr"):
        wide, narrow = (each[measure].difference_ci for each in (whole, rows))
        assert wide[1] - wide[0] > 1.6 * (narrow[1] - narrow[0])
    assert whole["auroc"].method == "paired cluster-bootstrap"


def test_each_replicate_is_the_contrast_of_the_rows_drawn() -> None:
    labels, scores, attributes = cohort(200, 6)
    found = compared((labels, scores, attributes), replicates=3, seed=9, ci_level=0.999)
    generator = np.random.default_rng(9)  # the draw written out: positives, then negatives
    sex = np.array(attributes["sex"])
    areas, rates = [], []
    for _ in range(3):
        classes = (np.flatnonzero(labels), np.flatnonzero(~labels))
        drawn = np.concatenate([each[generator.integers(0, len(each), len(each))] for each in classes])
        y, x, group = labels[drawn], scores["fair"][drawn], sex[drawn]
        side = found["auroc"].a
        by_sex = {s: roc_auc_score(y[group == s], x[group == s]) for s in "FM"}
        areas.append(by_sex[side.highest_group] - by_sex[side.lowest_group])
        side = found["tpr"].a
        by_sex = {s: np.mean(x[(group == s) & y] >= 0.9) for s in "FM"}
        rates.append(by_sex[side.highest_group] - by_sex[side.lowest_group])
    for measure, values in (("auroc", areas), ("tpr", rates)):
        expected = np.quantile(values, [0.0005, 0.9995])
        assert found[measure].a.ci == pytest.approx(tuple(expected), abs=1e-13)


def test_the_same_seed_gives_the_same_intervals() -> None:
    data = cohort(200)
    assert compared(data, replicates=20, seed=3) == compared(data, replicates=20, seed=3)
    assert compared(data, replicates=20, seed=4) != compared(data, replicates=20, seed=3)


def test_one_model_alone_and_no_replicates_are_refused() -> None:
    labels, scores, attributes = cohort(200)
    with pytest.raises(RadserveError, match="two or more different ones") as caught:
        compared((labels, {"fair": scores["fair"]}, attributes))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(RadserveError, match="replicates: got 0"):
        compared((labels, scores, attributes), replicates=0)
