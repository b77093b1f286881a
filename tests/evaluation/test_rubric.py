"""Rubric scores worked by hand, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.errors import RadserveError
from radserve.evaluation.rubric import Rubric, read_rubric, score_judgements
from radserve.evaluation.tables import read_table

RUBRIC = """
name = "headache case"
version = "1"
[[criterion]]
id = "asks"
text = "Asks for what is missing"
weight = 3
levels = 2
[[criterion]]
id = "safe"
text = "Names the emergency"
weight = 1
levels = 1
"""
ROWS = "case,criterion,judge,level\nc1,asks,r1,2\nc1,asks,r2,1\nc1,safe,r1,1\nc2,asks,r1,0\nc2,safe,r1,1\n"


@pytest.fixture
def rubric(tmp_path: Path) -> Rubric:
    (tmp_path / "rubric.toml").write_text(RUBRIC)
    return read_rubric(tmp_path / "rubric.toml")


def test_the_score_is_the_weighted_mean_of_the_judges_levels(rubric: Rubric, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    result = score_judgements(rubric, read_table(tmp_path / "rows.csv"))
    # c1: (3 x 0.75 + 1 x 1) / 4 = 0.8125; c2: (3 x 0 + 1) / 4 = 0.25
    assert result.cases == pytest.approx({"c1": 0.8125, "c2": 0.25})
    assert result.share == pytest.approx(0.53125)
    assert result.score == pytest.approx(1 + 9 * 0.53125)


def test_the_order_of_judgements_does_not_matter(rubric: Rubric, tmp_path: Path) -> None:
    head, *rows = ROWS.splitlines(keepends=True)
    (tmp_path / "one.csv").write_text(ROWS)
    (tmp_path / "two.csv").write_text(head + "".join(reversed(rows)))
    assert score_judgements(rubric, read_table(tmp_path / "one.csv")) == score_judgements(
        rubric, read_table(tmp_path / "two.csv")
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("c1,asks,r1,2", "c1,asks,r1,3"), "column 'level', row 1: got 3, expected a level from 0 to 2"),
        (("c1,safe,r1,1", "c1,kind,r1,1"), "column 'criterion', row 3: got 'kind'"),
        (("c1,asks,r2,1", "c1,asks,r1,1"), "column 'judge', row 2: got 'r1'"),
        (("c2,safe,r1,1\n", ""), "case 'c2': not judged on criterion 'safe'"),
    ],
)
def test_a_wrong_judgement_is_refused(rubric: Rubric, tmp_path: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "rows.csv").write_text(ROWS.replace(*change))
    with pytest.raises(RadserveError, match=message):
        score_judgements(rubric, read_table(tmp_path / "rows.csv"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("weight = 3", "weight = 0"), "criterion 'asks': expected a weight above 0"),
        (('id = "safe"', 'id = "asks"'), "different ids"),
        (('version = "1"', ""), "the entry 'version' is missing"),
    ],
)
def test_a_wrong_rubric_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "rubric.toml").write_text(RUBRIC.replace(*change))
    with pytest.raises(RadserveError, match=message):
        read_rubric(tmp_path / "rubric.toml")
