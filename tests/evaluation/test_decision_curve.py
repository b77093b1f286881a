"""Decision curves against what R's dcurves printed, and against the definition case by case.

The R values are from the result files that R's dcurves wrote for the Python port (MSKCC-Epi-Bio/dcurves on GitHub):
dcurves/data/r_dca_famhistory.csv, dcurves/data/dca_tutorial_interventions_vals.csv,
dcurves/test/resources/r_results/univ_canc_famhist/interventions_avoided.csv,
tests/benchmark_data/r_simple_binary_dca_result_df.csv and r_case3_results.csv; dcurves/data/r_bin_dca_result_2.csv
(prevalence stated as 0.5). All on df_binary: 750 patients, 105 with cancer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.decision_curve import as_probability, decision_curve, threshold_grid
from radserve.evaluation.tables import Table, read_table
from tests.evaluation.published import published

# threshold: treat all, family history (net benefit, interventions avoided per 100)
FAMILY_HISTORY = {
    0.01: (0.13131313131313133, 0.030774410774410774, -995.3333333333334),
    0.05: (0.09473684210526317, 0.025614035087719297, -131.33333333333337),
    0.09: (0.05494505494505496, 0.02, -35.33333333333336),
    0.13: (0.011494252873563232, 0.01386973180076628, 1.58974358974358),
    0.2: (-0.07499999999999998, 0.0016666666666666635, 30.666666666666657),
    0.21: (-0.08860759493670883, -2.531645569620253e-4, 33.238095238095234),
    0.35: (-0.32307692307692315, -0.033333333333333354, 53.809523809523824),
    0.5: (-0.72, -0.08933333333333335, 63.06666666666666),
    0.65: (-1.4571428571428573, -0.19333333333333338, 68.05128205128204),
}
# threshold: tp_rate, fp_rate, net benefit of age as a probability
AGE = {
    0.01: (0.14, 0.844, 0.1314747474747475),
    0.04: (0.1386666666666667, 0.6706666666666666, 0.11072222222222225),
    0.11: (0.10800000000000001, 0.3453333333333333, 0.06531835205992512),
    0.24: (0.064, 0.10800000000000001, 0.029894736842105266),
    0.41: (0.028000000000000004, 0.028, 0.008542372881355936),
    0.61: (0.008, 0.0013333333333333333, 0.005914529914529915),
    0.72: (0.0013333333333333335, 0, 0.0013333333333333335),
}
# the same at a stated prevalence of 0.5
AGE_AT_HALF = {
    0.21: (0.26666666666666666, 0.07751937984496124, 0.24606024923952508),
    0.24: (0.22857142857142856, 0.06279069767441861, 0.20874278720055953),
    0.41: (0.1, 0.01627906976744186, 0.0886874260938116),
    0.61: (0.02857142857142857, 7.751937984496124e-4, 0.027358945963597125),
}
# threshold: net benefit of the marker as a probability, interventions avoided per 100, net benefit with harm 0.0333
MARKER = {
    0.07: (0.07489605734767024, -0.4952380952381106, 0.04159605734767024),
    0.1: (0.06237037037037038, 16.133333333333336, 0.02907037037037038),
    0.15: (0.04666666666666667, 33.111111111111114, 0.013366666666666673),
    0.19: (0.034041152263374494, 40.82807017543859, 7.411522633744907e-4),
    0.24: (0.019087719298245622, 47.7111111111111, -0.014212280701754381),
    0.35: (0.006769230769230774, 61.25714285714285, -0.02653076923076923),
}


@pytest.fixture(scope="module")
def patients() -> Table:
    return read_table(published("dca_df_binary.csv"))


def sample(n: int = 300, seed: int = 2) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    probabilities = np.round(rng.beta(1, 3, n), 2)
    return rng.random(n) < probabilities, probabilities


def test_family_history_equals_dcurves_to_1e_12(patients: Table) -> None:
    curve = decision_curve(
        patients.labels("cancer"),
        {"famhistory": patients.numbers("famhistory")},
        thresholds=np.array(list(FAMILY_HISTORY)),
    )
    model, everybody = curve.strategies["famhistory"], curve.strategies["treat_all"]
    np.testing.assert_allclose(everybody.net_benefit, [row[0] for row in FAMILY_HISTORY.values()], atol=1e-12)
    np.testing.assert_allclose(model.net_benefit, [row[1] for row in FAMILY_HISTORY.values()], atol=1e-12)
    np.testing.assert_allclose(model.interventions_avoided, [row[2] for row in FAMILY_HISTORY.values()], rtol=1e-11)
    np.testing.assert_allclose(model.tp_rate, 0.032, atol=1e-15)
    np.testing.assert_allclose(model.fp_rate, 0.12133333333333335, atol=1e-15)
    assert curve.prevalence == 0.14


def test_at_threshold_0_a_risk_of_0_is_not_treated_as_in_dcurves(patients: Table) -> None:
    curve = decision_curve(patients.labels("cancer"), {"famhistory": patients.numbers("famhistory")})
    assert curve.thresholds[0] == 0
    assert curve.strategies["famhistory"].net_benefit[0] == pytest.approx(0.032, abs=1e-15)  # dcurves prints 0.032
    assert np.isnan(curve.strategies["famhistory"].interventions_avoided[0])
    assert "threshold 0" in curve.warnings[0]


def test_age_as_a_probability_equals_dcurves_to_1e_12(patients: Table) -> None:
    labels = patients.labels("cancer")
    curve = decision_curve(
        labels, {"age": as_probability(labels, patients.numbers("age"))}, thresholds=np.array(list(AGE))
    )
    model = curve.strategies["age"]
    found = np.column_stack([model.tp_rate, model.fp_rate, model.net_benefit])
    np.testing.assert_allclose(found, list(AGE.values()), atol=1e-12)
    np.testing.assert_allclose(model.standardized_net_benefit, model.net_benefit / 0.14, atol=1e-15)


def test_age_at_a_stated_prevalence_equals_dcurves_to_1e_12(patients: Table) -> None:
    labels = patients.labels("cancer")
    curve = decision_curve(
        labels,
        {"age": as_probability(labels, patients.numbers("age"))},
        thresholds=np.array(list(AGE_AT_HALF)),
        prevalence=0.5,
    )
    model = curve.strategies["age"]
    found = np.column_stack([model.tp_rate, model.fp_rate, model.net_benefit])
    np.testing.assert_allclose(found, list(AGE_AT_HALF.values()), atol=1e-12)


def test_marker_with_a_harm_equals_dcurves_to_1e_12(patients: Table) -> None:
    labels = patients.labels("cancer")
    risks = as_probability(labels, patients.numbers("marker"))
    curve = decision_curve(
        labels, {"free": risks, "harmful": risks}, thresholds=np.array(list(MARKER)), harms={"harmful": 0.0333}
    )
    free, harmful = curve.strategies["free"], curve.strategies["harmful"]
    np.testing.assert_allclose(free.net_benefit, [row[0] for row in MARKER.values()], atol=1e-12)
    np.testing.assert_allclose(free.interventions_avoided, [row[1] for row in MARKER.values()], rtol=1e-9)
    np.testing.assert_allclose(harmful.net_benefit, [row[2] for row in MARKER.values()], atol=1e-12)


@pytest.mark.parametrize("prevalence", [None, 0.03, 0.6])
def test_net_benefit_equals_the_definition_case_by_case(prevalence: float | None) -> None:
    labels, probabilities = sample()
    curve = decision_curve(labels, {"model": probabilities}, prevalence=prevalence)
    rate = labels.mean() if prevalence is None else prevalence
    for at in range(1, len(curve.thresholds)):
        t = curve.thresholds[at]
        sensitivity = sum(bool(p >= t) for p, y in zip(probabilities, labels, strict=True) if y) / labels.sum()
        false = sum(bool(p >= t) for p, y in zip(probabilities, labels, strict=True) if not y) / (~labels).sum()
        expected = sensitivity * rate - false * (1 - rate) * t / (1 - t)
        everybody = rate - (1 - rate) * t / (1 - t)
        model = curve.strategies["model"]
        assert model.net_benefit[at] == pytest.approx(expected, abs=1e-12)
        assert curve.strategies["treat_all"].net_benefit[at] == pytest.approx(everybody, abs=1e-12)
        assert model.interventions_avoided[at] == pytest.approx(100 * (expected - everybody) * (1 - t) / t, abs=1e-9)
    assert not curve.strategies["treat_none"].net_benefit.any()


def test_the_prevalence_of_the_sample_gives_the_same_as_none_stated() -> None:
    labels, probabilities = sample()
    plain = decision_curve(labels, {"model": probabilities}).strategies["model"]
    stated = decision_curve(labels, {"model": probabilities}, prevalence=float(labels.mean())).strategies["model"]
    np.testing.assert_array_equal(plain.net_benefit, stated.net_benefit)


def test_the_grid_has_the_nearest_float_of_each_decimal() -> None:
    assert threshold_grid().tolist() == [float(f"0.{k:02d}") for k in range(100)]
    assert threshold_grid(0.05, 0.35, 0.05).tolist() == [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probabilities": {"m": np.array([0.1, 1.2])}}, "column 'm', row 2: got 1.2"),
        ({"thresholds": np.array([0.1, 1.0])}, "thresholds: got 1.0"),
        ({"thresholds": np.array([])}, "thresholds: got none"),
        ({"prevalence": 1.0}, "prevalence: got 1.0"),
        ({"harms": {"other": 0.1}}, "'other', which is none of the models"),
        ({"labels": np.array([True, True])}, "one class only"),
        ({"probabilities": {"treat_all": np.array([0.1, 0.2])}}, "is reserved"),
        ({"probabilities": {"m": np.array([0.1])}}, "differ in length"),
    ],
)
def test_bad_input_is_refused_with_its_value(change: dict[str, object], message: str) -> None:
    given = {"labels": np.array([True, False]), "probabilities": {"m": np.array([0.1, 0.2])}} | change
    labels, probabilities = given.pop("labels"), given.pop("probabilities")
    with pytest.raises(RadserveError, match=message) as caught:
        decision_curve(labels, probabilities, **given)  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
