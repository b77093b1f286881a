"""Loaded packs and who is using them: a pack is unloaded when the last request that began with it has ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from radserve.models.pack import ModelPack
from radserve.pipelines.study import StudyAnalyser

MakeAnalyser = Callable[[ModelPack], Awaitable[StudyAnalyser]]


@dataclass(slots=True, eq=False)
class LoadedPack:
    """A pack whose graphs answer. For one event loop."""

    pack: ModelPack
    users: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)
    _analyser: StudyAnalyser | None = None

    def __post_init__(self) -> None:
        self._idle.set()

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Count a user while the block runs."""
        self.users += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.users -= 1
            if not self.users:
                self._idle.set()

    async def drained(self) -> None:
        """Wait until nobody uses the pack."""
        await self._idle.wait()

    async def analyser(self, make: MakeAnalyser) -> StudyAnalyser:
        """The analyser of the pack, made at the first call."""
        async with self._making:
            if self._analyser is None:
                self._analyser = await make(self.pack)
            return self._analyser
