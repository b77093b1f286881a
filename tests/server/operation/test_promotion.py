"""The gate of promotion: only a record of exactly this pack that passed, or two persons with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.models.pack import ModelPack, load_pack
from radserve.server.operation.promotion import Evidence, Override, judge
from tests.support.operation import PROFILE, PROFILE_TOML, evaluation_record
from tests.support.packs import make_tiny_pack

TWO = Override(("Dr A", "Dr B"), "urgent need; the gate is for adults")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path_factory.mktemp("pack") / "tiny"))


def refusal(pack: ModelPack, evidence: Evidence, profile: Path | None = None) -> RadserveError:
    with pytest.raises(RadserveError) as caught:
        judge(pack, evidence, profile)
    return caught.value


def test_a_passing_record_of_the_pack_promotes(pack: ModelPack) -> None:
    verdict = judge(pack, Evidence(evaluation_record(pack.digest)))
    assert verdict.profile == "site 1.0"
    assert verdict.failed == ()
    assert verdict.override is None


@pytest.mark.parametrize(
    ("record", "cause"),
    [(b"", "none was given"), (b"{", "not JSON"), (b"[]", "not a JSON object")],
)
def test_without_a_record_nothing_is_promoted_by_nobody(pack: ModelPack, record: bytes, cause: str) -> None:
    error = refusal(pack, Evidence(record, TWO))
    assert error.code is ErrorCode.PROMOTION_REFUSED
    assert cause in error.client_message


def test_a_record_of_another_pack_is_refused_with_both_digests(pack: ModelPack) -> None:
    error = refusal(pack, Evidence(evaluation_record("f" * 64), TWO))
    assert error.code is ErrorCode.PROMOTION_REFUSED
    assert "ffffffffffff" in error.client_message and pack.digest[:12] in error.client_message
    assert "pipeline_digest" in refusal(pack, Evidence(evaluation_record(""))).client_message


def test_an_altered_record_is_refused(pack: ModelPack) -> None:
    record = json.loads(evaluation_record(pack.digest, auroc=0.5))
    record["passed"] = record["gates"][0]["passed"] = True
    assert "changed after it was made" in refusal(pack, Evidence(json.dumps(record).encode())).client_message


def test_a_failed_gate_is_named_and_needs_two_different_persons_and_a_reason(pack: ModelPack) -> None:
    failed = evaluation_record(pack.digest, auroc=0.8)
    assert "Pneumonia auroc" in refusal(pack, Evidence(failed)).client_message
    for persons in (("Dr A",), ("Dr A", "Dr A"), ("Dr A", " dr a "), ("Dr A", "")):
        assert "two different persons" in refusal(pack, Evidence(failed, Override(persons, "why"))).client_message
    assert "needs a reason" in refusal(pack, Evidence(failed, Override(("A", "B"), "  "))).client_message
    verdict = judge(pack, Evidence(failed, TWO))
    assert verdict.failed == ("Pneumonia auroc",)
    assert verdict.facts()["override"] == {"persons": ["Dr A", "Dr B"], "reason": TWO.reason}


def test_the_sites_profile_is_the_only_one_that_counts(pack: ModelPack, tmp_path: Path) -> None:
    site = tmp_path / "profile.toml"
    site.write_text(PROFILE_TOML)
    judge(pack, Evidence(evaluation_record(pack.digest)), site)
    easier = replace(PROFILE, gates=(replace(PROFILE.gates[0], threshold=0.1),))
    error = refusal(pack, Evidence(evaluation_record(pack.digest, profile=easier), TWO), site)
    assert "another profile" in error.client_message
