"""FROC figures of merit against what RJafroc prints, and against their definitions by loops over marks."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.froc import FigureOfMerit, analyse_froc, figures_of_merit
from radserve.evaluation.froc_curve import operating_points
from radserve.evaluation.froc_study import FrocStudy, Lesion, Mark, froc_study
from radserve.evaluation.froc_tables import Matching, study_from_tables
from radserve.evaluation.lesion_matching import DuplicateRule
from radserve.evaluation.mrmc import analyse_auc
from radserve.evaluation.mrmc_study import ReaderStudy
from radserve.evaluation.or_result import Analysis
from radserve.evaluation.tables import Table, read_table

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "reference"
AREAS = [
    FigureOfMerit.WAFROC,
    FigureOfMerit.AFROC,
    FigureOfMerit.WAFROC1,
    FigureOfMerit.AFROC1,
    FigureOfMerit.FROC,
    FigureOfMerit.HR_AUC,
]


def published(number: str, *, healthy: bool = True) -> FrocStudy:
    paths = [REFERENCE / f"froc{number}_{part}.csv" for part in ("cases", "lesions", "marks")]
    if not paths[0].exists():
        pytest.skip(f"published data set froc{number} is not beside the repository (../shared/reference)")
    cases, lesions, marks = (read_table(path) for path in paths)
    if not healthy:
        diseased = {case for case, truth in zip(cases.text("case"), cases.text("truth"), strict=True) if truth == "1"}
        cases, marks = (
            table.take(np.array([at for at, case in enumerate(table.text("case")) if case in diseased]))
            for table in (cases, marks)
        )
    return study_from_tables(cases, lesions, marks)


def simulated(seed: int = 0) -> tuple[list[str], list[Lesion], list[Mark]]:
    """Twelve cases, half of them with one to three lesions of unequal weights; some cases and lesions unmarked."""
    rng = np.random.default_rng(seed)
    cases = [f"c{at}" for at in range(12)]
    lesions, marks = [], []
    for case in cases[::2]:
        weights = rng.dirichlet(np.ones(rng.integers(1, 4)))
        lesions += [Lesion(case, str(at), float(weight)) for at, weight in enumerate(weights)]
    for treatment in "AB":
        for reader in "xyz":
            for case in cases:
                ratings = rng.integers(1, 5, size=rng.poisson(0.8))
                marks += [Mark(treatment, reader, case, None, float(rating)) for rating in ratings]
            marks += [
                Mark(treatment, reader, lesion.case, lesion.lesion, float(rng.integers(2, 7)))
                for lesion in lesions
                if rng.random() < 0.7
            ]
    return cases, lesions, marks


def beats(true: float, false: float) -> float:
    return 1.0 if true > false else 0.5 if true == false else 0.0


def by_definition(fom: FigureOfMerit, cases: list[str], lesions: list[Lesion], marks: list[Mark]) -> float:
    """One reader and treatment, by loops over cases and lesions."""
    with_lesion = {lesion.case for lesion in lesions}
    healthy = [case for case in cases if case not in with_lesion]
    diseased = [case for case in cases if case in with_lesion]

    def false(case: str) -> list[float]:
        return [mark.rating for mark in marks if mark.case == case and mark.lesion is None]

    def hit(lesion: Lesion) -> float:
        found = [mark.rating for mark in marks if (mark.case, mark.lesion) == (lesion.case, lesion.lesion)]
        return max(found, default=-math.inf)

    def any_mark(case: str) -> float:
        return max((mark.rating for mark in marks if mark.case == case), default=-math.inf)

    match fom:
        case FigureOfMerit.MAX_LLF:
            return sum(hit(lesion) > -math.inf for lesion in lesions) / len(lesions)
        case FigureOfMerit.MAX_NLF | FigureOfMerit.EXP_TRNSFM_SP:
            nlf = sum(len(false(case)) for case in healthy) / len(healthy)
            return nlf if fom is FigureOfMerit.MAX_NLF else math.exp(-nlf)
        case FigureOfMerit.MAX_NLF_ALL_CASES:
            return sum(len(false(case)) for case in cases) / len(cases)
        case FigureOfMerit.HR_SE:
            return sum(any_mark(case) > -math.inf for case in diseased) / len(diseased)
        case FigureOfMerit.HR_SP:
            return sum(any_mark(case) == -math.inf for case in healthy) / len(healthy)
        case FigureOfMerit.HR_AUC:
            pairs = [beats(any_mark(d), any_mark(h)) for d in diseased for h in healthy]
            return sum(pairs) / len(pairs)
        case FigureOfMerit.FROC:
            pairs = [beats(hit(lesion), rating) for lesion in lesions for case in cases for rating in false(case)]
            return sum(pairs) / len(cases) / len(lesions)
    against = cases if fom in {FigureOfMerit.WAFROC1, FigureOfMerit.AFROC1} else healthy
    weighted = fom in {FigureOfMerit.WAFROC, FigureOfMerit.WAFROC1}
    total = sum(
        (lesion.weight if weighted else 1.0) * beats(hit(lesion), max(false(case), default=-math.inf))
        for lesion in lesions
        for case in against
    )
    return total / len(against) / (len(diseased) if weighted else len(lesions))


# RJafroc FROC book (dpc10ster/RJafrocFrocBook, chapter "Analyzing a dataset with only diseased cases"): dataset01,
# UtilFigureOfMerit and St(..., FOM), 7 to 10 significant digits.
def test_dataset01_wafroc_equals_what_rjafroc_prints():
    result = analyse_froc(published("01"))
    assert result.treatments == ("BT", "DM")
    assert result.estimates == pytest.approx(
        np.array(
            [
                [0.7602704, 0.8406191, 0.8171524, 0.8153090, 0.8278324],
                [0.6425854, 0.7049977, 0.7518434, 0.7724426, 0.6836962],
            ]
        ),
        abs=6e-8,
    )
    assert result.mean_squares.treatment == pytest.approx(0.025564954, abs=5e-10)
    assert (result.statistic, result.df2) == (pytest.approx(10.298825, abs=5e-7), pytest.approx(24.702758, abs=5e-7))
    assert result.p == pytest.approx(0.0036685784, abs=5e-11)
    (pair,) = result.comparisons
    assert (pair.difference, pair.se) == (pytest.approx(0.1011236, abs=5e-8), pytest.approx(0.031510744, abs=5e-10))
    assert pair.interval == pytest.approx((0.036186385, 0.16606081), abs=5e-9)
    first, second = result.treatment_means
    assert (first.estimate, second.estimate) == pytest.approx((0.81223666, 0.71111306), abs=5e-9)
    assert (first.se, second.se) == pytest.approx((0.026984337, 0.033910209), abs=5e-10)
    assert (first.df, second.df) == pytest.approx((59.281486, 17.789298), abs=5e-7)
    assert (first.cov2, second.cov2) == pytest.approx((0.0005390098, 0.0006046324), abs=5e-11)
    assert second.interval == pytest.approx((0.63980982, 0.78241630), abs=5e-9)


def test_dataset01_wafroc1_equals_what_rjafroc_prints_with_and_without_healthy_cases():
    values, _ = figures_of_merit(published("01"), FigureOfMerit.WAFROC1)
    assert values == pytest.approx(
        np.array(
            [
                [0.8079866, 0.8696629, 0.8747798, 0.8517613, 0.8563468],
                [0.7277103, 0.7781506, 0.8225630, 0.7968418, 0.7496963],
            ]
        ),
        abs=6e-8,
    )
    result = analyse_froc(published("01", healthy=False), fom=FigureOfMerit.WAFROC1)
    assert result.estimates == pytest.approx(
        np.array(
            [
                [0.8594559, 0.9009910, 0.9369398, 0.8910807, 0.8871039],
                [0.8195304, 0.8570572, 0.8988448, 0.8231600, 0.8208875],
            ]
        ),
        abs=6e-8,
    )
    assert (result.statistic, result.df2) == (pytest.approx(7.9579613, abs=5e-8), pytest.approx(236.88206, abs=5e-6))
    assert result.p == pytest.approx(0.0051936318, abs=5e-11)
    assert result.comparisons[0].interval == pytest.approx((0.015450111, 0.08698645), abs=5e-9)
    assert [mean.df for mean in result.treatment_means] == pytest.approx([24.733020, 27.621445], abs=5e-7)


# RJafroc 1.3.0 (dpc10ster/RJafroc, tests/testthat/goodValues361/OutputReport/dataset05HrAucDBMH.txt): DBM with
# Hillis' degrees of freedom, which the jackknife Obuchowski-Rockette analysis equals.
def test_dataset05_inferred_roc_equals_the_report_of_rjafroc():
    result = analyse_froc(published("05"), fom=FigureOfMerit.HR_AUC)
    assert result.estimates == pytest.approx(
        np.array(
            [
                [
                    0.85886525,
                    0.89314421,
                    0.8822695,
                    0.73026005,
                    0.7141844,
                    0.92907801,
                    0.91891253,
                    0.87919622,
                    0.8144208,
                ],
                [
                    0.89148936,
                    0.97612293,
                    0.88274232,
                    0.84822695,
                    0.83995272,
                    0.90898345,
                    0.95248227,
                    0.93380615,
                    0.856974,
                ],
            ]
        ),
        abs=5.1e-9,
    )
    dbm = result.dbm
    assert (dbm.var_reader, dbm.var_case, dbm.var_treatment_reader) == pytest.approx(
        (0.00280812, 0.01965493, 0.00048769), abs=5e-9
    )
    assert (dbm.var_treatment_case, dbm.var_reader_case, dbm.var_error) == pytest.approx(
        (0.01796535, 0.01559610, 0.06677587), abs=5.1e-9
    )
    assert result.mean_squares.treatment * 92 == pytest.approx(1.13120350, abs=5e-9)
    assert (result.statistic, result.df2) == (pytest.approx(4.14, abs=5e-3), pytest.approx(47.95, abs=5e-3))
    assert result.p == pytest.approx(0.0475, abs=5e-5)
    first, second = result.treatment_means
    assert (first.se, second.se) == pytest.approx((0.03532405, 0.02239222), abs=5e-9)
    assert first.interval == pytest.approx((0.77424048, 0.91916640), abs=1e-8)
    fixed_cases = analyse_froc(published("05"), fom=FigureOfMerit.HR_AUC, analysis=Analysis.FIXED_CASES)
    assert fixed_cases.treatment_means[0].interval == pytest.approx((0.78667616, 0.90673073), abs=1e-8)
    assert fixed_cases.p == pytest.approx(0.0129, abs=5e-5)


# The same report: average numbers of NL and LL marks per reader and case.
def test_dataset05_end_points_equal_the_report_of_rjafroc():
    study = published("05")
    nlf, _ = figures_of_merit(study, FigureOfMerit.MAX_NLF)
    assert nlf.mean() == pytest.approx(0.509877, abs=5e-7)
    llf, _ = figures_of_merit(study, FigureOfMerit.MAX_LLF)
    assert llf.mean() * len(study.lesion_case) / study.diseased.sum() == pytest.approx(0.997636, abs=5e-7)
    everywhere, _ = figures_of_merit(study, FigureOfMerit.MAX_NLF_ALL_CASES)
    assert everywhere.mean() * 92 == pytest.approx(0.509877 * 45 + 0.382979 * 47, abs=5e-5)


@pytest.mark.parametrize("fom", list(FigureOfMerit))
@pytest.mark.parametrize("seed", [0, 1])
def test_every_figure_and_its_left_out_values_equal_the_definition(fom: FigureOfMerit, seed: int):
    cases, lesions, marks = simulated(seed)
    values, left_out = figures_of_merit(froc_study(cases, lesions, marks), fom)
    diseased = {lesion.case for lesion in lesions}
    used = {
        FigureOfMerit.MAX_LLF: [case for case in cases if case in diseased],
        FigureOfMerit.HR_SE: [case for case in cases if case in diseased],
        FigureOfMerit.MAX_NLF: [case for case in cases if case not in diseased],
        FigureOfMerit.HR_SP: [case for case in cases if case not in diseased],
        FigureOfMerit.EXP_TRNSFM_SP: [case for case in cases if case not in diseased],
    }.get(fom, cases)
    cells = [(treatment, reader) for treatment in "AB" for reader in "xyz"]
    for (treatment, reader), value, without in zip(cells, values.ravel(), left_out, strict=True):
        own = [mark for mark in marks if (mark.treatment, mark.reader) == (treatment, reader)]
        assert value == pytest.approx(by_definition(fom, cases, lesions, own), abs=1e-12)
        expected = [
            by_definition(
                fom,
                [case for case in cases if case != out],
                [lesion for lesion in lesions if lesion.case != out],
                [mark for mark in own if mark.case != out],
            )
            for out in used
        ]
        assert without == pytest.approx(expected, abs=1e-12)


def test_one_lesion_and_one_mark_per_case_is_the_roc_analysis():
    rng = np.random.default_rng(4)
    truth = np.arange(30) < 14
    ratings = np.round(3 * (rng.normal(size=(2, 3, 30)) + truth))
    cases = [str(at) for at in range(30)]
    marks = [
        Mark("AB"[i], "xyz"[j], cases[k], "1" if truth[k] else None, float(ratings[i, j, k]))
        for i in range(2)
        for j in range(3)
        for k in range(30)
    ]
    study = froc_study(cases, [Lesion(case, "1") for case, ill in zip(cases, truth, strict=True) if ill], marks)
    roc = analyse_auc(ReaderStudy(("A", "B"), ("x", "y", "z"), tuple(cases), truth, ratings))
    for fom in (FigureOfMerit.WAFROC, FigureOfMerit.AFROC, FigureOfMerit.HR_AUC):
        free = analyse_froc(study, fom=fom)
        assert free.estimates == pytest.approx(roc.estimates, abs=1e-12)
        assert (free.statistic, free.df2, free.p) == pytest.approx((roc.statistic, roc.df2, roc.p), rel=1e-9)


@pytest.mark.parametrize("number", ["01", "05"])
def test_figures_of_merit_are_the_areas_under_the_empirical_curves(number: str):
    study = published(number)
    for fom, vertical in (
        (FigureOfMerit.WAFROC, "weighted_llf"),
        (FigureOfMerit.AFROC, "llf"),
        (FigureOfMerit.HR_AUC, "tpf"),
    ):
        values, _ = figures_of_merit(study, fom)
        for (i, j), value in np.ndenumerate(values):
            points = operating_points(study, i, j)
            x = np.concatenate([[0.0], points.fpf, [1.0]])
            y = np.concatenate([[0.0], getattr(points, vertical), [1.0]])
            assert np.trapz(y, x) == pytest.approx(value, abs=1e-9)


def test_the_froc_figure_is_the_area_under_the_froc_curve():
    cases, lesions, marks = simulated(3)
    study = froc_study(cases, lesions, marks)
    values, _ = figures_of_merit(study, FigureOfMerit.FROC)
    points = operating_points(study, 1, 2)
    area = np.trapz(np.concatenate([[0.0], points.llf]), np.concatenate([[0.0], points.nlf]))
    assert values[1, 2] == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize("fom", AREAS)
def test_order_of_rows_and_increasing_ratings_change_nothing(fom: FigureOfMerit):
    cases, lesions, marks = simulated(5)
    rng = np.random.default_rng(0)
    one = analyse_froc(froc_study(cases, lesions, marks), fom=fom)
    shuffled = [dataclasses.replace(marks[at], rating=math.exp(marks[at].rating)) for at in rng.permutation(len(marks))]
    two = analyse_froc(
        froc_study(
            [cases[at] for at in rng.permutation(len(cases))],
            [lesions[at] for at in rng.permutation(len(lesions))],
            shuffled,
        ),
        fom=fom,
    )
    assert two.estimates == pytest.approx(one.estimates, abs=1e-12)
    assert (two.statistic, two.p) == pytest.approx((one.statistic, one.p), rel=1e-9)


def test_lesions_without_weights_weigh_the_same_within_a_case():
    cases, lesions, marks = simulated(6)
    plain = [dataclasses.replace(lesion, weight=None) for lesion in lesions]
    study = froc_study(cases, plain, marks)
    assert np.bincount(study.lesion_case, weights=study.lesion_weights)[::2] == pytest.approx(np.ones(6))
    for case in set(study.lesion_case):
        assert len(set(study.lesion_weights[study.lesion_case == case])) == 1


def test_of_two_marks_on_a_lesion_the_higher_counts_and_the_other_is_reported():
    cases, lesions, marks = simulated(7)
    hit = next(mark for mark in marks if mark.lesion is not None)
    lower = dataclasses.replace(hit, rating=hit.rating - 1)
    one, two = froc_study(cases, lesions, marks), froc_study(cases, lesions, [lower, *marks, lower])
    assert (one.lesion_ratings == two.lesion_ratings).all()
    assert len(one.false_ratings) == len(two.false_ratings)
    assert two.warnings == ("2 further marks on a lesion already marked were dropped: the highest rating counts",)


def test_a_reader_without_marks_under_a_treatment_saw_nothing_and_is_reported():
    cases, lesions, marks = simulated(8)
    study = froc_study(cases, lesions, [mark for mark in marks if (mark.treatment, mark.reader) != ("B", "y")])
    values, _ = figures_of_merit(study, FigureOfMerit.WAFROC)
    assert values[1, 1] == pytest.approx(0.5, abs=1e-12)
    assert any("reader 'y' has no mark under treatment 'B'" in warning for warning in study.warnings)


@pytest.mark.parametrize(
    ("cases", "lesions", "marks", "message"),
    [
        (["c"], [], [], "0 marks and 0 lesions"),
        (["c", "c"], [Lesion("c", "1")], [Mark("A", "x", "c", "1", 1.0)], "case 'c' is listed twice"),
        (["c"], [Lesion("d", "1")], [Mark("A", "x", "c", None, 1.0)], "lesion in row 1 is in case 'd'"),
        (["c"], [Lesion("c", "1")] * 2, [Mark("A", "x", "c", None, 1.0)], "lesion '1' of case 'c' is listed twice"),
        (["c"], [Lesion("c", "1", 0.4)], [Mark("A", "x", "c", None, 1.0)], "weights of case 'c'"),
        (["c"], [Lesion("c", "1", math.nan)], [Mark("A", "x", "c", None, 1.0)], "weights of case 'c'"),
        (["c"], [Lesion("c", "1")], [Mark("A", "x", "e", None, 1.0)], "mark in row 1 is on case 'e'"),
        (["c"], [Lesion("c", "1")], [Mark("A", "x", "c", "2", 1.0)], "lesion '2' of case 'c'"),
        (["c"], [Lesion("c", "1")], [Mark("A", "x", "c", None, math.inf)], "rating inf"),
    ],
)
def test_marks_that_do_not_fit_are_refused(cases, lesions, marks, message):
    with pytest.raises(RadserveError, match=message) as caught:
        froc_study(cases, lesions, marks)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_wafroc_without_healthy_cases_is_refused_and_names_the_alternative():
    cases, lesions, marks = simulated(9)
    diseased = {lesion.case for lesion in lesions}
    study = froc_study([c for c in cases if c in diseased], lesions, [m for m in marks if m.case in diseased])
    with pytest.raises(RadserveError, match="wafroc1"):
        figures_of_merit(study)
    assert np.isnan(operating_points(study, 0, 0).fpf).all()


def table(name: str, text: str) -> Table:
    header, *lines = [line.strip().split(",") for line in text.strip().splitlines()]
    return Table(name, dict(zip(header, map(tuple, zip(*lines, strict=True)), strict=True)))


CASES = "case,truth,n_lesions\n1,1,2\n2,0,0"
LESIONS = "case,lesion,weight,x,y\n1,1,0.5,10,10\n1,2,0.5,40,40"
PLACED = "modality,reader,case,rating,x,y\nA,r,1,3,11,10\nA,r,1,5,10,12\nA,r,1,4,70,70\nA,r,2,2,10,10"


def test_placed_marks_are_matched_by_distance_under_the_stated_rule_for_duplicates():
    tables = table("cases", CASES), table("lesions", LESIONS), table("marks", PLACED)
    ignored = study_from_tables(*tables, matching=Matching(radius=5))
    assert ignored.lesion_ratings.tolist() == [[[5.0, -math.inf]]]  # the surest mark takes the lesion
    assert sorted(ignored.false_ratings) == [2.0, 4.0]
    strict = study_from_tables(*tables, matching=Matching(radius=5, duplicates=DuplicateRule.FALSE_MARK))
    assert sorted(strict.false_ratings) == [2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("cases", "marks", "message"),
    [
        (CASES.replace("1,1,2", "1,1,3"), "A,r,1,LL,1,3", "'n_lesions', row 1: got 3, expected 2"),
        (CASES.replace("2,0,0", "2,1,0"), "A,r,1,LL,1,3", "'truth', row 2: got 1, expected 0"),
        (CASES, "A,r,1,TP,1,3", "'type', row 1: got 'TP', expected LL or NL"),
        (CASES, "A,r,1,LL,,3", "'lesion', row 1: got '', expected a lesion"),
        (CASES, "A,r,1,NL,2,3", "'lesion', row 1: got '2', expected nothing"),
        (CASES, "A,r,1,NL,,x", "'rating', row 1: got 'x'"),
        (CASES, "A,r,7,NL,,3", "'case', row 1: got '7', expected a case of cases"),
    ],
)
def test_tables_that_do_not_fit_are_refused_with_column_row_and_value(cases, marks, message):
    tables = (
        table("cases", cases),
        table("lesions", LESIONS),
        table("marks", f"modality,reader,case,type,lesion,rating\n{marks}"),
    )
    with pytest.raises(RadserveError, match=message):
        study_from_tables(*tables)


def test_matching_without_positions_is_refused():
    tables = (
        table("cases", CASES),
        table("lesions", "case,lesion\n1,1\n1,2"),
        table("marks", "reader,modality,case,rating\nr,A,1,2"),
    )
    with pytest.raises(RadserveError, match="needs the columns 'x' and 'y'"):
        study_from_tables(*tables, matching=Matching(radius=5))
