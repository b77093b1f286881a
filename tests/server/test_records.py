"""What keeps the records from being opened is named, so that an operator knows what to mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.errors import ErrorCode, StorageError
from radserve.server.records import opened_records
from radserve.server.settings import Settings


async def refusal(**given: object) -> StorageError:
    with pytest.raises(StorageError) as caught:
        async with opened_records(Settings(**given)):  # type: ignore[arg-type]
            pass
    return caught.value


async def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    error = await refusal(data_dir=tmp_path / "file" / "data")
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert f"'{tmp_path / 'file' / 'data'}'" in error.client_message
    assert "Not a directory" in error.client_message


async def test_a_database_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    error = await refusal(data_dir=tmp_path, index_url="postgresql+psycopg://radserve:s3cret@127.0.0.1:1/site")
    assert (error.code, "s3cret" in str(error)) == (ErrorCode.INTERNAL, False)
    assert "postgresql+psycopg://127.0.0.1:1/site, cannot be opened: OperationalError: " in error.client_message
    assert "Connection refused" in error.client_message


@pytest.mark.parametrize("url", ["postgres", "postgres://radserve:s3cret@db/site", "oracle://u:s3cret@db/x"])
async def test_a_url_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    error = await refusal(data_dir=tmp_path, index_url=url)
    assert (error.code, "s3cret" in str(error)) == (ErrorCode.INVALID_ARGUMENT, False)
    assert error.client_message.startswith("the database URL cannot be used")
