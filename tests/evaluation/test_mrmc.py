"""MRMC against what MRMCaov and OR-DBM MRMC print, and against definitions computed in other ways."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.mrmc import analyse_auc
from radserve.evaluation.mrmc_covariance import CovarianceMethod, auc_covariance
from radserve.evaluation.mrmc_study import ReaderStudy, reader_study
from radserve.evaluation.obuchowski_rockette import obuchowski_rockette
from radserve.evaluation.or_result import Analysis, OrResult, or_summary

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "reference"


def published(name: str) -> ReaderStudy:
    path = REFERENCE / name
    if not path.exists():
        pytest.skip(f"published data set {name} is not beside the repository (../shared/reference)")
    with path.open() as lines:
        rows = list(csv.DictReader(lines))
    return reader_study(
        reader=[row["reader"] for row in rows],
        treatment=[row["treatment"] for row in rows],
        case=[row["case"] for row in rows],
        truth=[row["truth"] == "1" for row in rows],
        rating=[float(row["rating"]) for row in rows],
    )


def simulated(seed: int = 0, t: int = 3, r: int = 4, m: int = 9, n: int = 11) -> ReaderStudy:
    """A study with shared case and reader effects and many ties."""
    rng = np.random.default_rng(seed)
    truth = np.arange(m + n) < m
    signal = truth * 1.2 + rng.normal(size=m + n)
    noise = rng.normal(size=(t, r, m + n)) + rng.normal(size=(r, 1)) * truth + 0.2 * rng.normal(size=(t, 1, 1))
    ratings = np.round(2 * (signal + noise))
    names = ("a", "b", "c", "d", "e")
    return ReaderStudy(names[:t], names[:r], tuple(map(str, range(m + n))), truth, ratings)


def flat(study: ReaderStudy) -> np.ndarray:
    return study.ratings.reshape(-1, len(study.cases))


def kernel(diseased: np.ndarray, healthy: np.ndarray) -> np.ndarray:
    """Mann-Whitney kernel of one reader, by its definition."""
    return np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in healthy] for x in diseased])


# MRMCaov 0.1 README (brian-j-smith/MRMCaov, README.md), mrmc(empirical_auc(truth, rating), treatment, reader, case,
# data = VanDyke): jackknife covariances, random readers and cases, printed with 7 significant digits.
def test_van_dyke_equals_what_mrmcaov_prints():
    result = analyse_auc(published("vandyke.csv"))
    assert result.components.var_reader == pytest.approx(0.0015349993, abs=5e-11)
    assert result.components.var_treatment_reader == pytest.approx(0.0002004025, abs=5e-11)
    assert result.components.var_error == pytest.approx(0.0008022883, abs=5e-11)
    assert result.components.cov1 == pytest.approx(0.0003466137, abs=5e-11)
    assert result.components.cov2 == pytest.approx(0.0003440748, abs=5e-11)
    assert result.components.cov3 == pytest.approx(0.0002390284, abs=5e-11)
    assert result.mean_squares.treatment == pytest.approx(0.004796171, abs=5e-10)
    assert result.mean_squares.treatment_reader == pytest.approx(0.0005510306, abs=5e-11)
    assert (result.statistic_name, result.df1) == ("F", 1)
    assert result.statistic == pytest.approx(4.456319, abs=5e-7)
    assert result.df2 == pytest.approx(15.25967, abs=5e-6)
    assert result.p == pytest.approx(0.05166569, abs=5e-9)
    (pair,) = result.comparisons
    assert pair.difference == pytest.approx(-0.04380032, abs=5e-9)
    assert pair.se == pytest.approx(0.02074862, abs=5e-9)
    assert pair.statistic == pytest.approx(-2.110999, abs=5e-7)
    assert pair.interval == pytest.approx((-0.0879594986, 0.0003588544), abs=5e-11)
    first, second = result.treatment_means
    assert (first.estimate, second.estimate) == pytest.approx((0.8970370, 0.9408374), abs=5e-8)
    assert (first.ms_reader, second.ms_reader) == pytest.approx((0.003082629, 0.001304602), abs=5e-10)
    assert (first.cov2, second.cov2) == pytest.approx((0.0004839618, 0.0002041879), abs=5e-11)
    assert (first.se, second.se) == pytest.approx((0.03317360, 0.02156637), abs=5e-9)
    assert (first.df, second.df) == pytest.approx((12.74465, 12.71019), abs=5e-6)
    assert first.interval == pytest.approx((0.8252236, 0.9688505), abs=5e-8)
    assert second.interval == pytest.approx((0.8941378, 0.9875369), abs=5e-8)
    assert result.warnings == ()


# MRMCaov.m README (brian-j-smith/MRMCaov.m, README.md): the same data with 'cov', 'unbiased'; 5 significant digits.
def test_van_dyke_with_unbiased_covariances_equals_what_mrmcaov_prints():
    result = analyse_auc(published("vandyke.csv"), covariance=CovarianceMethod.UNBIASED)
    assert result.components.var_reader == pytest.approx(0.0015365, abs=5e-8)
    assert result.components.var_treatment_reader == pytest.approx(0.00020776, abs=5e-9)
    assert result.components.var_error == pytest.approx(0.00078839, abs=5e-9)
    assert result.components.cov1 == pytest.approx(0.00034167, abs=5e-9)
    assert result.components.cov2 == pytest.approx(0.00033906, abs=5e-9)
    assert result.components.cov3 == pytest.approx(0.00023561, abs=5e-9)
    assert (result.statistic, result.df2, result.p) == (
        pytest.approx(4.4896, abs=5e-5),
        pytest.approx(15.034, abs=5e-4),
        pytest.approx(0.051162, abs=5e-7),
    )
    (pair,) = result.comparisons
    assert (pair.se, *pair.interval) == pytest.approx((0.020672, -0.087852, 0.0002513), abs=5e-7)
    first, second = result.treatment_means
    assert (first.cov2, second.cov2) == pytest.approx((0.00047718, 0.00020095), abs=5e-9)
    assert (first.se, second.se, first.df, second.df) == pytest.approx((0.033071, 0.021491, 12.588, 12.534), rel=5e-5)


# OR-DBM MRMC 2.5 (University of Iowa), trapezoidal area, jackknife: dpc10ster/RJafroc,
# inst/obumrm2/VanDyke-traparea-jackknife-obuch-anova.txt
def test_van_dyke_with_fixed_readers_equals_or_dbm_mrmc():
    result = analyse_auc(published("vandyke.csv"), analysis=Analysis.FIXED_READERS)
    assert (result.statistic_name, result.df1, result.df2) == ("chi2", 1, np.inf)
    assert (result.statistic, result.p) == (pytest.approx(5.47595, abs=5e-6), pytest.approx(0.0193, abs=5e-5))
    (pair,) = result.comparisons
    assert (pair.se, pair.statistic, *pair.interval) == (
        pytest.approx(0.01872, abs=5e-6),
        pytest.approx(-2.34, abs=5e-3),
        pytest.approx(-0.08049, abs=5e-6),
        pytest.approx(-0.00711, abs=5e-6),
    )
    first, second = result.treatment_means
    assert (first.se, second.se) == pytest.approx((0.02428971, 0.01677632), abs=5e-9)
    assert first.interval == pytest.approx((0.84943008, 0.94464399), abs=1e-8)  # printed to 8 places
    assert second.interval == pytest.approx((0.90795637, 0.97371835), abs=1e-8)
    assert [each.reader for each in result.reader_comparisons] == list("12345")
    assert [each.se for each in result.reader_comparisons] == pytest.approx(
        [0.02551, 0.02630, 0.03121, 0.01729, 0.04406], abs=5e-6
    )
    assert [each.p for each in result.reader_comparisons] == pytest.approx(
        [0.2693, 0.0768, 0.5668, 0.1290, 0.0230], abs=5e-5
    )
    assert result.reader_comparisons[4].interval == pytest.approx((-0.18651, -0.01381), abs=5e-6)


def test_van_dyke_with_fixed_cases_equals_or_dbm_mrmc():
    result = analyse_auc(published("vandyke.csv"), analysis=Analysis.FIXED_CASES)
    assert (result.statistic, result.df1, result.df2) == (pytest.approx(8.70, abs=5e-3), 1, 4)
    assert result.p == pytest.approx(0.0420, abs=5e-5)
    assert result.comparisons[0].interval == pytest.approx((-0.08502, -0.00258), abs=5e-6)
    first, second = result.treatment_means
    assert first.interval == pytest.approx((0.82809808, 0.96597599), abs=1e-8)
    assert second.interval == pytest.approx((0.89598936, 0.98568536), abs=1e-8)


def test_van_dyke_dbm_components_equal_or_dbm_mrmc():
    dbm = analyse_auc(published("vandyke.csv")).dbm
    assert (
        dbm.var_reader,
        dbm.var_case,
        dbm.var_treatment_reader,
        dbm.var_treatment_case,
        dbm.var_reader_case,
        dbm.var_error,
    ) == pytest.approx((0.00153500, 0.02724923, 0.00020040, 0.01197530, 0.01226473, 0.03997160), abs=5e-9)


# OR-DBM MRMC 2.51: dpc10ster/RJafroc, tests/testthat/goodValues361/Iowa/Franken1.txt. Cov2 - Cov3 is negative here.
def test_franken_equals_or_dbm_mrmc_and_reports_the_clamp():
    result = analyse_auc(published("franken.csv"))
    assert result.estimates == pytest.approx(
        np.array([[0.85345997, 0.86499322, 0.85730439, 0.81524197], [0.84961556, 0.84350972, 0.84011759, 0.81433740]]),
        abs=5e-9,
    )
    c = result.components
    assert (c.var_reader, c.var_treatment_reader, c.cov1, c.cov2, c.cov3, c.var_error) == pytest.approx(
        (0.00003776, -0.00071276, 0.00079168, 0.00048364, 0.00051251, 0.00152578), abs=5e-9
    )
    assert (result.dbm.var_case, result.dbm.var_treatment_case, result.dbm.var_reader_case, result.dbm.var_error) == (
        pytest.approx((0.05125091, -0.00288715, 0.02791730, 0.07629656), abs=5e-9)
    )
    assert (result.statistic, result.df2, result.p) == (
        pytest.approx(4.69, abs=5e-3),
        pytest.approx(3.0, abs=1e-12),
        pytest.approx(0.1188, abs=5e-5),
    )
    assert result.comparisons[0].interval == pytest.approx((-0.00509, 0.02680), abs=5e-6)
    assert [mean.df for mean in result.treatment_means] == pytest.approx([70.12, 253.64], abs=5e-3)
    assert [mean.se for mean in result.treatment_means] == pytest.approx([0.02440215, 0.02356642], abs=5e-9)
    (warning,) = result.warnings
    assert "cov2 - cov3" in warning
    assert "-2.88" in warning
    assert "set to 0" in warning


def test_franken_with_fixed_readers_clamps_as_or_dbm_mrmc_does():
    result = analyse_auc(published("franken.csv"), analysis=Analysis.FIXED_READERS)
    assert (result.statistic, result.p) == (pytest.approx(0.32101, abs=5e-6), pytest.approx(0.5710, abs=5e-5))
    assert result.comparisons[0].interval == pytest.approx((-0.02670, 0.04840), abs=5e-6)
    assert [mean.se for mean in result.treatment_means] == pytest.approx([0.02710939, 0.02744860], abs=5e-9)
    assert [each.se for each in result.reader_comparisons] == pytest.approx(
        [0.04279, 0.04007, 0.03499, 0.03481], abs=5e-6
    )


def test_the_jackknife_covariance_equals_leaving_out_each_case_by_hand():
    study = simulated()
    left_out = []
    for case in range(len(study.cases)):
        keep = np.arange(len(study.cases)) != case
        kept, truth = flat(study)[:, keep], study.truth[keep]
        left_out.append([kernel(row[truth], row[~truth]).mean() for row in kept])
    values = np.array(left_out)
    n = len(study.cases)
    expected = (n - 1) / n * sum(np.outer(row, row) for row in values - values.mean(axis=0))
    auc, covariance = auc_covariance(flat(study), study.truth, CovarianceMethod.JACKKNIFE)
    assert auc == pytest.approx([kernel(r[study.truth], r[~study.truth]).mean() for r in flat(study)], abs=1e-14)
    assert covariance == pytest.approx(expected, abs=1e-14)


def test_the_delong_covariance_equals_its_definition():
    study = simulated(1)
    kernels = [kernel(row[study.truth], row[~study.truth]) for row in flat(study)]
    by_diseased = np.cov([each.mean(axis=1) for each in kernels]) / study.truth.sum()
    by_healthy = np.cov([each.mean(axis=0) for each in kernels]) / (~study.truth).sum()
    _, covariance = auc_covariance(flat(study), study.truth, CovarianceMethod.DELONG)
    assert covariance == pytest.approx(by_diseased + by_healthy, abs=1e-14)


def test_the_unbiased_covariance_has_the_true_covariance_as_its_mean_over_all_samples():
    # Two readers rate 3 kinds of diseased and of healthy cases, drawn with these probabilities: all 3^3 x 3^2 samples.
    diseased, healthy = np.array([[3, 1, 2], [2, 2, 1]]), np.array([[1, 0, 2], [1, 2, 0]])
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.6, 0.1, 0.3])
    truth = np.array([True] * 3 + [False] * 2)
    chances, aucs, estimates = [], [], []
    for xs in itertools.product(range(3), repeat=3):
        for ys in itertools.product(range(3), repeat=2):
            sample = np.concatenate([diseased[:, xs], healthy[:, ys]], axis=1).astype(float)
            auc, covariance = auc_covariance(sample, truth, CovarianceMethod.UNBIASED)
            chances.append(p[list(xs)].prod() * q[list(ys)].prod())
            aucs.append(auc)
            estimates.append(covariance)
    assert sum(chances) == pytest.approx(1.0)
    true_covariance = np.cov(np.array(aucs).T, aweights=chances, ddof=0)
    assert np.average(estimates, axis=0, weights=chances) == pytest.approx(true_covariance, abs=1e-14)
    assert true_covariance[0, 1] != pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_the_f_test_equals_the_dbm_anova_of_jackknife_pseudovalues(seed: int):
    study = simulated(seed)
    t, r, n = study.ratings.shape
    pseudo = np.empty((t, r, n))
    for case in range(n):
        keep = np.arange(n) != case
        for i, j in itertools.product(range(t), range(r)):
            row, truth = study.ratings[i, j], study.truth
            whole = kernel(row[truth], row[~truth]).mean()
            part = kernel(row[keep & truth], row[keep & ~truth]).mean()
            pseudo[i, j, case] = n * whole - (n - 1) * part
    mean = pseudo.mean
    tr, tc, rc = mean(axis=2, keepdims=True), mean(axis=1, keepdims=True), mean(axis=0, keepdims=True)
    by_t, by_r, by_c = mean(axis=(1, 2), keepdims=True), mean(axis=(0, 2), keepdims=True), mean((0, 1), keepdims=True)
    ms_t = r * n * ((by_t - mean()) ** 2).sum() / (t - 1)
    ms_tr = n * ((tr - by_t - by_r + mean()) ** 2).sum() / ((t - 1) * (r - 1))
    ms_tc = r * ((tc - by_t - by_c + mean()) ** 2).sum() / ((t - 1) * (n - 1))
    residual = pseudo - tr - tc - rc + by_t + by_r + by_c - mean()
    ms_trc = (residual**2).sum() / ((t - 1) * (r - 1) * (n - 1))
    error = ms_tr + max(ms_tc - ms_trc, 0)
    result = analyse_auc(study)
    assert result.statistic == pytest.approx(ms_t / error, rel=1e-10)
    assert result.df2 == pytest.approx(error**2 / (ms_tr**2 / ((t - 1) * (r - 1))), rel=1e-10)
    assert result.dbm.var_error == pytest.approx(ms_trc, rel=1e-10)
    assert result.dbm.var_treatment_case == pytest.approx((ms_tc - ms_trc) / r, rel=1e-8)


def test_fixed_cases_with_two_treatments_is_the_paired_t_test_of_the_readers():
    result = analyse_auc(simulated(5, t=2), analysis=Analysis.FIXED_CASES)
    paired = stats.ttest_rel(result.estimates[0], result.estimates[1])
    assert result.p == pytest.approx(paired.pvalue, rel=1e-10)
    assert result.comparisons[0].statistic == pytest.approx(paired.statistic, rel=1e-10)
    assert result.comparisons[0].interval == pytest.approx(tuple(paired.confidence_interval(0.95)), rel=1e-10)


@pytest.mark.parametrize("analysis", list(Analysis))
@pytest.mark.parametrize("covariance", list(CovarianceMethod))
def test_order_of_readers_and_cases_and_increasing_ratings_change_nothing(analysis, covariance):
    study = simulated(6)
    rng = np.random.default_rng(0)
    readers, cases = rng.permutation(len(study.readers)), rng.permutation(len(study.cases))
    other = ReaderStudy(
        study.treatments,
        tuple(study.readers[j] for j in readers),
        tuple(study.cases[k] for k in cases),
        study.truth[cases],
        np.exp(study.ratings[:, readers][:, :, cases] / 10),
    )
    one = analyse_auc(study, covariance=covariance, analysis=analysis)
    two = analyse_auc(other, covariance=covariance, analysis=analysis)
    assert two.statistic == pytest.approx(one.statistic, rel=1e-9)
    assert two.p == pytest.approx(one.p, rel=1e-9)
    assert [c.interval for c in two.comparisons] == [pytest.approx(c.interval, rel=1e-9) for c in one.comparisons]


def test_swapping_the_treatments_turns_the_sign_of_the_difference_alone():
    study = simulated(7, t=2)
    swapped = ReaderStudy(study.treatments, study.readers, study.cases, study.truth, study.ratings[::-1])
    one, two = analyse_auc(study), analyse_auc(swapped)
    assert one.comparisons[0].difference == pytest.approx(-two.comparisons[0].difference, abs=1e-15)
    assert one.comparisons[0].interval == pytest.approx(tuple(-end for end in two.comparisons[0].interval[::-1]))
    assert (one.statistic, one.p) == pytest.approx((two.statistic, two.p))


def test_ratings_that_differ_in_the_last_bit_are_not_tied():
    study = simulated(8, t=2, r=2)
    ratings = np.where(study.truth, np.nextafter(1.0, 2.0), 1.0) * np.ones_like(study.ratings)
    assert analyse_auc(ReaderStudy(("a", "b"), ("a", "b"), study.cases, study.truth, ratings)).estimates.min() == 1.0


@pytest.mark.parametrize("analysis", list(Analysis))
@pytest.mark.parametrize("covariance", list(CovarianceMethod))
def test_perfect_separation_has_no_test_and_says_so(analysis, covariance):
    study = simulated(8)
    perfect = ReaderStudy(study.treatments, study.readers, study.cases, study.truth, study.ratings + 100 * study.truth)
    result = analyse_auc(perfect, covariance=covariance, analysis=analysis)
    assert (result.estimates == 1).all()
    assert result.components.var_error == 0
    assert np.isnan([result.statistic, result.p, *result.comparisons[0].interval]).all()
    assert any("statistic, p and interval are undefined" in warning for warning in result.warnings)


def test_treatments_with_the_same_ratings_differ_by_exactly_nothing():
    study = simulated(9, t=2)
    same = ReaderStudy(("a", "b"), study.readers, study.cases, study.truth, study.ratings[[0, 0]])
    result = analyse_auc(same, analysis=Analysis.FIXED_READERS)
    assert result.comparisons[0].difference == 0
    assert np.isnan(result.p)
    assert any("error term is 0" in warning for warning in result.warnings)


def test_one_reader_is_analysed_with_fixed_readers_and_refused_a_test_with_random_ones():
    study = simulated(10, t=2, r=1)
    fixed, random = analyse_auc(study, analysis=Analysis.FIXED_READERS), analyse_auc(study)
    (a, b), covariance = auc_covariance(flat(study), study.truth)
    z = (a - b) / np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert fixed.p == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-10)
    assert np.isnan(random.p)
    assert any("at least two readers" in warning for warning in random.warnings)
    assert np.isnan(random.components.cov2)


def test_one_treatment_has_an_interval_and_no_test():
    result = analyse_auc(simulated(11, t=1))
    assert np.isfinite(result.treatment_means[0].interval).all()
    assert np.isnan(result.statistic)
    assert any("one treatment" in warning for warning in result.warnings)


def test_three_treatments_give_three_comparisons_and_no_single_difference():
    result = analyse_auc(simulated(12))
    assert [(each.a, each.b) for each in result.comparisons] == [("a", "b"), ("a", "c"), ("b", "c")]
    summary = or_summary(result, "auc")
    assert summary["difference"] is None
    assert any("more than two treatments" in warning for warning in summary["warnings"])


def rows(study: ReaderStudy) -> dict[str, list]:
    cells = list(itertools.product(range(len(study.treatments)), range(len(study.readers)), range(len(study.cases))))
    return {
        "treatment": [study.treatments[i] for i, _, _ in cells],
        "reader": [study.readers[j] for _, j, _ in cells],
        "case": [study.cases[k] for _, _, k in cells],
        "truth": [bool(study.truth[k]) for _, _, k in cells],
        "rating": [float(study.ratings[cell]) for cell in cells],
    }


def test_rows_in_any_order_make_the_same_study():
    study = simulated(13)
    columns = rows(study)
    order = np.random.default_rng(1).permutation(len(columns["case"]))
    again = reader_study(**{name: [values[at] for at in order] for name, values in columns.items()})
    assert again.cases == tuple(map(str, range(20)))  # sorted as numbers, not as text
    assert (again.ratings == study.ratings).all()
    assert (again.truth == study.truth).all()


def test_a_missing_reading_is_named():
    columns = {name: values[:-1] for name, values in rows(simulated()).items()}
    with pytest.raises(RadserveError, match="reader 'd' has no rating of case '19' under treatment 'c'") as caught:
        reader_study(**columns)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "not fully crossed" in caught.value.client_message


def test_a_repeated_reading_is_named():
    columns = {name: [*values, values[3]] for name, values in rows(simulated()).items()}
    with pytest.raises(RadserveError, match="row 241 repeats row 4: reader 'a', treatment 'a', case '3'"):
        reader_study(**columns)


def test_a_case_whose_truth_changes_is_named():
    columns = rows(simulated())
    columns["truth"][20] = not columns["truth"][20]
    with pytest.raises(RadserveError, match="truth of case '0' differs between row 1 and row 21"):
        reader_study(**columns)


def test_a_rating_that_is_not_finite_is_named():
    columns = rows(simulated())
    columns["rating"][25] = float("nan")
    with pytest.raises(RadserveError, match="rating nan of reader 'b', treatment 'a', case '5'"):
        reader_study(**columns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": np.ones(20, dtype=bool)}, "same truth"),
        ({"ratings": np.ones((3, 4, 19))}, "expected \\(3, 4, 20\\)"),
    ],
)
def test_a_study_that_does_not_fit_is_refused(change, message):
    study = simulated()
    fields = {"truth": study.truth, "ratings": study.ratings} | change
    with pytest.raises(RadserveError, match=message):
        ReaderStudy(study.treatments, study.readers, study.cases, **fields)


def test_one_case_of_a_class_is_refused():
    with pytest.raises(RadserveError, match="at least 2 cases of each class, got 1 diseased and 11"):
        analyse_auc(simulated(m=1))


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_that_is_no_probability_is_refused(level: float):
    with pytest.raises(RadserveError, match="confidence level"):
        analyse_auc(simulated(), level=level)


def test_estimates_and_covariance_that_do_not_fit_are_refused():
    with pytest.raises(RadserveError, match="expected 2 x 3"):
        obuchowski_rockette(np.ones((2, 2)), np.eye(4), treatments=("a", "b"), readers=("a", "b", "c"), n_cases=9)


def test_the_result_cannot_be_changed():
    result: OrResult = analyse_auc(simulated())
    with pytest.raises(ValueError, match="read-only"):
        result.estimates[0, 0] = 0
