"""Versions of packs: which of them is the active one, and which are loaded when a server starts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum

from radserve.models.catalogue import PackCatalogue, is_chosen, split_reference
from radserve.models.pack import ModelPack
from radserve.server.operation.registry import PackState, PackVersion, States, version_of

logger = logging.getLogger(__name__)


class VersionState(StrEnum):
    """What a version of a pack does; the first that holds."""

    ACTIVE = "active"  # answers requests that name no version
    SHADOW = "shadow"  # sees the same studies, delivers nothing
    PREVIOUS = "previous"  # loaded, to be rolled back to
    LOADED = "loaded"  # answers requests that name it
    AVAILABLE = "available"  # lies in a pack folder


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version of a pack as operators see it: `users` are requests in work; `deprecated` has the reason, if it is."""

    pack: ModelPack
    state: VersionState
    users: int
    deprecated: str


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions on disk under the settings: `default_pack` may name one, NAME@VERSION, for as long as nobody has
    promoted any. `beside` are the packs that take studies which the default pack does not. `waiting` are those that are
    loaded when an operator says so, not at every start."""

    catalogue: PackCatalogue
    default_pack: str = ""
    beside: tuple[str, ...] = ()
    waiting: frozenset[str] = frozenset()

    def active(self, name: str, state: PackState) -> ModelPack | None:
        """The version that answers; None when it is not there as it was when it was promoted, or there is none."""
        if state.active:
            return self.find(name, state.active)
        default_name, chosen = split_reference(self.default_pack)
        found = [pack for pack in self.catalogue.versions(name) if default_name != name or is_chosen(pack, chosen)]
        served = (pack for pack in found if version_of(pack) == state.first)
        return next(served, found[0] if found else None)

    def waits(self, name: str, state: PackState) -> bool:
        """Whether nothing of a pack is served unless an operator loads it."""
        return name in self.waiting and state.active is None

    def find(self, name: str, version: PackVersion) -> ModelPack | None:
        """The version as it was decided upon, with the same content."""
        return next((pack for pack in self.catalogue.versions(name) if version_of(pack) == version), None)

    def at_start(self, states: States) -> list[ModelPack]:
        """What to load: of each pack the active version, what was loaded besides, and the shadows.

        A version that is not there any more, or has another content, cannot answer: it is left out, and logged.
        """
        found: dict[str, ModelPack] = {}
        for name in dict.fromkeys((*self.catalogue.names(), *states)):
            state = states.get(name, PackState())
            if self.waits(name, state) and not state.kept:
                continue
            packs = [self.active(name, state)]
            for version in sorted(state.kept):
                pack = self.find(name, version)
                packs.append(pack)
                if pack is None:
                    text = "pack %s version %s is not in the pack folders with digest %s: it is not served"
                    logger.error(text, name, version.version, version.digest[:12])
            found |= {pack.digest: pack for pack in packs if pack}
        return list(found.values())
