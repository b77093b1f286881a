"""Routing: which series of a study go to which pack, what is made of the result, and who gets it.

A rule set is a value; `match` is a pure function of it and of the facts of a study. Rules are tried in their order and
all that match count. A condition compares one fact of a series with patterns: text without regard to case, `*` and `?`
stand for any characters; a tag of several values matches where one value does.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from radserve._checks import check_uid, invalid

# The facts of a series that have a name of their own; any other condition is `tag.KEYWORD`.
FACTS = ("modality", "body_part", "view", "study_description", "series_description", "calling_ae")
TAG_PREFIX = "tag."


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What rules may ask of a series; "" means that it is not known. `tags`: values by DICOM keyword, as texts.

    Where the instances of a series differ (its views), a fact has several values with a backslash between them.
    `is_result`: radserve made it, here or elsewhere; no rule takes it, so that results which an archive sends back are
    not analysed in their turn.
    """

    series_instance_uid: str
    modality: str = ""
    body_part: str = ""
    view: str = ""
    study_description: str = ""
    series_description: str = ""
    calling_ae: str = ""
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    is_result: bool = False

    def __post_init__(self) -> None:
        check_uid("series_instance_uid", self.series_instance_uid)

    def values(self, fact: str) -> tuple[str, ...]:
        """The values of a fact or of `tag.KEYWORD`; ("",) where it has none."""
        if fact.startswith(TAG_PREFIX):
            return self.tags.get(fact.removeprefix(TAG_PREFIX)) or ("",)
        return tuple(str(getattr(self, fact)).split("\\"))


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """A study as rules see it."""

    study_instance_uid: str
    series: tuple[SeriesFacts, ...]

    def __post_init__(self) -> None:
        check_uid("study_instance_uid", self.study_instance_uid)
        if not self.series:
            raise invalid("StudyFacts.series", "none", "at least one series")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a condition holds for a series, and why: a sentence that names patterns, never values of the header."""

    holds: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Is:
    """A fact matches one of the patterns; the pattern "" matches a fact that is not known."""

    fact: str
    patterns: tuple[str, ...]

    def __post_init__(self) -> None:
        keyword = self.fact.removeprefix(TAG_PREFIX)
        known = self.fact in FACTS or (self.fact.startswith(TAG_PREFIX) and keyword.isascii() and keyword.isalnum())
        if not known:
            raise invalid("condition", self.fact, f"one of {list(FACTS)} or tag.KEYWORD")
        if not self.patterns:
            raise invalid(f"condition {self.fact}", "no pattern", "at least one")

    def judge(self, series: SeriesFacts) -> Verdict:
        shown = " or ".join(repr(each) for each in self.patterns)
        for value in series.values(self.fact):
            for pattern in self.patterns:
                if fnmatch.fnmatchcase(value.upper(), pattern.upper()):
                    return Verdict(True, f"{self.fact} is {pattern!r}")
        unknown = series.values(self.fact) == ("",)
        return Verdict(False, f"{self.fact} is not known" if unknown else f"{self.fact} is not {shown}")


@dataclass(frozen=True, slots=True)
class All:
    """All conditions hold; none at all holds for every series."""

    conditions: tuple[Condition, ...] = ()

    def judge(self, series: SeriesFacts) -> Verdict:
        verdicts = [each.judge(series) for each in self.conditions]
        for verdict in verdicts:
            if not verdict.holds:
                return verdict
        return Verdict(True, " and ".join(each.reason for each in verdicts) or "it takes every series")


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one condition holds."""

    conditions: tuple[Condition, ...]

    def __post_init__(self) -> None:
        if not self.conditions:
            raise invalid("any", "no condition", "at least one")

    def judge(self, series: SeriesFacts) -> Verdict:
        verdicts = [each.judge(series) for each in self.conditions]
        for verdict in verdicts:
            if verdict.holds:
                return verdict
        return Verdict(False, "(" + " and ".join(each.reason for each in verdicts) + ")")


@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold."""

    condition: Condition

    def judge(self, series: SeriesFacts) -> Verdict:
        verdict = self.condition.judge(series)
        return Verdict(not verdict.holds, f"not so that {verdict.reason}" if verdict.holds else verdict.reason)


Condition = Is | All | AnyOf | Not


@dataclass(frozen=True, slots=True)
class Rule:
    """Series for which `when` holds go to `pack`; `outputs` of the result go to each of `destinations`.

    `outputs` empty means the usual ones of a destination.
    """

    name: str
    pack: str
    when: Condition = field(default_factory=All)
    outputs: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what in ("name", "pack"):
            if not getattr(self, what).strip():
                raise invalid(f"rule {self.name!r} {what}", getattr(self, what), "a text")
        for what in ("outputs", "destinations"):
            given = getattr(self, what)
            if len(set(given)) != len(given):
                raise invalid(f"rule {self.name!r} {what}", list(given), "each once")


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules in their order, each with a name of its own."""

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            raise invalid("rules", names, "names that differ")

    @property
    def keywords(self) -> tuple[str, ...]:
        """The DICOM keywords that the conditions ask for, sorted."""
        return tuple(sorted({name for rule in self.rules for name in _keywords(rule.when)}))


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a rule said of a series."""

    rule: str
    series_instance_uid: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Route:
    """What one destination gets: `outputs` empty means its usual ones."""

    destination: str
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """One pack for one study: the series it sees, the rules that said so, and where its result goes."""

    pack: str
    series_instance_uids: tuple[str, ...]
    rules: tuple[str, ...]
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Routing:
    """The decisions for a study, one for each pack, and why: every rule's word on every series."""

    decisions: tuple[Decision, ...]
    explanations: tuple[Explanation, ...]


def match(rules: RuleSet, study: StudyFacts) -> Routing:
    """Try every rule on every series. Rules that name the same pack are merged: a study gets one result of a pack."""
    explanations: list[Explanation] = []
    matched: dict[str, list[tuple[Rule, list[str]]]] = {}
    for rule in rules.rules:
        verdicts = [(each.series_instance_uid, _judge(rule, each)) for each in study.series]
        explanations += [Explanation(rule.name, uid, verdict) for uid, verdict in verdicts]
        if series := [uid for uid, verdict in verdicts if verdict.holds]:
            matched.setdefault(rule.pack, []).append((rule, series))
    return Routing(tuple(_decision(pack, found) for pack, found in matched.items()), tuple(explanations))


def _judge(rule: Rule, series: SeriesFacts) -> Verdict:
    return Verdict(False, "it is a result of radserve") if series.is_result else rule.when.judge(series)


def _decision(pack: str, found: Sequence[tuple[Rule, list[str]]]) -> Decision:
    outputs: dict[str, list[tuple[str, ...]]] = {}
    for rule, _ in found:
        for destination in rule.destinations:
            outputs.setdefault(destination, []).append(rule.outputs)
    return Decision(
        pack=pack,
        series_instance_uids=tuple(sorted({uid for _, series in found for uid in series})),
        rules=tuple(rule.name for rule, _ in found),
        routes=tuple(Route(name, _merged(each)) for name, each in outputs.items()),
    )


def _merged(outputs: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """All that one of the rules names; the usual ones where none names any."""
    return tuple(dict.fromkeys(name for each in outputs for name in each))


def _keywords(condition: Condition) -> list[str]:
    if isinstance(condition, Is):
        return [condition.fact.removeprefix(TAG_PREFIX)] if condition.fact.startswith(TAG_PREFIX) else []
    parts = (condition.condition,) if isinstance(condition, Not) else condition.conditions
    return [name for each in parts for name in _keywords(each)]
