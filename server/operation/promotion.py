"""The gate of promotion: a pack answers by itself only with an evaluation record of exactly this pack that passed.

A record with a failed gate can be overridden by two persons with a reason; a record that is missing, was altered,
speaks of another pack or lacks the signature that the site asks for cannot.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radserve.errors import ErrorCode, RequestError
from radserve.models.pack import ModelPack
from radserve.models.pack_signature import check_record_signature

SHOWN = 12


@dataclass(frozen=True, slots=True)
class Override:
    """Two persons who answer for a promotion against a failed gate, and why."""

    persons: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a promotion is asked for with: the evaluation record as it was written, its signature, an override."""

    record: bytes
    override: Override | None = None
    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A promotion that is allowed: by which record of which profile, which gates failed, and who overrode them.

    `signed_by` is the SHA-256 of the public key that the record's signature was checked with; "" where none was asked.
    """

    record_digest: str
    profile: str
    failed: tuple[str, ...]
    override: Override | None
    signed_by: str = ""

    def facts(self) -> dict[str, Any]:
        """For the audit log."""
        override = self.override and {"persons": list(self.override.persons), "reason": self.override.reason}
        return {
            "record": self.record_digest,
            "profile": self.profile,
            "failed_gates": list(self.failed),
            "override": override,
            "signed_by": self.signed_by,
        }


def judge(pack: ModelPack, evidence: Evidence, profile: Path | None = None, signing_key: Path | None = None) -> Verdict:
    """Say whether `pack` may be promoted: by a record of exactly `profile` and signed for `signing_key`, where given.

    Raises RequestError PROMOTION_REFUSED with the cause, RadserveError INVALID_ARGUMENT for a record that was altered
    or is of another profile, PackError RECORD_UNSIGNED or RECORD_SIGNATURE.
    """
    from radserve.evaluation.gates import check_record, read_profile  # numpy tables: only here are they needed

    record = _parsed(evidence.record)
    if signing_key:
        check_record_signature(evidence.record, evidence.signature, signing_key)
    site_profile = read_profile(profile) if profile else None
    try:
        passed = check_record(record, site_profile)
        digest = str(record["model"].get("pipeline_digest", ""))
        failed = tuple(_name(gate) for gate in record["gates"] if gate.get("passed") is not True)
        named = f"{record['profile']['name']} {record['profile']['version']}"
    except (KeyError, TypeError, AttributeError) as error:  # its hash fits: somebody made it so
        message = "the evaluation record is none of `radserve evaluate gate`: an entry is missing or of another kind"
        raise RequestError(ErrorCode.INVALID_ARGUMENT, message) from error
    _check_pack(pack, digest)
    override = None if passed else _checked(evidence.override, failed)
    signed_by = hashlib.sha256(signing_key.read_bytes()).hexdigest() if signing_key else ""
    return Verdict(str(record["digest"]), named, failed, override, signed_by)


def _parsed(text: bytes) -> Mapping[str, Any]:
    if not text:
        raise refused("a pack is promoted with an evaluation record, and none was given")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise RequestError(ErrorCode.INVALID_ARGUMENT, "the evaluation record is not a JSON object")
    return record


def _check_pack(pack: ModelPack, digest: str) -> None:
    if not digest:
        raise refused("the evaluation record does not say which pack it measured (model.pipeline_digest)")
    if digest != pack.digest:
        message = f"the evaluation record is of the digest {digest[:SHOWN]!r}, the pack has {pack.digest[:SHOWN]!r}"
        raise refused(message)


def _checked(override: Override | None, failed: tuple[str, ...]) -> Override:
    gates = ", ".join(failed) or "all of it"
    if override is None or not (override.persons or override.reason):
        raise refused(f"the evaluation record did not pass ({gates}); two persons can override it with a reason")
    persons = {_compared(person): " ".join(person.split()) for person in override.persons if _compared(person)}
    if len(persons) < 2:
        raise refused(f"an override of a failed record ({gates}) needs two different persons, got {len(persons)}")
    if not override.reason.strip():
        raise refused(f"an override of a failed record ({gates}) needs a reason")
    return Override(tuple(persons.values()), override.reason.strip())


def _compared(person: str) -> str:
    """The letters and digits of a name: another way of writing it is no other person."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", person).casefold()))


def _name(gate: Mapping[str, Any]) -> str:
    return f"{gate.get('finding') or 'model'} {gate.get('metric')}"


def refused(cause: str) -> RequestError:
    """The error of a promotion that is not allowed."""
    return RequestError(ErrorCode.PROMOTION_REFUSED, cause)
