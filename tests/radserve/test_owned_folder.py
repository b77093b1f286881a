"""Temporary folders go with their owner, and those of a killed one at a next start; never those of a living one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from radserve.owned_folder import owned_folder, remove_abandoned, shared_memory_prefix

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks of folders")

OWNER = """
import sys, tempfile, time
from pathlib import Path
from radserve.owned_folder import owned_folder, shared_memory_prefix
tempfile.tempdir = sys.argv[1]
with owned_folder("test") as folder:
    (folder / "patient").write_text("data")
    Path("/dev/shm", shared_memory_prefix(folder) + "-region").touch()
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_folder_goes_at_the_end_of_the_block(tmp_path: Path) -> None:
    with owned_folder("test") as folder:
        assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").write_text("x")
        assert remove_abandoned() == []
        assert folder.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm")
def test_what_a_killed_process_leaves_is_removed_with_its_shared_memory_and_nothing_of_a_living_one(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    owners = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        killed, living = (Path((owner.stdout.readline() if owner.stdout else "").strip()) for owner in owners)
        regions = [Path("/dev/shm", f"{shared_memory_prefix(each)}-region") for each in (killed, living)]
        assert remove_abandoned() == []
        owners[0].kill()
        owners[0].wait()
        assert remove_abandoned() == [killed.name]
        assert [path.exists() for path in (killed, living, *regions)] == [False, True, False, True]
    finally:
        for owner in owners:
            owner.kill()
            owner.communicate()
    assert remove_abandoned() == [living.name]
    assert not regions[1].exists()


def test_a_folder_of_another_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "radserve-elsewhere").mkdir()
    assert remove_abandoned() == []
    assert (tmp_path / "radserve-elsewhere").exists()
