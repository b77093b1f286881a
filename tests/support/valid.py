"""Whether an object is what the standard says, by dciodvfy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def assert_valid(data: bytes, tmp_path: Path) -> None:
    """Run dciodvfy, which knows the IODs of PS3.3 by itself."""
    path = tmp_path / "sr.dcm"
    path.write_bytes(data)
    command = str(Path(sys.executable).with_name("dciodvfy"))
    done = subprocess.run([command, "-new", str(path)], capture_output=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert "Error" not in said and done.returncode == 0, said
