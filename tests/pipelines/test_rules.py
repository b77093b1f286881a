"""Routing rules: what matches, why, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.pipelines.rules import (
    All,
    AnyOf,
    Condition,
    Is,
    Not,
    Route,
    Rule,
    RuleSet,
    SeriesFacts,
    StudyFacts,
    match,
)
from radserve.pipelines.rules_file import parse_rules, read_rules

CHEST = SeriesFacts("1.1", "CR", "CHEST", "PA", "Chest two views", "PA erect", "ROOM1", {"StationName": ("XR1",)})
LATERAL = SeriesFacts("1.2", "CR", "CHEST", "LL", "Chest two views", "Lateral", "ROOM1", {"ImageType": ("A", "B")})
BREAST = SeriesFacts("1.3", "US", "BREAST")
STUDY = StudyFacts("1.9", (CHEST, LATERAL, BREAST))


@pytest.mark.parametrize(
    ("fact", "patterns", "expected"),
    [
        ("modality", ("CR",), {"1.1", "1.2"}),
        ("modality", ("cr", "us"), {"1.1", "1.2", "1.3"}),
        ("modality", ("C",), set()),
        ("body_part", ("CH*",), {"1.1", "1.2"}),
        ("body_part", ("?REAST",), {"1.3"}),
        ("view", ("PA",), {"1.1"}),
        ("view", ("",), {"1.3"}),
        ("study_description", ("*two*",), {"1.1", "1.2"}),
        ("series_description", ("*LATERAL*",), {"1.2"}),
        ("calling_ae", ("ROOM?",), {"1.1", "1.2"}),
        ("tag.StationName", ("xr1",), {"1.1"}),
        ("tag.StationName", ("",), {"1.2", "1.3"}),
        ("tag.ImageType", ("B",), {"1.2"}),
        ("tag.ImageType", ("A\\B",), set()),
    ],
)
def test_a_condition_takes_the_series_whose_fact_matches(
    fact: str, patterns: tuple[str, ...], expected: set[str]
) -> None:
    taken = {each.series_instance_uid for each in STUDY.series if Is(fact, patterns).judge(each).holds}
    assert taken == expected


def test_and_or_not_follow_the_truth_table() -> None:
    yes, no = Is("modality", ("CR",)), Is("modality", ("MR",))
    for first, second in itertools.product((yes, no), repeat=2):
        a, b = first is yes, second is yes
        assert All((first, second)).judge(CHEST).holds == (a and b)
        assert AnyOf((first, second)).judge(CHEST).holds == (a or b)
        assert Not(first).judge(CHEST).holds == (not a)
        assert Not(All((first, Not(second)))).judge(CHEST).holds == (not (a and not b))
    assert All().judge(CHEST).holds


@pytest.mark.parametrize(
    ("condition", "holds", "reason"),
    [
        (Is("modality", ("CR", "DX")), True, "modality is 'CR'"),
        (Is("modality", ("CT", "MR")), False, "modality is not 'CT' or 'MR'"),
        (Is("tag.StationName", ("Z",)), False, "tag.StationName is not 'Z'"),
        (Is("tag.Manufacturer", ("Z",)), False, "tag.Manufacturer is not known"),
        (All((Is("modality", ("CR",)), Is("view", ("LL",)))), False, "view is not 'LL'"),
        (All((Is("modality", ("CR",)), Is("view", ("PA",)))), True, "modality is 'CR' and view is 'PA'"),
        (AnyOf((Is("view", ("LL",)), Is("view", ("AP",)))), False, "(view is not 'LL' and view is not 'AP')"),
        (Not(Is("view", ("PA",))), False, "not so that view is 'PA'"),
        (Not(Is("view", ("LL",))), True, "view is not 'LL'"),
        (All(), True, "it takes every series"),
    ],
)
def test_the_reason_names_what_decided(condition: Condition, holds: bool, reason: str) -> None:
    verdict = condition.judge(CHEST)
    assert (verdict.holds, verdict.reason) == (holds, reason)


def test_reasons_hold_no_values_of_the_header() -> None:
    secret = SeriesFacts("1.1", "CR", tags={"PatientName": ("Doe^Jane",)})
    for condition in (Is("tag.PatientName", ("X",)), Is("tag.PatientName", ("*",)), Not(Is("tag.PatientName", ("*",)))):
        assert "Doe" not in condition.judge(secret).reason
    assert "Doe" not in repr(secret)


def test_rules_of_one_pack_are_one_decision_and_each_destination_gets_its_outputs() -> None:
    rules = RuleSet(
        (
            Rule("pa", "cxr", Is("view", ("PA",)), ("sr",), ("pacs", "viewer")),
            Rule("ultrasound", "us", Is("modality", ("US",)), (), ("pacs",)),
            Rule("lateral", "cxr", Is("view", ("LL",)), ("pdf", "sr"), ("pacs",)),
            Rule("never", "cxr", Is("modality", ("MR",)), ("seg",), ("archive",)),
        )
    )
    routing = match(rules, STUDY)
    cxr, us = routing.decisions
    assert (cxr.pack, cxr.series_instance_uids, cxr.rules) == ("cxr", ("1.1", "1.2"), ("pa", "lateral"))
    assert cxr.routes == (Route("pacs", ("sr", "pdf")), Route("viewer", ("sr",)))
    assert (us.series_instance_uids, us.routes) == (("1.3",), (Route("pacs", ()),))
    assert len(routing.explanations) == 4 * 3
    said = {(each.rule, each.series_instance_uid): each.verdict.reason for each in routing.explanations}
    assert said["never", "1.1"] == "modality is not 'MR'"


def test_a_study_that_no_rule_takes_has_reasons_and_no_decision() -> None:
    routing = match(RuleSet((Rule("mr", "p", Is("modality", ("MR",))),)), STUDY)
    assert not routing.decisions and len(routing.explanations) == 3
    assert match(RuleSet(()), STUDY).explanations == ()


EXAMPLE = """
[[rule]]
name = "chest"
pack = "cxr-bus-mini"
outputs = ["sr"]
destinations = ["pacs"]
[rule.when]
modality = ["CR", "DX"]
body_part = "CHEST*"
not = { series_description = "*lateral*" }
any = [{ calling_ae = "ROOM1" }, { tag.StationName = "XR?" }, { all = [{ view = "AP" }, { "tag.KVP" = "120" }] }]

