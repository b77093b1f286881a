"""The packs in service: requests lease one, operators load, promote, roll back and unload them under load.

A request keeps the version it started with. A version is loaded before it is switched to and unloaded after its last
request ended, so a switch fails no request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.models.catalogue import is_chosen, split_reference
from radserve.models.pack import ModelPack
from radserve.pipelines.intended_use import input_for
from radserve.pipelines.study import Analysis, AnalysisObserver, AnalysisRequest, StudyAnalyser
from radserve.ports import InstanceSource
from radserve.references import AcquisitionContext
from radserve.results import ResultWarning, WarningCode
from radserve.server.operation.audit import AuditLog
from radserve.server.operation.hosts import PackHost
from radserve.server.operation.leases import LoadedPack, MakeAnalyser
from radserve.server.operation.promotion import Evidence, judge, refused
from radserve.server.operation.registry import PackState, Registry, version_of
from radserve.server.operation.shadows import ShadowJob, Shadows
from radserve.server.operation.versions import Versions, VersionState, VersionStatus

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OperationRecords:
    """What operation writes down, and the records it goes by: of `profile`, signed with the key of `record_key`."""

    registry: Registry
    audit: AuditLog
    profile: Path | None = None
    record_key: Path | None = None


class ServedPacks:
    """Leases packs to requests and changes what is served. Operations come one after the other; leases never wait.

    For one event loop.
    """

    def __init__(
        self,
        versions: Versions,
        records: OperationRecords,
        host: PackHost,
        make_analyser: MakeAnalyser,
        shadows: Shadows,
    ) -> None:
        self.shadows = shadows
        self._versions, self._records, self._host, self._make_analyser = versions, records, host, make_analyser
        self._states: dict[str, PackState] = dict(records.registry.read())
        self._loaded: dict[str, LoadedPack] = {}  # by digest
        self._retiring: dict[str, tuple[LoadedPack, asyncio.Task[None]]] = {}  # by digest
        self._operating = asyncio.Lock()

    @property
    def default_pack(self) -> str:
        """The name of the pack of requests that name none."""
        return split_reference(self._versions.default_pack)[0]

    def adopt(self, packs: Sequence[ModelPack]) -> None:
        """Serve packs that the host has loaded, and remember which answer by themselves. Raises StorageError."""
        for pack in packs:
            self._loaded[pack.digest] = LoadedPack(pack)
        first = {pack.name: version_of(pack) for pack in packs if self._is_active(pack)}
        states = {**self._states, **{name: replace(self._state(name), first=each) for name, each in first.items()}}
        if states != self._states:
            self._records.registry.write(states)
            self._states = states

    async def close(self) -> None:
        """Wait no longer for requests to end."""
        tasks = [task for _, task in self._retiring.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def packs(self) -> list[ModelPack]:
        """What is loaded now."""
        return [each.pack for each in self._loaded.values()]

    def pack(self, reference: str) -> ModelPack:
        """The pack that a request with this reference gets now. Raises as `lease` does."""
        return self._choose(reference).pack

    @asynccontextmanager
    async def lease(self, reference: str) -> AsyncIterator[StudyAnalyser]:
        """The analyser of a pack, which stays loaded until the block is left.

        `reference` is NAME (the active version), NAME@VERSION or NAME@DIGEST; "" is the default pack. Raises PackError:
        UNKNOWN_PACK, PACK_NOT_LOADED, PACK_HASH_MISMATCH when the active version is not what was promoted; ModelError.
        """
        loaded = self._choose(reference)
        with loaded.used():
            analyser = await loaded.analyser(self._make_analyser)
            notices = tuple(self._notices(loaded.pack))
            yield replace(analyser, notices=notices, observer=self._observer(loaded.pack))

    def fitting(self, series: Sequence[AcquisitionContext]) -> str:
        """The pack of a request that names none: the default one, or a pack beside it where that alone takes a series.

        Raises as `lease` does.
        """
        for name in (self.default_pack, *self._versions.beside):
            pack = self.pack(name)
            if any(input_for(pack, each) for each in series):
                return name
        return self.default_pack

    def listing(self) -> list[VersionStatus]:
        """Every version of every pack on disk."""
        catalogue = self._versions.catalogue
        return [self._status(pack) for name in catalogue.names() for pack in catalogue.versions(name)]

    async def load(self, reference: str) -> VersionStatus:
        """Load a version, so that requests that name it are answered. Raises PackError, ModelError."""
        async with self._operating:
            pack = await self._found(reference)
            await self._load(pack)
            self._decide("load", pack, self._state(pack.name).with_loaded(version_of(pack)))
            return self._status(pack)

    async def unload(self, reference: str) -> VersionStatus:
        """Unload a version when its last request has ended. Raises PackError; what has to answer is not unloaded."""
        async with self._operating:
            pack = await self._found(reference)
            if self._is_active(pack) and not self._versions.waits(pack.name, self._state(pack.name)):
                message = f"pack {pack.name!r}: version {pack.version} is active; promote another or roll back first"
                raise PackError(ErrorCode.PACK_NOT_LOADED, message)
            self._decide("unload", pack, self._state(pack.name).without(version_of(pack)))
            retiring = self._retire(pack)
        if retiring:
            await asyncio.wait({retiring})
        return self._status(pack)

    async def promote(self, reference: str, evidence: Evidence) -> VersionStatus:
        """Let a version answer requests that name none. Raises as `judge` does unless its record passed."""
        async with self._operating:
            pack = await self._found(reference)
            verdict = await asyncio.to_thread(judge, pack, evidence, self._records.profile, self._records.record_key)
            before = self._active(pack.name)
            if self._state(pack.name).active == version_of(pack):
                return self._status(pack)
            await self._load(pack)
            decided = self._state(pack.name).with_promoted(version_of(pack), version_of(before) if before else None)
            self._decide("promote", pack, decided, before=_named(before), **verdict.facts())
            self._retire_unused(pack.name)
            return self._status(pack)

    async def roll_back(self, name: str) -> VersionStatus:
        """Let the version answer again that was promoted before. Raises PROMOTION_REFUSED where there is none."""
        async with self._operating:
            state, catalogue = self._state(name), self._versions.catalogue
            if state.previous is None:
                catalogue.get(name)  # an unknown pack is told as such
                raise refused(f"pack {name!r} has no version to roll back to")
            pack = await asyncio.to_thread(catalogue.verify, f"{name}@{state.previous.digest}")
            before = self._active(name)
            await self._load(pack)
            self._decide("rollback", pack, state.rolled_back(), before=_named(before))
            self._retire_unused(name)
            return self._status(pack)

    async def shadow(self, reference: str, *, on: bool) -> VersionStatus:
        """Let a version see the studies that the active one answers, or no more. Raises PackError, ModelError."""
        async with self._operating:
            pack = await self._found(reference)
            if on and self._is_active(pack):
                message = f"pack {pack.name!r}: version {pack.version} is active and cannot be its own shadow"
                raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)
            if on:
                await self._load(pack)
            decided = self._state(pack.name).with_shadow(version_of(pack), on=on)
            self._decide("shadow on" if on else "shadow off", pack, decided)
            self._retire_unused(pack.name)
            return self._status(pack)

    async def deprecate(self, reference: str, reason: str) -> VersionStatus:
        """Mark a version: its results carry a warning with the reason. An empty reason takes the mark away."""
        async with self._operating:
            pack, text = await self._found(reference), reason.strip()
            self._decide("deprecate", pack, self._state(pack.name).with_deprecated(version_of(pack), text), reason=text)
            return self._status(pack)

    def _choose(self, reference: str) -> LoadedPack:
        name, chosen = split_reference(reference or self.default_pack)
        active = self._active(name)
        if not chosen and active and active.digest in self._loaded:
            return self._loaded[active.digest]
        if not chosen and (promoted := self._state(name).active):
            message = (
                f"pack {name!r}: the active version {promoted.version} is not in the pack folders as it was promoted"
            )
            raise PackError(ErrorCode.PACK_HASH_MISMATCH, message)
        for loaded in self._loaded.values():
            if chosen and loaded.pack.name == name and is_chosen(loaded.pack, chosen):
                return loaded
        pack = self._versions.catalogue.get(f"{name}@{chosen}" if chosen else name)
        raise PackError(ErrorCode.PACK_NOT_LOADED, f"pack {name!r}: version {pack.version} is not loaded")

    def _state(self, name: str) -> PackState:
        return self._states.get(name, PackState())

    def _active(self, name: str) -> ModelPack | None:
        return self._versions.active(name, self._state(name))

    def _is_active(self, pack: ModelPack) -> bool:
        active = self._active(pack.name)
        return active is not None and active.digest == pack.digest

    def _status(self, pack: ModelPack) -> VersionStatus:
        loaded = self._loaded.get(pack.digest)
        reason = self._state(pack.name).deprecated.get(version_of(pack), "")
        return VersionStatus(pack, self._state_of(pack), loaded.users if loaded else 0, reason)

    def _state_of(self, pack: ModelPack) -> VersionState:
        state, version = self._state(pack.name), version_of(pack)
        if pack.digest not in self._loaded:
            return VersionState.AVAILABLE
        if self._is_active(pack):
            return VersionState.ACTIVE
        if version in state.shadows:
            return VersionState.SHADOW
        return VersionState.PREVIOUS if version == state.previous else VersionState.LOADED

    async def _found(self, reference: str) -> ModelPack:
        """The pack of a reference, read anew: what came since the start counts too, what was altered does not."""
        if not split_reference(reference)[1]:
            raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"got {reference!r}, expected NAME@VERSION")
        await asyncio.to_thread(self._versions.catalogue.refresh)
        return await asyncio.to_thread(self._versions.catalogue.verify, reference)

    async def _load(self, pack: ModelPack) -> None:
        if pack.digest in self._retiring:
            loaded, retiring = self._retiring[pack.digest]
            if loaded.users:  # it waits for requests: let it stay
                retiring.cancel()
                self._loaded[pack.digest] = loaded
            else:
                await asyncio.wait({retiring})
        if pack.digest in self._loaded:
            return
        await self._host.load(pack)
        loaded = LoadedPack(pack)
        try:
            await loaded.analyser(self._make_analyser)  # before the switch, not at the first request
        except BaseException:
            await asyncio.shield(self._host.unload(pack))
            raise
        self._loaded[pack.digest] = loaded

    def _decide(self, action: str, pack: ModelPack, state: PackState, **facts: Any) -> None:
        """Make a decision true: first in the audit log, then in the registry, then for requests."""
        decided = {"pack": pack.name, "version": pack.version, "digest": pack.digest, **facts}
        self._records.audit.append(action, decided)
        self._records.registry.write({**self._states, pack.name: state})
        self._states[pack.name] = state
        logger.info("%s: pack %s version %s", action, pack.name, pack.version)

    def _retire_unused(self, name: str) -> None:
        kept = {version.digest for version in self._state(name).kept}
        for loaded in list(self._loaded.values()):
            if loaded.pack.name == name and loaded.pack.digest not in kept and not self._is_active(loaded.pack):
                self._retire(loaded.pack)

    def _retire(self, pack: ModelPack) -> asyncio.Task[None] | None:
        """Let no new request have the pack, and unload it when the last one ended."""
        loaded = self._loaded.pop(pack.digest, None)
        if loaded is None:
            return None

        async def retire() -> None:
            await loaded.drained()
            await self._host.unload(pack)

        task = asyncio.create_task(retire())
        self._retiring[pack.digest] = loaded, task
        task.add_done_callback(partial(self._retired, pack.digest))
        return task

    def _retired(self, digest: str, task: asyncio.Task[None]) -> None:
        if digest in self._retiring and self._retiring[digest][1] is task:
            del self._retiring[digest]

    def _notices(self, pack: ModelPack) -> list[ResultWarning]:
        status, active, notices = self._status(pack), self._active(pack.name), []
        if status.deprecated:
            message = f"Version {pack.version} of {pack.name} is deprecated: {status.deprecated}"
            notices.append(ResultWarning(WarningCode.PACK_DEPRECATED, message))
        if active and status.state in (VersionState.LOADED, VersionState.SHADOW):
            message = f"Version {pack.version} of {pack.name} is not promoted; the active one is {active.version}."
            notices.append(ResultWarning(WarningCode.PACK_NOT_PROMOTED, message))
        return notices

    def _observer(self, pack: ModelPack) -> AnalysisObserver | None:
        return self._observe if self._state(pack.name).shadows and self._is_active(pack) else None

    def _observe(self, source: InstanceSource, request: AnalysisRequest, analysis: Analysis) -> None:
        for version in self._state(analysis.result.pack.name).shadows:
            if loaded := self._loaded.get(version.digest):
                release = contextlib.ExitStack()
                release.enter_context(loaded.used())
                self.shadows.add(ShadowJob(loaded, self._make_analyser, source, request, analysis.result, release))


def _named(pack: ModelPack | None) -> dict[str, str] | None:
    return {"version": pack.version, "digest": pack.digest} if pack else None
