"""Puts the packs in service: the Triton that has their graphs, what is remembered of their operation, and shadows."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from radserve.models.catalogue import PackCatalogue
from radserve.models.devices import chosen_provider, find_devices
from radserve.models.pack import ModelPack
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.config import ServingOptions
from radserve.models.triton.server import EmbeddedTriton, Supervision
from radserve.server.background import running
from radserve.server.operation.audit import AuditLog
from radserve.server.operation.hosts import EmbeddedHost, NoHost, OutsideHost, PackHost
from radserve.server.operation.leases import MakeAnalyser
from radserve.server.operation.registry import Registry
from radserve.server.operation.served import OperationRecords, ServedPacks
from radserve.server.operation.shadow_store import ShadowStore
from radserve.server.operation.shadows import Shadows
from radserve.server.packs import site_versions
from radserve.server.settings import Settings

logger = logging.getLogger(__name__)

REGISTRY_FILE, AUDIT_FILE = "models.json", "models-audit.jsonl"


@dataclass(frozen=True, slots=True)
class Serving:
    """The packs in service, the runner of their graphs, and the embedded Triton where there is one."""

    packs: ServedPacks
    runner: TritonRunner
    triton: EmbeddedTriton | None


@asynccontextmanager
async def serving_packs(
    settings: Settings,
    catalogue: PackCatalogue,
    shadowed: ShadowStore,
    maker: Callable[[TritonRunner], MakeAnalyser],
) -> AsyncIterator[Serving]:
    """Load what was in service when the server ended, or the first version of each pack, and serve it."""
    records = OperationRecords(
        Registry(settings.data_dir / REGISTRY_FILE),
        AuditLog(settings.data_dir / AUDIT_FILE),
        settings.promotion_profile,
        settings.record_signing_key,
    )
    versions = site_versions(settings, catalogue)
    packs = versions.at_start(records.registry.read())
    async with AsyncExitStack() as stack:
        triton = await stack.enter_async_context(_embedded_triton(settings, packs))
        runner = TritonRunner(triton.url if triton else settings.triton_url, packs)
        stack.push_async_callback(runner.close)
        host: PackHost = NoHost()
        if triton:
            host = EmbeddedHost(triton, runner)
        elif settings.triton_url:
            host = outside = OutsideHost(runner)
            await outside.adopt(packs)
            await stack.enter_async_context(running(outside.keep()))
        shadows = Shadows(shadowed)
        served = ServedPacks(versions, records, host, maker(runner), shadows)
        served.adopt(packs)
        stack.push_async_callback(served.close)
        await stack.enter_async_context(shadows.running())
        yield Serving(served, runner, triton)


@asynccontextmanager
async def _embedded_triton(settings: Settings, packs: Sequence[ModelPack]) -> AsyncIterator[EmbeddedTriton | None]:
    """The Triton child process, unless the settings name an outside one or no pack is usable."""
    if settings.triton_url or not packs:
        yield None
        return
    options = ServingOptions(instances=settings.triton_instances, decoder_loop=settings.decoder_loop)
    supervision = Supervision(start_timeout_s=settings.triton_start_timeout_s)
    log_folder = settings.data_dir / "logs"
    chosen = chosen_provider(find_devices())
    logger.info("graphs run on %s: %s", chosen.name, chosen.reason)
    async with EmbeddedTriton(packs, log_folder=log_folder, options=options, supervision=supervision) as triton:
        yield triton
