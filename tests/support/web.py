"""The HTTP port over a real store, index and sandboxed workers, in a thread of the test process; without Triton."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from dicomweb_client.web import DICOMwebClient

from radserve.dicom_io.store import StoreLimits, StudyStore
from radserve.server.app import decoder_pool
from radserve.server.records import Records, opened_records
from radserve.server.settings import MEBIBYTE, Settings
from radserve.server.stores import Stores
from radserve.server.web.limits import WebLimits
from radserve.server.web.listener import WebListener, web_listener

T = TypeVar("T")
SECONDS = 120
DICOM_TYPE = 'multipart/related; type="application/dicom"'


@dataclass(frozen=True)
class LiveWeb:
    """A started port and ways to call it."""

    listener: WebListener
    store: StudyStore
    records: Records
    data_dir: Path
    http: httpx2.Client
    _loop: asyncio.AbstractEventLoop

    @property
    def root(self) -> str:
        return f"{self.listener.url}/dicom-web"

    @property
    def client(self) -> DICOMwebClient:
        return DICOMwebClient(self.root)

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(SECONDS)

    def get(self, path: str, accept: str = "", **parameters: str) -> httpx2.Response:
        headers = {"Accept": accept} if accept else {}
        return self.http.get(self.root + path, headers=headers, params=parameters or None)

    def store_instances(self, *instances: bytes, study: str = "") -> httpx2.Response:
        boundary = secrets.token_hex(8)
        path = f"/studies/{study}" if study else "/studies"
        headers = {"Content-Type": f"{DICOM_TYPE}; boundary={boundary}"}
        return self.http.post(self.root + path, content=multipart(boundary, *instances), headers=headers)

    def raw(self, data: bytes, *, seconds: float = SECONDS, half_close: bool = False) -> tuple[int, bytes]:
        """Send bytes as they are; the status (0: none) and what came until the server closed or said all it has."""
        with socket.create_connection((self.listener.host, self.listener.port), timeout=seconds) as connection:
            try:
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            return read_answer(connection)

    def files(self) -> list[Path]:
        return sorted((self.data_dir / "studies").glob("[0-9]*/*/*.dcm"))


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """The status and the body of one answer."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        if end:
            lengths = [
                line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
            ]
            if lengths and len(body) >= int(lengths[0]):
                break
        try:
            chunk = connection.recv(1 << 16)
        except ConnectionResetError:
            break
        if not chunk:
            break
        received += chunk
    return (int(received.split(b" ", 2)[1]) if received.startswith(b"HTTP/") else 0), received.partition(b"\r\n\r\n")[2]


def multipart(boundary: str, *parts: bytes, content_type: str = "application/dicom") -> bytes:
    stated = f"Content-Type: {content_type}\r\n" if content_type else ""
    head = f"--{boundary}\r\n{stated}\r\n".encode()
    return b"".join(head + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()


def code_of(response: httpx2.Response) -> str:
    return str(json.loads(response.content)["code"])


def reasons(document: dict[str, Any]) -> list[int]:
    """The Failure Reasons of a Store Instances Response."""
    items = [item for tag in ("00081198", "0008119A") for item in document.get(tag, {}).get("Value", [])]
    return [item["00081197"]["Value"][0] for item in items]


@contextmanager
def live_web(data_dir: Path, limits: WebLimits | None = None, **given: Any) -> Iterator[LiveWeb]:
    """Start the HTTP port of a site on a free port, and stop it at the end."""
    values = {"disk_reserve_mib": 0, "decode_workers": 2, "http_port": 0, **given}
    settings = Settings(data_dir=data_dir, **values)
    started: Future[tuple[WebListener, StudyStore, Records, asyncio.AbstractEventLoop]] = Future()
    stop, ended = threading.Event(), Future[None]()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            workers = await stack.enter_async_context(decoder_pool(settings))
            records = await stack.enter_async_context(opened_records(settings))
            await records.results.open()
            stores = Stores(workers, StoreLimits(max_instance_bytes=settings.max_instance_mib * MEBIBYTE))
            store = await stack.enter_async_context(stores.opened(data_dir / "studies", records))
            listener = await stack.enter_async_context(web_listener(settings, records, store, workers, limits))
            assert listener is not None
            started.set_result((listener, store, records, asyncio.get_running_loop()))
            await asyncio.to_thread(stop.wait)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            (ended if started.done() else started).set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=run, name="web")
    thread.start()
    try:
        listener, store, records, loop = started.result(SECONDS)
        with httpx2.Client(timeout=SECONDS, verify=False) as http:
            yield LiveWeb(listener, store, records, data_dir, http, loop)
    finally:
        stop.set()
        thread.join(60)
    ended.result(0)
