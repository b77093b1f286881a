"""The composition root: here, and nowhere else, the parts are made and given to each other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.dicom_io.dimse.store_scp import StoreScp
from radserve.dicom_io.store import StoreLimits
from radserve.models.pack import ModelPack
from radserve.models.prompt_cache import PromptCache
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.server import EmbeddedTriton
from radserve.owned_folder import remove_abandoned
from radserve.pipelines.claims import site_claims
from radserve.pipelines.intended_use import IntendedUsePolicy
from radserve.pipelines.preprocess.adapter import PRELOAD, MonaiPreprocessor
from radserve.pipelines.preprocess.chain import TransformSpec, input_chain
from radserve.pipelines.timing import SystemClock
from radserve.server.analysers import AnalyserMaker
from radserve.server.artifacts import ArtifactWriter
from radserve.server.before_start import check_ports
from radserve.server.dimse import dimse_listener
from radserve.server.operation.leases import MakeAnalyser
from radserve.server.packs import site_catalogue
from radserve.server.prompt_library import PromptLibrary
from radserve.server.records import opened_records
from radserve.server.reevaluation import reevaluating
from radserve.server.retention import retention
from radserve.server.rpc.inference_service import InferenceService
from radserve.server.rpc.model_service import ModelService
from radserve.server.rpc.port import bind, grpc_server, server_credentials
from radserve.server.rpc.review_service import ReviewService
from radserve.server.rpc.study_service import StudyService
from radserve.server.serving import Serving, serving_packs
from radserve.server.settings import MEBIBYTE, Settings
from radserve.server.stores import Stores
from radserve.server.study_analysis import StoredStudyAnalysis
from radserve.server.study_work import erasing, site_plan, studies_at_work
from radserve.server.templates import site_templates
from radserve.server.text_service import site_text_service
from radserve.server.ups import performing
from radserve.server.watching import watching
from radserve.server.web.listener import WebListener, web_listener
from radserve.server.writing import Writing
from radserve.v1 import (
    inference_pb2,
    inference_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    review_pb2,
    review_pb2_grpc,
    study_pb2,
    study_pb2_grpc,
)
from radserve.workers import WorkerLimits, WorkerPool

logger = logging.getLogger(__name__)

SERVICES = (
    study_pb2.DESCRIPTOR.services_by_name["StudyService"].full_name,
    inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name,
    model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    review_pb2.DESCRIPTOR.services_by_name["ReviewService"].full_name,
)
GRACE_SECONDS = 10.0
HEALTH_SECONDS = 1.0
PREPROCESS_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers: its address, and what operators and tests look at."""

    address: str
    runner: TritonRunner
    triton: EmbeddedTriton | None
    decoders: WorkerPool
    listener: StoreScp | None
    web: WebListener | None

    async def wait_for_signal(self) -> None:
        """Wait until the process is asked to end (SIGINT, SIGTERM)."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await stop.wait()
        logger.info("asked to end: calls in work have %g s", GRACE_SECONDS)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[RunningServer]:
    """Start everything, serve until the block is left, then end in order: no new calls, calls in work, children.

    Raises RadserveError when a part cannot start (MODEL_UNAVAILABLE, STORAGE_FULL, PACK_*).
    """
    credentials = server_credentials(settings)  # first: nothing is to be started for a port that cannot be opened
    check_ports(settings)
    for folder in await asyncio.to_thread(remove_abandoned):
        logger.info("removed %s, whose owner was killed", folder)
    async with AsyncExitStack() as stack:
        catalogue = site_catalogue(settings)
        decoders = await stack.enter_async_context(decoder_pool(settings))
        preprocessors = await stack.enter_async_context(_preprocessors(settings))
        warming = asyncio.create_task(_warm(decoders, preprocessors))  # while Triton starts
        stack.callback(warming.cancel)
        stores = Stores(decoders, StoreLimits(max_instance_bytes=settings.max_instance_mib * MEBIBYTE))
        records = await stack.enter_async_context(opened_records(settings))
        store = await stack.enter_async_context(stores.opened(settings.data_dir / "studies", records))
        await stack.enter_async_context(erasing(store))
        await stack.enter_async_context(retention(records.index, settings.retention_days, SystemClock()))

        def preprocessor_of(pack: ModelPack) -> MonaiPreprocessor:
            return MonaiPreprocessor(_chains(pack), preprocessors)

        commitments = CommitmentInbox()
        plan = site_plan(settings, catalogue, commitments) if settings.workflow else None
        claims, generator = site_claims(settings.never_allowed_file), site_text_service(settings)
        templates = site_templates(settings.report_templates)

        def maker(runner: TritonRunner) -> MakeAnalyser:
            policy = IntendedUsePolicy(strict=settings.intended_use == "strict")
            writing = Writing.on(
                runner, loop=settings.decoder_loop, claims=claims, generator=generator, templates=templates
            )
            prompts = PromptCache(settings.data_dir / "prompt-embeddings")
            return AnalyserMaker(store, preprocessor_of, runner, policy, writing, prompts).make

        serving = await stack.enter_async_context(serving_packs(settings, catalogue, records.shadows, maker))
        await stack.enter_async_context(reevaluating(settings, serving.packs, SystemClock()))
        if plan:
            analysis = StoredStudyAnalysis(
                store, records.ledger, records.results, serving.packs, decoders, plan.rules.keywords
            )
            await stack.enter_async_context(studies_at_work(settings, records, plan, analysis))
        await stack.enter_async_context(performing(settings, store, records))
        server, health = grpc_server(settings), await health_before_the_watch()
        inference = InferenceService(
            store, stores, serving.packs, PromptLibrary(settings.prompt_dirs), ArtifactWriter(decoders)
        )
        study_pb2_grpc.add_StudyServiceServicer_to_server(StudyService(store), server)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(inference, server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(serving.packs, serving.runner), server)
        review_pb2_grpc.add_ReviewServiceServicer_to_server(ReviewService(records.index, records.reviews), server)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        if settings.loopback:
            reflection.enable_server_reflection((*SERVICES, "grpc.health.v1.Health", reflection.SERVICE_NAME), server)
        listener = await stack.enter_async_context(dimse_listener(settings, store, records.ledger, commitments))
        await stack.enter_async_context(watching(settings, store, decoders))
        web = await stack.enter_async_context(web_listener(settings, records, store, decoders))
        address = bind(server, settings, credentials)
        await server.start()
        stack.push_async_callback(server.stop, GRACE_SECONDS)
        await warming
        await stack.enter_async_context(_watched(health, serving))
        logger.info("listening on %s%s", address, " with TLS" if credentials else "")
        yield RunningServer(address, serving.runner, serving.triton, decoders, listener, web)


def decoder_pool(settings: Settings) -> WorkerPool:
    """The sandboxed processes that parse, decode and write DICOM."""
    memory = settings.decode_memory_mib * MEBIBYTE
    limits = WorkerLimits(memory_bytes=memory, cpu_seconds=settings.decode_cpu_s, wall_seconds=settings.decode_wall_s)
    preload = ("radserve.dicom_io.decode", "radserve.dicom_io.write_sr", "radserve.dicom_io.overlay")
    return WorkerPool(name="dicom", size=settings.decode_workers, limits=limits, preload=preload)


def _preprocessors(settings: Settings) -> WorkerPool:
    # No bound on the address space: torch maps far more than it uses, and the input is our own decoder's.
    limits = WorkerLimits(memory_bytes=None, cpu_seconds=None, wall_seconds=PREPROCESS_SECONDS)
    return WorkerPool(name="preprocess", size=settings.preprocess_workers, limits=limits, preload=(PRELOAD,))


async def _warm(*pools: WorkerPool) -> None:
    await asyncio.gather(*(pool.warm() for pool in pools))


def _chains(pack: ModelPack) -> dict[str, tuple[TransformSpec, ...]]:
    return {use.name: input_chain(pack, use) for use in pack.inputs}


async def health_before_the_watch() -> health_aio.HealthServicer:
    """Return the health service of a server that starts: nothing serves until the watch has seen that it does.

    The library's own default is that the server as a whole serves and its services are not known.
    """
    health = health_aio.HealthServicer()
    for service in ("", *SERVICES):
        await health.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
    return health


@asynccontextmanager
async def _watched(health: health_aio.HealthServicer, serving: Serving) -> AsyncIterator[None]:
    """Keep grpc.health.v1 true: serving while every graph of every loaded pack answers."""

    async def report() -> None:
        packs = serving.packs.packs()
        graphs = [(pack, model) for pack in packs for model in pack.models]
        answers = [await serving.runner.is_ready(model) for _, model in graphs]
        loaded = {pack.digest for pack in serving.packs.packs()}  # one that was unloaded meanwhile does not count
        ready = all(answer for (pack, _), answer in zip(graphs, answers, strict=True) if pack.digest in loaded)
        ready = bool(loaded) and ready
        state = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *SERVICES):
            await health.set(service, state)

    async def keep_reporting() -> None:
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            try:
                await report()
            except Exception as error:  # the watch must outlive whatever it sees
                logger.warning("health watch: %s", type(error).__name__)

    await report()
    task = asyncio.create_task(keep_reporting())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await health.enter_graceful_shutdown()