[[rule]]
name = "all else"
pack = "other"
"""


def test_toml_says_the_same_as_the_values() -> None:
    rules = parse_rules(EXAMPLE)
    alternatives = (
        Is("calling_ae", ("ROOM1",)),
        All((Is("tag.StationName", ("XR?",)),)),
        All((Is("view", ("AP",)), Is("tag.KVP", ("120",)))),
    )
    when = All(
        (
            Is("modality", ("CR", "DX")),
            Is("body_part", ("CHEST*",)),
            Not(Is("series_description", ("*lateral*",))),
            AnyOf(alternatives),
        )
    )
    assert rules == RuleSet((Rule("chest", "cxr-bus-mini", when, ("sr",), ("pacs",)), Rule("all else", "other", All())))
    assert rules.keywords == ("KVP", "StationName")
    chest, other = match(rules, STUDY).decisions
    assert chest.series_instance_uids == ("1.1",)
    assert other.series_instance_uids == ("1.1", "1.2", "1.3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule = 3", "[[rule]]"),
        ("[[rule]", "no TOML"),
        ("[[rules]]\nname='a'", "keys: got ['rules']"),
        ("[[rule]]\npack='p'", "rule 1 name: got None"),
        ("[[rule]]\nname='a'", "rule 'a' pack: got None"),
        ("[[rule]]\nname='a'\npack=' '", "rule 'a' pack: got ' '"),
        ("[[rule]]\nname='a'\npack='p'\npriority=1", "rule 'a' keys: got ['priority']"),
        ("[[rule]]\nname='a'\npack='p'\nwhen.modalty='CR'", "condition: got 'modalty'"),
        ("[[rule]]\nname='a'\npack='p'\nwhen.modality=[]", "condition modality: got 'no pattern'"),
        ("[[rule]]\nname='a'\npack='p'\nwhen.modality=3", "rule 'a' modality: got 3"),
        ("[[rule]]\nname='a'\npack='p'\nwhen.any=[]", "any: got 'no condition'"),
        ("[[rule]]\nname='a'\npack='p'\nwhen.any={}", "rule 'a' any: got {}"),
        ("[[rule]]\nname='a'\npack='p'\nwhen.not='CR'", "rule 'a' condition: got 'CR'"),
        ("[[rule]]\nname='a'\npack='p'\noutputs=['sr','sr']", "rule 'a' outputs: got ['sr', 'sr']"),
        ("[[rule]]\nname='a'\npack='p'\n[[rule]]\nname='a'\npack='q'", "rules: got ['a', 'a']"),
        ("[[rule]]\nname='a'\npack='p'\nwhen=" + "{not=" * 25 + "{}" + "}" * 25, "at most 20 levels"),
    ],
)
def test_rules_that_make_no_sense_are_refused_by_name_and_value(text: str, message: str) -> None:
    with pytest.raises(RadserveError) as caught:
        parse_rules(text)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert message in caught.value.client_message


@pytest.mark.parametrize(
    ("known", "message"),
    [({"outputs": ["seg"]}, "rule 'chest' outputs: got ['sr']"), ({"packs": ["other"]}, "rule 'chest' pack: got")],
)
def test_what_this_installation_lacks_is_refused(tmp_path: Path, known: dict[str, Any], message: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(EXAMPLE)
    assert len(read_rules(path, outputs=["sr"], packs=["cxr-bus-mini", "other"]).rules) == 2
    with pytest.raises(RadserveError) as caught:
        read_rules(path, **known)
    assert message in caught.value.client_message


def test_a_rules_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RadserveError, match=r"none\.toml' cannot be read: No such file"):
        read_rules(tmp_path / "none.toml")


def test_a_result_of_ours_that_comes_back_is_taken_by_no_rule() -> None:
    returned = SeriesFacts("1.4", "OT", is_result=True)
    routing = match(RuleSet((Rule("all", "pack"),)), StudyFacts("1.9", (CHEST, returned)))
    (decision,) = routing.decisions
    assert decision.series_instance_uids == ("1.1",)
    assert [each.verdict.reason for each in routing.explanations][1] == "it is a result of radserve"
    assert not match(RuleSet((Rule("all", "pack"),)), StudyFacts("1.9", (returned,))).decisions
