"""DiskReserve: against what the file system says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from radserve.dicom_io.reserve import DiskReserve
from radserve.errors import ErrorCode, RadserveError, StorageError


def test_below_the_reserve_is_full_and_above_it_is_not(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    DiskReserve(tmp_path, free // 2).check()
    DiskReserve(tmp_path, 0).check(2 * free)  # no reserve: the file system itself says when it is full
    for reserve, wanted in ((2 * free, 0), (free // 2, free)):
        with pytest.raises(StorageError, match="bytes are free") as caught:
            DiskReserve(tmp_path, reserve).check(wanted)
        assert caught.value.code is ErrorCode.STORAGE_FULL


def test_a_folder_that_is_gone_is_an_error_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        DiskReserve(tmp_path / "gone", 1).check()
    assert caught.value.code is ErrorCode.INTERNAL
    assert "gone" not in caught.value.client_message


def test_a_negative_reserve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RadserveError, match="reserve_bytes: got -1"):
        DiskReserve(tmp_path, -1)
