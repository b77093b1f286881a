"""Fairness measures against fairlearn, scikit-learn and statsmodels; planted effects found, none on null data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.fairness import age_bands, assess_fairness, with_intersections
from radserve.evaluation.fairness_tests import permutation_gap
from radserve.evaluation.group_measures import UnderdiagnosisOf
from radserve.evaluation.multiplicity import Correction

Labels = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]


def cohort(n: int, seed: int, *, weaker: float = 0.0) -> tuple[Labels, Scores, dict[str, tuple[str, ...]]]:
    """Scores of separation 1.5; for group F the separation is smaller by `weaker`."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.4
    sex, site = rng.choice(["F", "M"], n), rng.choice(["east", "north", "south"], n)
    separation = np.where(sex == "F", 1.5 - weaker, 1.5)
    scores = 1 / (1 + np.exp(-(rng.normal(0, 1, n) + separation * (labels - 0.5))))
    return labels, scores, {"sex": tuple(sex.tolist()), "site": tuple(site.tolist())}


def test_rates_gaps_and_ratios_equal_fairlearn() -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics")
    labels, scores, attributes = cohort(900, 1)
    found = assess_fairness(labels, scores, attributes, threshold=0.55)
    calls = scores >= 0.55
    for attribute, groups in attributes.items():
        frame = fairlearn.MetricFrame(
            metrics={
                "tpr": fairlearn.true_positive_rate,
                "fpr": fairlearn.false_positive_rate,
                "selection_rate": fairlearn.selection_rate,
                "underdiagnosis_rate": fairlearn.false_negative_rate,
            },
            y_true=labels,
            y_pred=calls,
            sensitive_features=np.array(groups),
        )
        for group in (each for each in found.groups if each.attribute == attribute):
            for name in frame.by_group.columns:
                assert group.value(name) == pytest.approx(frame.by_group.loc[group.group, name], abs=1e-12)
        for gap in (each for each in found.gaps if each.attribute == attribute and each.measure != "auroc"):
            assert gap.difference == pytest.approx(frame.difference()[gap.measure], abs=1e-12)
            assert gap.ratio == pytest.approx(frame.ratio()[gap.measure], abs=1e-12)


def test_areas_equal_scikit_learn_and_intervals_statsmodels() -> None:
    labels, scores, attributes = cohort(700, 2)
    found = assess_fairness(labels, scores, attributes, threshold=0.5, ci_level=0.9)
    for group in found.groups:
        members = np.array(attributes[group.attribute]) == group.group
        assert group.area().value == pytest.approx(roc_auc_score(labels[members], scores[members]), abs=1e-12)
        tpr = group.rate("tpr")
        expected = proportion_confint(tpr.count, tpr.of, 0.1, method="wilson")
        assert (tpr.low, tpr.high) == pytest.approx(expected, abs=1e-12)
    gap = next(each for each in found.gaps if each.attribute == "sex" and each.measure == "tpr")
    high, low = (
        next(g for g in found.groups if g.attribute == "sex" and g.group == name).rate("tpr")
        for name in (gap.highest_group, gap.lowest_group)
    )
    expected = confint_proportions_2indep(high.count, high.of, low.count, low.of, method="newcomb", alpha=0.1)
    assert gap.difference_ci == pytest.approx(expected, abs=1e-9)


def test_underdiagnosis_is_the_missed_fraction_whichever_way_the_label_is_given() -> None:
    labels, scores, attributes = cohort(600, 3)
    as_finding = assess_fairness(labels, scores, attributes, threshold=0.5)
    no_finding = assess_fairness(
        ~labels, -scores, attributes, threshold=-0.5 + 1e-15, underdiagnosis_of=UnderdiagnosisOf.NO_FINDING
    )
    for one, other in zip(as_finding.groups, no_finding.groups, strict=True):
        assert one.value("underdiagnosis_rate") == pytest.approx(other.value("underdiagnosis_rate"), abs=1e-12)
        assert one.value("underdiagnosis_rate") == pytest.approx(1 - (one.value("tpr") or 0), abs=1e-12)


def test_a_planted_effect_is_found_with_its_stated_power() -> None:
    """AUROC 0.86 against 0.69 in 1,500 patients: power over 0.95 after Holm over the 12 tests of the report."""
    found = []
    for seed in range(40):
        labels, scores, attributes = cohort(1500, seed, weaker=0.8)
        report = assess_fairness(labels, scores, attributes, threshold=0.5)
        found.append(any(t.rejected and t.attribute == "sex" and t.measure == "auroc" for t in report.tests))
        gap = next(each for each in report.gaps if each.attribute == "sex" and each.measure == "auroc")
        assert gap.highest_group == "M"
    assert np.mean(found) > 0.95


@pytest.mark.parametrize("correction", list(Correction))
def test_no_effect_is_found_on_null_data_at_alpha(correction: Correction) -> None:
    """100 null cohorts at alpha 0.05: the share with a rejection is at most that but for 3 standard errors."""
    alarms = []
    for seed in range(100):
        labels, scores, attributes = cohort(400, 1000 + seed)
        alarms.append(assess_fairness(labels, scores, attributes, threshold=0.5, correction=correction).unfair)
    assert np.mean(alarms) <= 0.05 + 3 * (0.05 * 0.95 / 100) ** 0.5


