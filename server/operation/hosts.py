"""Loads and unloads the graphs of packs: on the embedded Triton, or on an outside one by its repository API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from radserve.errors import ErrorCode, ModelError
from radserve.models.pack import ModelPack
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.server import EmbeddedTriton

logger = logging.getLogger(__name__)

LOAD_SECONDS = 120.0
KEEP_SECONDS = 5.0


class PackHost(Protocol):
    """Loads and unloads all graphs of a pack."""

    async def load(self, pack: ModelPack) -> None:
        """Return when every graph answers; raises ModelError and leaves nothing loaded when one does not."""
        ...

    async def unload(self, pack: ModelPack) -> None:
        """Unload every graph. Never raises: what stays loaded costs memory and answers nobody."""
        ...


class EmbeddedHost:
    """The embedded Triton. Its runner knows the graphs of the packs that are loaded."""

    def __init__(self, triton: EmbeddedTriton, runner: TritonRunner) -> None:
        self._triton, self._runner = triton, runner

    async def load(self, pack: ModelPack) -> None:
        await self._triton.load(pack)
        self._runner.add(pack)

    async def unload(self, pack: ModelPack) -> None:
        self._runner.remove(pack)
        await self._triton.unload(pack)


class OutsideHost:
    """A Triton of the site, whose model repository already has the graphs (`radserve models repository`).

    Where it does not run with explicit model control it serves all it has: then a graph that is ready is loaded.
    """

    def __init__(self, runner: TritonRunner) -> None:
        self._runner = runner
        self._packs: dict[str, ModelPack] = {}  # what it is to have loaded, by digest
        self._told: set[str] = set()  # graphs of which the log says that they are not loaded
        self._changing = asyncio.Lock()

    async def adopt(self, packs: Sequence[ModelPack]) -> None:
        """Have loaded what the server starts with; where the Triton does not, requests are told until it has them."""
        self._packs |= {pack.digest: pack for pack in packs}
        await self._restore()

    async def keep(self) -> None:
        """Have loaded again what a Triton that was started anew, or comes late, does not have; for ever."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            await self._restore()

    async def load(self, pack: ModelPack) -> None:
        async with self._changing:
            try:
                for model in pack.models:
                    if not await self._runner.is_ready(model):
                        await self._runner.load(model)
                await self._runner.wait_ready(tuple(pack.models), LOAD_SECONDS)
            except BaseException:  # also where the operator waits no longer
                await asyncio.shield(self._unload(pack))
                raise
            self._packs[pack.digest] = pack
            self._runner.add(pack)

    async def unload(self, pack: ModelPack) -> None:
        async with self._changing:
            await self._unload(pack)

    async def _unload(self, pack: ModelPack) -> None:
        self._packs.pop(pack.digest, None)
        self._runner.remove(pack)
        for model in pack.models:
            try:
                await self._runner.unload(model)
            except ModelError as error:
                logger.warning("the outside Triton did not unload %s: %s", model.name, error.detail)

    async def _restore(self) -> None:
        async with self._changing:
            for model in (model for pack in self._packs.values() for model in pack.models):
                try:
                    if not await self._runner.is_ready(model):
                        await self._runner.load(model)
                        logger.info("the outside Triton was asked to load %s", model.name)
                    self._told.discard(model.name)
                except ModelError as error:
                    if model.name not in self._told:
                        logger.warning("the outside Triton did not load %s: %s", model.name, error.detail)
                    self._told.add(model.name)


class NoHost:
    """Stands where the server started without any usable pack, and so without a Triton."""

    async def load(self, pack: ModelPack) -> None:
        raise ModelError(ErrorCode.MODEL_UNAVAILABLE, "the server started without packs and runs no Triton: restart it")

    async def unload(self, pack: ModelPack) -> None:
        pass
