"""What the tritonserver process says: into a rotating file, into our log, and the last lines at hand for errors."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from logging.handlers import RotatingFileHandler
from pathlib import Path

logger = logging.getLogger(__name__)

FILE_NAME = "triton.log"
_FILE_BYTES, _FILES = 5_000_000, 3
_LINE_BYTES = 1_000_000
_SHOWN_CHARACTERS = 300
_LEVELS = {"E": logging.WARNING, "W": logging.INFO, "e": logging.WARNING}  # by the first letter of Triton's lines
_HARMLESS = ("CudaDriverHelper", "pinned system memory")  # said at every start on a machine without a GPU


class ServerLog:
    """Takes the lines of one process after the other."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = RotatingFileHandler(folder / FILE_NAME, maxBytes=_FILE_BYTES, backupCount=_FILES, delay=True)
        self._last: deque[str] = deque(maxlen=100)
        self._copying: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        """A new pipe to write lines to; the caller closes it when the process has it."""
        read_end, write_end = os.pipe()
        reader = asyncio.StreamReader(limit=_LINE_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
        )
        task = asyncio.create_task(self._copy(reader, transport))
        self._copying.add(task)
        task.add_done_callback(self._copying.discard)
        return write_end

    def last_lines(self, count: int) -> str:
        """The last errors, or the last lines of any kind when there was no error; long ones are cut."""
        told = [line[:_SHOWN_CHARACTERS] for line in self._last if line.strip() and line[0] not in "+|"]
        errors = [line for line in told if _level(line) == logging.WARNING]
        return "\n".join((errors or told)[-count:])

    async def close(self) -> None:
        """Take what is still in the pipes and close the file."""
        if self._copying:
            _, stuck = await asyncio.wait(self._copying, timeout=1.0)
            for task in stuck:
                task.cancel()
        self._file.close()

    async def _copy(self, reader: asyncio.StreamReader, transport: asyncio.BaseTransport) -> None:
        try:
            while line := await _line(reader):
                self._take(line.decode(errors="replace").rstrip())
        finally:
            transport.close()

    def _take(self, line: str) -> None:
        self._last.append(line)
        self._file.handle(logging.makeLogRecord({"msg": "%s", "args": (line,)}))
        logger.log(_level(line), "tritonserver: %s", line)


def _level(line: str) -> int:
    return logging.DEBUG if any(each in line for each in _HARMLESS) else _LEVELS.get(line[:1], logging.DEBUG)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:  # longer than any line worth keeping; asyncio has dropped what it had of it
        return b"(a line too long to keep)\n"
