"""Scores by rubric: stored judgements of cases on weighted criteria, the same judgements giving the same score.

A rubric is a TOML file with name, version and tables [[criterion]] (id, text, weight, levels: the highest level). A
judgement says which level, from 0, a case reached on a criterion, by whom.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radserve.evaluation.questions import one_to_ten
from radserve.evaluation.tables import Table, bad_cell, refusal


@dataclass(frozen=True)
class Criterion:
    """One criterion: its weight, and the highest level a judge can give (levels run from 0)."""

    identifier: str
    text: str
    weight: float
    levels: int


@dataclass(frozen=True)
class Rubric:
    """A versioned list of criteria."""

    name: str
    version: str
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True)
class RubricScore:
    """The mean share of the points, 0 to 1, and the survey's 1 to 10; by case too."""

    share: float
    score: float
    cases: Mapping[str, float]


def read_rubric(path: Path) -> Rubric:
    """Read a rubric. Raises RadserveError INVALID_ARGUMENT naming the criterion and the entry at fault."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        criteria = tuple(
            Criterion(str(each["id"]), str(each["text"]), float(each["weight"]), int(each["levels"]))
            for each in table["criterion"]
        )
        rubric = Rubric(str(table["name"]), str(table["version"]), criteria)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise refusal(f"rubric: {path.name!r} cannot be read: {error}") from error
    except KeyError as error:
        raise refusal(f"rubric {path.name!r}: the entry {error.args[0]!r} is missing") from error
    for each in criteria:
        if not 0 < each.weight < float("inf") or each.levels < 1:
            raise refusal(f"rubric, criterion {each.identifier!r}: expected a weight above 0 and at least 1 level")
    if len({each.identifier for each in criteria}) != len(criteria) or not criteria:
        raise refusal(f"rubric {path.name!r}: expected criteria with different ids")
    return rubric


def score_judgements(rubric: Rubric, judgements: Table) -> RubricScore:
    """Return the score of judgements: a table with the columns case, criterion, judge and level.

    A case's share is the weighted mean, over the criteria, of the judges' mean level over the highest level.

    Raises RadserveError INVALID_ARGUMENT naming column, row and value of a wrong judgement, and for a criterion that
    some case was not judged on.
    """
    known = {each.identifier: each for each in rubric.criteria}
    cases, names, judges = (judgements.categories(column) for column in ("case", "criterion", "judge"))
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    seen: set[tuple[str, str, str]] = set()
    for row, (case, name, judge, level) in enumerate(
        zip(cases, names, judges, judgements.whole_numbers("level").tolist(), strict=True), start=1
    ):
        if name not in known:
            raise bad_cell("criterion", row, name, "a criterion of the rubric")
        if not 0 <= level <= known[name].levels:
            raise bad_cell("level", row, level, f"a level from 0 to {known[name].levels}")
        if (case, name, judge) in seen:
            raise bad_cell("judge", row, judge, "each judge once per case and criterion")
        seen.add((case, name, judge))
        found[case][name].append(level / known[name].levels)
    shares = {case: _share(case, levels, rubric.criteria) for case, levels in sorted(found.items())}
    mean = float(np.mean(list(shares.values())))
    return RubricScore(mean, one_to_ten(mean), shares)


def _share(case: str, levels: Mapping[str, Sequence[float]], criteria: Sequence[Criterion]) -> float:
    for each in criteria:
        if each.identifier not in levels:
            raise refusal(f"case {case!r}: not judged on criterion {each.identifier!r}")
    means = [float(np.mean(levels[each.identifier])) for each in criteria]
    return float(np.average(means, weights=[each.weight for each in criteria]))
