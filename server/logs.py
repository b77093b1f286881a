"""The log on standard error: for eyes at a terminal, and elsewhere one line a record for what collects logs."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

from rich.logging import RichHandler

from radserve.server.console import stderr


def log_to_standard_error(level: str) -> None:
    """Log what is of `level` or above."""
    logging.basicConfig(level=level, handlers=[_handler()], force=True)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it quotes values of headers: patient data
    for client in ("httpx2", "httpcore2"):  # they name addresses with what is searched for there: patient data
        logging.getLogger(client).setLevel(logging.WARNING)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # a line for every change
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # its start and end are the server's own, which says so


def _handler() -> logging.Handler:
    if sys.stderr.isatty():
        pretty = RichHandler(console=stderr(), show_path=False)
        pretty.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        return pretty
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    return handler


class LineFormatter(logging.Formatter):
    """TIME LEVEL LOGGER: MESSAGE, the time in UTC. Further lines of a record are indented: none looks like a record."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - its name there
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(super().format(record).splitlines())
