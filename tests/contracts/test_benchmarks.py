"""A change of the package that a benchmark does not follow is seen when it is made, not at the next measuring."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
READ_ALL = "import runpy, sys\nfor path in sys.argv[1:]: runpy.run_path(path, run_name='read')"


@pytest.mark.slow
def test_every_benchmark_finds_all_that_it_uses() -> None:
    assert BENCHMARKS
    command = [sys.executable, "-c", READ_ALL, *map(str, BENCHMARKS)]
    run = subprocess.run(command, capture_output=True, check=False, text=True)
    assert run.returncode == 0, run.stderr