def test_the_permutation_test_holds_its_level_and_finds_a_planted_gap() -> None:
    p_values = []
    for seed in range(100):
        labels, scores, attributes = cohort(200, 5000 + seed)
        sex = np.array(attributes["sex"])
        p_values.append(permutation_gap(labels, scores, sex, ["F", "M"], 99, seed)[1])
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 100) ** 0.5
    assert 0.35 < np.mean(p_values) < 0.65
    labels, scores, attributes = cohort(1500, 1, weaker=0.8)
    gap, p = permutation_gap(labels, scores, np.array(attributes["sex"]), ["F", "M"], 199, 0)
    assert p == 1 / 200
    by_sex = [
        roc_auc_score(labels[np.array(attributes["sex"]) == s], scores[np.array(attributes["sex"]) == s]) for s in "FM"
    ]
    assert gap == pytest.approx(abs(by_sex[0] - by_sex[1]), abs=1e-12)


def test_more_disease_in_one_group_is_not_by_itself_unfair() -> None:
    rng = np.random.default_rng(0)
    sex = rng.choice(["F", "M"], 3000)
    labels = rng.random(3000) < np.where(sex == "F", 0.6, 0.2)
    scores = rng.normal(labels * 1.5, 1)
    report = assess_fairness(labels, scores, {"sex": tuple(sex.tolist())}, threshold=0.75, n_permutations=199)
    assert not report.unfair


def test_intersections_are_groups_of_their_own_and_find_what_no_single_attribute_shows() -> None:
    rng = np.random.default_rng(4)
    sex, site = rng.choice(["F", "M"], 4000), rng.choice(["north", "south"], 4000)
    worse = (sex == "F") == (site == "north")
    labels = rng.random(4000) < 0.4
    scores = rng.normal(labels * np.where(worse, 0.8, 1.6), 1)
    attributes = with_intersections({"sex": tuple(sex.tolist()), "site": tuple(site.tolist())})
    assert set(attributes) == {"sex", "site", "sex x site"}
    report = assess_fairness(labels, scores, attributes, threshold=0.7)
    rejected = {t.attribute for t in report.tests if t.rejected and t.measure == "auroc"}
    assert rejected == {"sex x site"}


def test_a_small_group_is_insufficient_and_in_no_gap_or_test() -> None:
    labels, scores, _ = cohort(300, 5)
    groups = ("rare",) * 20 + ("a",) * 140 + ("b",) * 140
    report = assess_fairness(labels, scores, {"scanner": groups}, threshold=0.5, minimum_size=30)
    rare = next(each for each in report.groups if each.group == "rare")
    assert (rare.status, rare.n, rare.auroc, rare.tpr, rare.selection_rate) == ("insufficient", 20, None, None, None)
    assert "20 patients are fewer than 30" in rare.warnings[0]
    assert rare.warnings[0] in report.warnings
    assert all("rare" not in (gap.highest_group, gap.lowest_group) for gap in report.gaps)
    assert {test.group for test in report.tests} == {"a", "b"}


def test_a_group_of_one_class_has_null_measures_with_the_reason() -> None:
    labels, scores, _ = cohort(300, 6)
    labels = labels.copy()
    labels[:100] = False
    report = assess_fairness(labels, scores, {"site": ("x",) * 100 + ("y",) * 200}, threshold=0.5)
    healthy = report.groups[0]
    assert (healthy.auroc, healthy.tpr, healthy.underdiagnosis_rate) == (None, None, None)
    assert healthy.fpr is not None
    assert any("0 positives are fewer than 5" in note for note in report.warnings)


def test_a_ratio_to_nothing_is_null_with_the_reason() -> None:
    labels, scores, _ = cohort(200, 6)
    report = assess_fairness(labels, scores, {"site": ("x", "y") * 100}, threshold=float(scores.max()) + 1)
    assert {each.ratio for each in report.gaps if each.measure == "tpr"} == {None}
    assert "site: the tpr ratio is null, its highest value is 0" in report.warnings


def test_a_test_without_a_variance_is_null_and_counts_as_no_rejection() -> None:
    labels = np.array([False, True] * 40)
    upside_down = np.arange(80) >= 40
    report = assess_fairness(
        labels, np.where(upside_down, ~labels, labels) * 1.0, {"site": ("a",) * 40 + ("b",) * 40}, threshold=0.5
    )
    area = next(each for each in report.tests if each.measure == "auroc")
    assert np.isnan(area.p) and np.isnan(area.p_adjusted)
    assert not area.rejected
    assert "site a: the auroc test is undefined" in report.warnings[0]
    assert report.unfair  # by TPR and FPR


def test_a_missing_group_is_shown_as_missing() -> None:
    labels, scores, _ = cohort(200, 7)
    report = assess_fairness(labels, scores, {"sex": ("",) * 100 + ("F",) * 100}, threshold=0.5)
    assert [each.group for each in report.groups] == ["(missing)", "F"]


def test_age_bands_have_their_edges_in_the_older_band() -> None:
    assert age_bands([0, 17.9, 18, 39, 40, 80, 101, None, float("nan")]) == (
        "0-17", "0-17", "18-39", "18-39", "40-59", "80+", "80+", "(missing)", "(missing)",
    )  # fmt: skip
    with pytest.raises(RadserveError, match="row 2: got -1"):
        age_bands([5, -1])
    with pytest.raises(RadserveError, match="age edges"):
        age_bands([5], [40, 18])


def test_bad_input_is_refused() -> None:
    labels, scores, attributes = cohort(100, 8)
    for given, message in (
        ({"attributes": {}}, "no group column"),
        ({"attributes": {"sex": ("F",)}}, "differ in length"),
        ({"attributes": attributes, "minimum_size": 1}, "minimum size"),
    ):
        with pytest.raises(RadserveError, match=message) as caught:
            assess_fairness(labels, scores, threshold=0.5, **given)  # type: ignore[arg-type]
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
