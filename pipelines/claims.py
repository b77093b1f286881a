"""The claims that no generated text may make: the project's list, a pack's and the site's, under one hash."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from radserve._checks import invalid
from radserve.models.decoding.constraint import normalised

PACK_CLAIMS_FILE = "never_allowed.toml"
CONDITIONS = ("always", "without_prior")


@dataclass(frozen=True, slots=True)
class Claim:
    """A kind of claim by its phrases. `when`: "always", or "without_prior" for claims of a change since a prior."""

    name: str
    when: str
    phrases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NeverAllowed:
    """Claims under a version; `sha256` (hex) is over all of it and stands in every result with text."""

    version: str
    claims: tuple[Claim, ...]

    @property
    def sha256(self) -> str:
        canonical = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def phrases(self, *, prior_read: bool = False) -> tuple[str, ...]:
        """What may not be written; `prior_read` says that the model has read a prior study."""
        return tuple(
            phrase
            for claim in self.claims
            if not (claim.when == "without_prior" and prior_read)
            for phrase in claim.phrases
        )

    def joined(self, other: NeverAllowed | None) -> NeverAllowed:
        """Both lists; the versions are named side by side."""
        return self if other is None else NeverAllowed(f"{self.version}+{other.version}", self.claims + other.claims)


def built_in_claims() -> NeverAllowed:
    """The list that comes with radserve."""
    raw = resources.files("radserve.pipelines").joinpath("data/never_allowed.toml").read_bytes()
    return _parse(raw, "never_allowed.toml")


def load_claims(path: Path) -> NeverAllowed:
    """A list from a file of the site or of a pack. Raises INVALID_ARGUMENT naming the file and the key at fault."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise invalid(f"never-allowed file {path.name}", error.strerror, "a file that can be read") from None
    return _parse(raw, path.name)


def site_claims(site_file: Path | None) -> NeverAllowed:
    """The project's list with the site's added to it."""
    return built_in_claims().joined(load_claims(site_file) if site_file else None)


def pack_claims(folder: Path) -> NeverAllowed | None:
    """The list in a pack's folder, if it has one; the pack's own hashes cover it."""
    path = folder / PACK_CLAIMS_FILE
    return load_claims(path) if path.is_file() else None


def _parse(raw: bytes, file: str) -> NeverAllowed:
    try:
        table = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise invalid(f"never-allowed file {file}", str(error), "TOML") from None
    _check_keys(table, {"version", "claims"}, file)
    if not isinstance(table["version"], str) or not isinstance(table["claims"], list):
        raise invalid(f"{file}: version, claims", type(table["claims"]).__name__, "a text and [[claims]] tables")
    return NeverAllowed(table["version"], tuple(_claim(each, file) for each in table["claims"]))


def _claim(table: Mapping[str, Any], file: str) -> Claim:
    _check_keys(table, {"name", "when", "phrases"}, file)
    if table["when"] not in CONDITIONS:
        raise invalid(f"{file}: when of claim {table['name']!r}", table["when"], f"one of {list(CONDITIONS)}")
    phrases = table["phrases"]
    if not isinstance(phrases, list) or not all(isinstance(each, str) and normalised(each).strip() for each in phrases):
        raise invalid(f"{file}: phrases of claim {table['name']!r}", phrases, "a list of texts with words in them")
    return Claim(str(table["name"]), table["when"], tuple(phrases))


def _check_keys(table: Mapping[str, Any], keys: Iterable[str], file: str) -> None:
    if set(table) != set(keys):
        raise invalid(f"{file}: keys", sorted(table), f"{sorted(keys)}")
