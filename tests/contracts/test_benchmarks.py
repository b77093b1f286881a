"""A change of the package that a benchmark does not follow is seen when it is made, not at the next measuring."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
BENCHMARKS = sorted(FOLDER.glob("*.py"))
READ_ALL = """
import runpy, sys
sys.path[0] = sys.argv[1]  # as where one is started
for path in sys.argv[2:]:
    runpy.run_path(path, run_name="read")
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)  # for machines on which others work
def test_every_benchmark_finds_all_that_it_uses() -> None:
    assert BENCHMARKS
    command = [sys.executable, "-c", READ_ALL, str(FOLDER), *map(str, BENCHMARKS)]
    run = subprocess.run(command, capture_output=True, check=False, text=True)
    assert run.returncode == 0, run.stderr
