"""The embedded Triton: a supervised tritonserver child process on a socket that only this user can reach."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from radserve.errors import ErrorCode, ModelError
from radserve.models.pack import ModelPack
from radserve.models.triton import launch
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.config import ServingOptions
from radserve.models.triton.installation import TritonInstallation, find_installation
from radserve.models.triton.processes import end, wait_backend_death
from radserve.models.triton.repository import models_of, write_repository
from radserve.models.triton.server_log import ServerLog
from radserve.owned_folder import owned_folder, shared_memory_of, shared_memory_prefix
from radserve.tensors import ModelRef

logger = logging.getLogger(__name__)

_SOCKET_PATH_BYTES = 107  # sun_path of unix(7), without its final zero
_LAST_LINES = 8


@dataclass(frozen=True, slots=True)
class Supervision:
    """Times, in seconds, by which the child is held to its duties.

    Its backend processes are looked at every `poll_s`. After it or one of them died it is started anew after
    `first_backoff_s`, doubling up to `longest_backoff_s`; once it has run for `healthy_s` the doubling starts over.
    """

    start_timeout_s: float = 60.0
    stop_timeout_s: float = 10.0
    orphan_timeout_s: float = 2.0
    poll_s: float = 0.5
    first_backoff_s: float = 0.2
    longest_backoff_s: float = 10.0
    healthy_s: float = 60.0


class EmbeddedTriton:
    """Serves the graphs of `packs` on `url` from `start` to `stop`; also usable with `async with`.

    Start it on a thread that lives as long as the service: the kernel kills the child when that thread or the whole
    process ends, however it ends. The socket, the model repository and the backend's shared memory are for this user
    only, for who reaches Triton's model control can run code. `restarts` counts how often the child was replaced;
    `models` are what it serves now.
    """

    def __init__(
        self,
        packs: Sequence[ModelPack],
        *,
        log_folder: Path,
        options: ServingOptions | None = None,
        supervision: Supervision | None = None,
    ) -> None:
        self.restarts = 0
        self._packs, self._options = tuple(packs), options or ServingOptions()
        self.models: tuple[ModelRef, ...] = tuple(model for pack in packs for model in models_of(pack, self._options))
        self._supervision = supervision or Supervision()
        self._log_folder = log_folder
        self._kept = ExitStack()
        self._folder: Path | None = None
        self._log: ServerLog | None = None
        self._process: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it answers (gRPC). Valid after `start`, and the same after every restart."""
        return f"unix:{self._socket_stem}:1"

    @property
    def pid(self) -> int | None:
        """The process id of the running tritonserver."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def shared_memory_prefix(self) -> str:
        """How the names of its files in shared memory begin. Valid after `start`."""
        return shared_memory_prefix(self._socket_stem.parent)

    async def start(self) -> None:
        """Start the server and return when every model is ready.

        Raises MODEL_UNAVAILABLE when it ends or is not ready in time, with the last lines of its log, and when this
        platform has no embedded Triton.
        """
        installation = find_installation()
        self._folder = self._kept.enter_context(owned_folder("triton"))
        self._log = ServerLog(self._log_folder)
        try:
            await asyncio.to_thread(self._prepare, installation)
            await self._launch(installation, self._log)
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(installation, self._log))

    async def stop(self) -> None:
        """End the server and all its processes, and remove what it left; does nothing when it does not run."""
        if self._supervisor:
            self._supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await self._supervisor
        if self._process:
            await self._end(self._process)
        if self._log:
            await self._log.close()
        await asyncio.to_thread(self._kept.close)
        self._supervisor = self._process = self._log = self._folder = None

    async def load(self, pack: ModelPack) -> None:
        """Serve one more pack, also after a restart; returns when every graph is ready.

        Raises MODEL_UNAVAILABLE when one is not, and then serves none of them; PACK_HASH_MISMATCH.
        """
        repository = self._socket_stem.with_name("models")
        added = await asyncio.to_thread(write_repository, [pack], repository, self._options)
        self.models = tuple(dict.fromkeys((*self.models, *added)))
        client = TritonRunner(self.url)
        try:
            for model in added:
                await client.load(model)
            await client.wait_ready(added, self._supervision.start_timeout_s)
        except BaseException:
            await asyncio.shield(self.unload(pack))
            raise
        finally:
            await client.close()

    async def unload(self, pack: ModelPack) -> None:
        """Serve a pack no more. A graph that Triton cannot unload now is not loaded again after a restart."""
        gone = models_of(pack, self._options)
        self.models = tuple(model for model in self.models if model not in gone)
        client = TritonRunner(self.url)
        try:
            for model in gone:
                with suppress(ModelError):
                    await client.unload(model)
        finally:
            await client.close()
        for model in gone:
            folder = self._socket_stem.with_name("models") / model.name
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def _socket_stem(self) -> Path:
        if self._folder is None:
            raise ModelError(ErrorCode.MODEL_UNAVAILABLE, "the embedded Triton is not running")
        return self._folder / "grpc"

    def _prepare(self, installation: TritonInstallation) -> None:
        if len(os.fsencode(f"{self._socket_stem}:1")) > _SOCKET_PATH_BYTES:
            raise _unavailable(f"the temporary folder's path is too long for a socket ({self._socket_stem})")
        installation.write_backends(self._socket_stem.with_name("backends"))
        repository = self._socket_stem.with_name("models")
        repository.mkdir()  # Triton does not start without one; of no packs nothing is written
        write_repository(self._packs, repository, self._options)

    async def _supervise(self, installation: TritonInstallation, log: ServerLog) -> None:
        limits, clock = self._supervision, asyncio.get_running_loop().time
        backoff_s = limits.first_backoff_s
        while True:
            started = clock()
            if self._process:
                logger.error("tritonserver failed: %s", await self._failure(self._process))
                await self._end(self._process)
            if clock() - started > limits.healthy_s:
                backoff_s = limits.first_backoff_s
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, limits.longest_backoff_s)
            self.restarts += 1
            try:
                await self._launch(installation, log)
                logger.warning("tritonserver is ready again after restart %d", self.restarts)
            except Exception as error:  # whatever it was, the next attempt may succeed
                logger.error("tritonserver could not be restarted: %s", error)

    async def _failure(self, process: Process) -> str:
        """Wait until the server has ended or is of no more use, and say what happened."""
        ended = asyncio.create_task(process.wait())
        crippled = asyncio.create_task(wait_backend_death(process.pid, self._supervision.poll_s))
        try:
            await asyncio.wait({ended, crippled}, return_when=asyncio.FIRST_COMPLETED)
            return f"it ended with status {ended.result()}" if ended.done() else "a backend process of it died"
        finally:
            ended.cancel()
            crippled.cancel()

    async def _launch(self, installation: TritonInstallation, log: ServerLog) -> None:
        self._process = process = await self._spawn(installation, log)
        probe = TritonRunner(self.url)
        ended = asyncio.create_task(process.wait())
        ready = asyncio.create_task(probe.wait_ready(self.models, self._supervision.start_timeout_s))
        try:
            await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise _unavailable(f"it ended with status {ended.result()} on start", log)
            if error := ready.exception():
                raise _unavailable(str(getattr(error, "client_message", error)), log) from error
        except BaseException:
            with suppress(ProcessLookupError):  # while it loads it looks at no other signal, and nobody was served yet
                process.kill()
            await self._end(process)
            self._process = None
            raise
        finally:
            ended.cancel()
            ready.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)
            await probe.close()

    async def _spawn(self, installation: TritonInstallation, log: ServerLog) -> Process:
        output = await log.open()
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid())),
                *(str(installation.server), *self._arguments()),
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                env=installation.environment(),
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C is for the service, which ends the child in its own order
            )
        finally:
            os.close(output)

    def _arguments(self) -> list[str]:
        stem = self._socket_stem
        return [
            f"--model-repository={stem.with_name('models')}",
            f"--backend-directory={stem.with_name('backends')}",
            "--model-control-mode=explicit",
            *(f"--load-model={model.name}" for model in self.models),
            "--disable-auto-complete-config",
            f"--backend-config=python,shm-region-prefix-name={self.shared_memory_prefix}",
            # Triton always adds ":port" to the address, so this is the socket "grpc:1".
            f"--grpc-address=unix:{stem}",
            "--grpc-port=1",
            "--allow-http=false",
            "--allow-metrics=false",
            # After our own patience: what it would print then reads like a fault, and is models that unload slowly.
            f"--exit-timeout-secs={int(self._supervision.stop_timeout_s) + 5}",
        ]

    async def _end(self, process: Process) -> None:
        limits = self._supervision
        await end(process, stop_timeout_s=limits.stop_timeout_s, orphan_timeout_s=limits.orphan_timeout_s)
        for region in shared_memory_of(self._socket_stem.parent):
            region.unlink(missing_ok=True)


def _unavailable(cause: str, log: ServerLog | None = None) -> ModelError:
    message = f"the embedded Triton did not start: {cause}"
    said = log.last_lines(_LAST_LINES) if log else ""
    return ModelError(ErrorCode.MODEL_UNAVAILABLE, f"{message}; its log ends with:\n{said}" if said else message)
