"""A PostgreSQL server of the tests' own, on a socket in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgres() -> Iterator[str]:
    """Yield the URL of an empty database; skip where PostgreSQL is not installed."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").is_dir() else []
    if not binaries or not shutil.which("setpriv"):
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    # initdb refuses to run as root: its own account does
    account = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="radserve-pg-", dir="/tmp"))
    if account:
        shutil.chown(folder, "postgres", "postgres")
    data, tool = folder / "data", binaries[-1]
    make = [*account, tool / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-N"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder)
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    start = [*account, tool / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log"]
    subprocess.run([*start, "start"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        stop = [*account, tool / "pg_ctl", "-D", data, "-m", "immediate", "stop"]
        subprocess.run(stop, check=True, capture_output=True, cwd=folder)
        shutil.rmtree(folder)
