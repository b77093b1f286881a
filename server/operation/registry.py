"""What was decided about packs, kept over restarts: DATA_DIR/models.json, whole or not there at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from radserve.dicom_io.durable import fsync_folder, storage_error
from radserve.errors import ErrorCode, StorageError
from radserve.models.pack import ModelPack

SCHEMA = "radserve-models/1"
KEPT_PROMOTIONS = 16  # how far roll backs reach


@dataclass(frozen=True, slots=True, order=True)
class PackVersion:
    """A version of a pack and the digest it had when it was decided upon: another content is another pack."""

    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class PackState:
    """What was decided about the versions of one pack.

    `promoted`: the versions that answered requests without a version, the present one last. Empty: nobody has promoted
    any, so `first` answers, which is the first one found when the pack was first served: a version that comes later
    takes nobody's place. `loaded` are kept ready besides, `shadows` see the same studies; `deprecated` has the reason
    of each deprecated version.
    """

    promoted: tuple[PackVersion, ...] = ()
    loaded: tuple[PackVersion, ...] = ()
    shadows: tuple[PackVersion, ...] = ()
    deprecated: Mapping[PackVersion, str] = field(default_factory=lambda: MappingProxyType({}))
    first: PackVersion | None = None

    @property
    def active(self) -> PackVersion | None:
        return self.promoted[-1] if self.promoted else None

    @property
    def previous(self) -> PackVersion | None:
        """The version to roll back to."""
        return self.promoted[-2] if len(self.promoted) > 1 else None

    @property
    def kept(self) -> frozenset[PackVersion]:
        """What is to stay loaded, besides a first version that nobody promoted."""
        return frozenset((*self.promoted[-2:], *self.loaded, *self.shadows))

    def with_loaded(self, version: PackVersion) -> PackState:
        return replace(self, loaded=_with(self.loaded, version))

    def with_promoted(self, version: PackVersion, before: PackVersion | None) -> PackState:
        """`version` answers from now on; `before` is what answered when nobody had promoted any."""
        history = self.promoted or ((before,) if before else ())
        promoted = _with(history, version)[-KEPT_PROMOTIONS:]
        return replace(
            self,
            promoted=promoted,
            loaded=_without(self.loaded, version),
            shadows=_without(self.shadows, version),
        )

    def rolled_back(self) -> PackState:
        return replace(self, promoted=self.promoted[:-1])

    def with_shadow(self, version: PackVersion, *, on: bool) -> PackState:
        return replace(self, shadows=_with(self.shadows, version) if on else _without(self.shadows, version))

    def with_deprecated(self, version: PackVersion, reason: str) -> PackState:
        """An empty reason takes the mark away."""
        others = {each: why for each, why in self.deprecated.items() if each != version}
        return replace(self, deprecated=MappingProxyType(others | ({version: reason} if reason else {})))

    def without(self, version: PackVersion) -> PackState:
        """The version is neither loaded nor a shadow, and nobody rolls back to it."""
        return replace(
            self,
            promoted=_without(self.promoted, version),
            loaded=_without(self.loaded, version),
            shadows=_without(self.shadows, version),
        )


States = Mapping[str, PackState]  # by the name of the pack


def version_of(pack: ModelPack) -> PackVersion:
    return PackVersion(pack.version, pack.digest)


class Registry:
    """Reads and writes the states. A reader sees the old file or the new one, never half of one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> States:
        """The states; none when nothing was ever decided. Raises StorageError INTERNAL for a file that is damaged."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise storage_error(error) from None
        try:
            document = json.loads(content)
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema {document['schema']!r}")
            return {name: _state(table) for name, table in document["packs"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            message = f"{self._path.name}, which says which pack versions are active, cannot be used: {error}"
            raise StorageError(ErrorCode.INTERNAL, message) from error

    def write(self, states: States) -> None:
        """Replace the file; when this returns the states are on disk. Raises StorageError."""
        document = {"schema": SCHEMA, "packs": {name: _table(state) for name, state in sorted(states.items())}}
        aside = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("w", encoding="utf-8") as file:
                json.dump(document, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            aside.rename(self._path)
            fsync_folder(self._path.parent)
        except OSError as error:
            raise storage_error(error) from None


def _table(state: PackState) -> dict[str, Any]:
    return {
        "promoted": [asdict(each) for each in state.promoted],
        "loaded": [asdict(each) for each in state.loaded],
        "shadows": [asdict(each) for each in state.shadows],
        "deprecated": [asdict(each) | {"reason": reason} for each, reason in state.deprecated.items()],
        "first": asdict(state.first) if state.first else None,
    }


def _state(table: Mapping[str, Any]) -> PackState:
    def version(each: Mapping[str, Any]) -> PackVersion:
        return PackVersion(str(each["version"]), str(each["digest"]))

    promoted, loaded, shadows = (tuple(map(version, table[key])) for key in ("promoted", "loaded", "shadows"))
    deprecated = MappingProxyType({version(each): str(each["reason"]) for each in table["deprecated"]})
    first = table.get("first")  # files of before have none
    return PackState(promoted, loaded, shadows, deprecated, version(first) if first else None)


def _with(versions: tuple[PackVersion, ...], version: PackVersion) -> tuple[PackVersion, ...]:
    return (*_without(versions, version), version)


def _without(versions: tuple[PackVersion, ...], version: PackVersion) -> tuple[PackVersion, ...]:
    return tuple(each for each in versions if each != version)
