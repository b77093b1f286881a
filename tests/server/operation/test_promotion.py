"""The gate of promotion: only a record of exactly this pack that passed, or two persons with a reason."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation import gates
from radserve.models.pack import ModelPack, load_pack
from radserve.models.pack_signature import check_record_signature, sign_record
from radserve.server.operation.promotion import Evidence, Override, judge
from tests.support.operation import PROFILE, PROFILE_TOML, evaluation_record
from tests.support.packs import make_tiny_pack
from tests.support.signing import keys

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
    ("record", "code", "cause"),
    [
        (b"", ErrorCode.PROMOTION_REFUSED, "none was given"),
        (b"{", ErrorCode.INVALID_ARGUMENT, "not a JSON object"),
        (b"[]", ErrorCode.INVALID_ARGUMENT, "not a JSON object"),
        (b"[" * 100_000, ErrorCode.INVALID_ARGUMENT, "not a JSON object"),
    ],
)
def test_without_a_record_nothing_is_promoted_by_nobody(
    pack: ModelPack, record: bytes, code: ErrorCode, cause: str
) -> None:
    error = refusal(pack, Evidence(record, TWO))
    assert error.code is code
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


@pytest.mark.parametrize("changed", [{"model": []}, {"gates": ["passed"]}, {"profile": None}, {"model": None}])
def test_a_record_with_a_fitting_hash_that_is_none_of_ours_is_refused(pack: ModelPack, changed: dict[str, Any]) -> None:
    record = {**json.loads(evaluation_record(pack.digest)), **changed}
    record["digest"] = gates._digest({key: value for key, value in record.items() if key != "digest"})
    error = refusal(pack, Evidence(json.dumps(record).encode(), TWO))
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert "none of `radserve evaluate gate`" in error.client_message


def test_a_failed_gate_is_named_and_needs_two_different_persons_and_a_reason(pack: ModelPack) -> None:
    failed = evaluation_record(pack.digest, auroc=0.8)
    assert "Pneumonia auroc" in refusal(pack, Evidence(failed)).client_message
    one_person = (
        ("Dr A", "Dr A"),
        ("Dr A", " dr a "),
        ("Dr A", "Dr.  A"),
        ("Dr A", "Dr A\u200b"),
        ("Dr A", "\uff24r \uff21"),
    )
    for persons in (("Dr A",), ("Dr A", ""), ("Dr A", " . "), *one_person):
        assert "two different persons" in refusal(pack, Evidence(failed, Override(persons, "why"))).client_message
    assert "needs a reason" in refusal(pack, Evidence(failed, Override(("A", "B"), "  "))).client_message
    verdict = judge(pack, Evidence(failed, TWO))
    assert verdict.failed == ("Pneumonia auroc",)
    assert judge(pack, Evidence(failed, Override(("Dr A", "", "Dr  B"), "why"))).override.persons == ("Dr A", "Dr B")
    assert verdict.facts()["override"] == {"persons": ["Dr A", "Dr B"], "reason": TWO.reason}


def test_the_sites_profile_is_the_only_one_that_counts(pack: ModelPack, tmp_path: Path) -> None:
    site = tmp_path / "profile.toml"
    site.write_text(PROFILE_TOML)
    judge(pack, Evidence(evaluation_record(pack.digest)), site)
    easier = replace(PROFILE, gates=(replace(PROFILE.gates[0], threshold=0.1),))
    error = refusal(pack, Evidence(evaluation_record(pack.digest, profile=easier), TWO), site)
    assert "another profile" in error.client_message


def signed(record: bytes, private: Path) -> bytes:
    file = private.with_name("record.json")
    file.write_bytes(record)
    return sign_record(file, private).read_bytes()


def test_a_site_with_a_key_promotes_by_a_signed_record_and_remembers_whose_it_was(
    pack: ModelPack, tmp_path: Path
) -> None:
    private, public = keys(tmp_path)
    record = evaluation_record(pack.digest)
    verdict = judge(pack, Evidence(record, signature=signed(record, private)), signing_key=public)
    assert verdict.facts()["signed_by"] == hashlib.sha256(public.read_bytes()).hexdigest()
    assert judge(pack, Evidence(record)).signed_by == ""  # a site without a key does not ask


def test_an_unsigned_record_is_refused_by_name_and_two_persons_cannot_override_that(
    pack: ModelPack, tmp_path: Path
) -> None:
    _, public = keys(tmp_path)
    with pytest.raises(RadserveError, match="not signed") as caught:
        judge(pack, Evidence(evaluation_record(pack.digest), TWO), signing_key=public)
    assert caught.value.code is ErrorCode.RECORD_UNSIGNED


def test_a_record_made_anew_with_a_fitting_hash_does_not_fit_the_signature(pack: ModelPack, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    signature = signed(evaluation_record(pack.digest, auroc=0.5), private)
    better = evaluation_record(pack.digest, auroc=0.95)
    judge(pack, Evidence(better, signature=signature))  # its own hash fits: without a key nothing tells
    with pytest.raises(RadserveError, match="does not fit") as caught:
        judge(pack, Evidence(better, TWO, signature), signing_key=public)
    assert caught.value.code is ErrorCode.RECORD_SIGNATURE


@pytest.mark.parametrize("signature", ["of another key", b"{}", b"\x00 not a bundle"])
def test_a_signature_of_a_stranger_or_none_at_all_is_refused(
    pack: ModelPack, tmp_path: Path, signature: str | bytes
) -> None:
    _, public = keys(tmp_path)
    stranger, _ = keys(tmp_path, "stranger")
    record = evaluation_record(pack.digest)
    given = signature if isinstance(signature, bytes) else signed(record, stranger)
    with pytest.raises(RadserveError) as caught:
        judge(pack, Evidence(record, signature=given), signing_key=public)
    assert caught.value.code is ErrorCode.RECORD_SIGNATURE


def test_a_missing_key_of_the_site_lets_nothing_through(pack: ModelPack, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    record = evaluation_record(pack.digest)
    evidence = Evidence(record, signature=signed(record, private))
    public.unlink()
    with pytest.raises(RadserveError, match=r"'site\.pub' cannot be read") as caught:
        judge(pack, evidence, signing_key=public)
    assert caught.value.code is ErrorCode.RECORD_SIGNATURE


def test_a_signed_failing_record_still_fails(pack: ModelPack, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    record = evaluation_record(pack.digest, auroc=0.5)
    with pytest.raises(RadserveError, match="did not pass"):
        judge(pack, Evidence(record, signature=signed(record, private)), signing_key=public)


def test_the_tool_of_the_standard_verifies_the_signature_too(pack: ModelPack, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    signed(evaluation_record(pack.digest), private)
    command = [sys.executable, "-m", "model_signing", "verify", "key", "record.json"]
    command += ["--signature", "record.json.sig", "--public_key", str(public)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    check_record_signature((tmp_path / "record.json").read_bytes(), (tmp_path / "record.json.sig").read_bytes(), public)
