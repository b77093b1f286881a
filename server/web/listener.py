"""The HTTP port: uvicorn on the event loop of the server, from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from radserve.dicom_io.dicomweb.header_filling import HeaderFilling
from radserve.dicom_io.dicomweb.holdings import Holdings
from radserve.dicom_io.dimse.tls import TlsFiles, server_context
from radserve.dicom_io.durable import storage_error
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StudyStore
from radserve.errors import ErrorCode, RequestError
from radserve.server.background import running
from radserve.server.records import Records
from radserve.server.settings import MEBIBYTE, Settings
from radserve.server.web.application import web_application
from radserve.server.web.guard import GuardedProtocol
from radserve.server.web.limits import WebLimits
from radserve.server.web.service import WebService
from radserve.workers import WorkerPool

logger = logging.getLogger(__name__)

GRACE_SECONDS = 10
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class WebListener:
    """A port that answers."""

    host: str
    port: int
    is_tls: bool

    @property
    def url(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.host}:{self.port}"


@asynccontextmanager
async def web_listener(
    settings: Settings, records: Records, store: StudyStore, workers: WorkerPool, limits: WebLimits | None = None
) -> AsyncIterator[WebListener | None]:
    """Serve HTTP while the block runs, where the settings name a port.

    Raises RequestError INVALID_ARGUMENT for a port that is taken, a certificate that cannot be used, or a port that
    would be open to others without TLS and a token; StorageError.
    """
    if settings.http_port is None:
        yield None
        return
    tls = server_tls(settings)
    limits = limits or replace(WebLimits(), request_bytes=settings.http_max_request_mib * MEBIBYTE)
    holdings = Holdings(store, records.index, records.result_rows, workers, records.header_cache)
    service = WebService(
        holdings,
        records.ledger,
        DiskReserve(settings.data_dir, settings.disk_reserve_mib * MEBIBYTE),
        await asyncio.to_thread(_empty, settings.data_dir / ".web"),
        settings.http_public_url,
        limits,
    )
    app = web_application(service, token=settings.http_token, cors_origins=settings.http_cors_origins)
    async with _served(app, _listening(settings.host, settings.http_port), tls, limits) as port:
        listener = WebListener(settings.host, port, settings.http_tls_certificate is not None)
        logger.info("HTTP: listening on %s", listener.url)
        async with running(HeaderFilling(holdings).run()):
            yield listener


@asynccontextmanager
async def _served(
    app: ASGIApp, listening: socket.socket, tls: ssl.SSLContext | None, limits: WebLimits
) -> AsyncIterator[int]:
    protocol = type("Protocol", (GuardedProtocol,), {"limits": limits})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=limits.head_bytes,
    )
    config.load()
    config.ssl = tls
    server = _Server(config)
    task = asyncio.create_task(server.serve([listening]))
    try:
        while not server.started:
            if task.done():
                await task
                raise RequestError(ErrorCode.INTERNAL, "HTTP: the port could not be served")
            await asyncio.sleep(0.01)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    """Signals are for the process, which has other parts to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _check_open(settings: Settings) -> None:
    is_safe = settings.http_token and settings.http_tls_certificate
    if not (settings.loopback or is_safe or settings.http_open):
        text = (
            "HTTP: outside the loopback address a certificate (http_tls_certificate) and a token (http_token) are "
            "needed, or http_open where a proxy has both"
        )
        raise RequestError(ErrorCode.INVALID_ARGUMENT, text)


def server_tls(settings: Settings) -> ssl.SSLContext | None:
    """The port's certificate and whom it trusts; None where it speaks plaintext.

    Raises RadserveError INVALID_ARGUMENT for files that cannot be used, and for a port that would be open to others.
    """
    _check_open(settings)
    if settings.http_tls_certificate is None:
        return None
    return server_context(TlsFiles(settings.http_tls_certificate, settings.http_tls_key, settings.http_tls_clients))


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named for asyncio: without it, it leaves Nagle's algorithm on, and a client that delays its
    # acknowledgements (40 ms) holds up every answer of more than one write.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        text = f"HTTP: cannot listen on {host}:{port}: is the port taken?"
        raise RequestError(ErrorCode.INVALID_ARGUMENT, text) from None
    listening.setblocking(False)
    return listening


def _empty(folder: Path) -> Path:
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise storage_error(error) from None
    return folder
