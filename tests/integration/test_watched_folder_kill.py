"""A service that is killed while it empties its watched folder loses no file and stores none twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.dicom_io.dimse.scp_process import scp_process
from tests.dicom_io.dimse.support import free_port, slice_bytes

FILES = 60


@pytest.mark.slow
def test_a_kill_while_files_are_taken_loses_none_and_doubles_none(tmp_path: Path) -> None:
    inbox, studies = tmp_path / "inbox", tmp_path / "studies"
    inbox.mkdir()
    data = [slice_bytes(number) for number in range(FILES)]
    for number, each in enumerate(data):
        (inbox / f"{number}.dcm").write_bytes(each)

    def stored() -> list[bytes]:
        return [path.read_bytes() for path in studies.glob("*/*/*.dcm")]

    for enough in (10, 25, 40):
        with scp_process(free_port(), studies, 60.0, "watch") as process:
            while len(list(studies.glob("*/*/*.dcm"))) < enough:
                assert process.poll() is None
                time.sleep(0.001)
            process.kill()
            process.wait()
        left = [path.read_bytes() for path in inbox.glob("*.dcm")]
        assert set(data) == {*stored(), *left}
    with scp_process(free_port(), studies, 60.0, "watch") as process:
        while list(inbox.glob("*.dcm")):
            assert process.poll() is None
            time.sleep(0.05)
    assert sorted(stored()) == sorted(data)
    assert not list((inbox / "refused").iterdir())
