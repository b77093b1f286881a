"""The log of a server whose standard error is no terminal."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

from radserve.server.logs import LineFormatter

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("radserve.server.app", logging.WARNING, "app.py", 1, message, arguments, None)


def test_a_record_is_one_line_with_its_time_however_long_it_is() -> None:
    line = LineFormatter().format(record("listening on %s", "x" * 500))
    assert re.fullmatch(TIME + r" WARNING radserve\.server\.app: listening on x{500}", line)


def test_a_value_with_line_ends_does_not_make_a_record_of_its_own() -> None:
    forged = "1.2.3\n2026-11-26T10:00:00.000Z INFO radserve.server.app: all is well"
    _, second = LineFormatter().format(record("no series %s", forged)).splitlines()
    assert not re.match(TIME, second)


def test_through_a_pipe_every_record_is_such_a_line() -> None:
    script = (
        "import logging; from radserve.server.logs import log_to_standard_error; log_to_standard_error('INFO');"
        "names = ('radserve.a', 'uvicorn.error', 'httpx2', 'watchfiles', 'radserve.b');"
        "[logging.getLogger(name).info('y' * 200) for name in names]"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    lines = done.stderr.splitlines()
    assert [line.split(" ")[1:3] for line in lines] == [["INFO", "radserve.a:"], ["INFO", "radserve.b:"]]
    assert all(re.match(TIME, line) and line.endswith("y" * 200) for line in lines)
