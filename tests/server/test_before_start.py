"""What is wrong with a start is said before the models are loaded."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from radserve.errors import ErrorCode, RadserveError
from radserve.server import app
from radserve.server.settings import Settings


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A certificate and its key, and beside it other.key, which is another's."""
    authority = trustme.CA()
    path = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    authority.issue_cert("127.0.0.1").private_key_pem.write_to_path(tmp_path / "other.key")
    return path


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


async def refusal(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, **given: Any) -> str:
    """What a start with these settings is refused with, before Triton is started and without a word in the log."""

    def loaded(*_: object) -> None:
        raise AssertionError("the models are loaded")

    monkeypatch.setattr(app, "serving_packs", loaded)
    with caplog.at_level(logging.INFO), pytest.raises(RadserveError) as caught:
        async with app.running(Settings(**{"port": 0, **given})):
            pass
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    return caught.value.client_message


@pytest.mark.parametrize("port", ["http", "dimse", "grpc"])
async def test_a_certificate_with_the_key_of_another(
    pem: Path, port: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = {f"{port}_tls_certificate": pem, f"{port}_tls_key": pem.with_name("other.key")}
    opened = {} if port == "grpc" else {f"{port}_port": 0}
    said = await refusal(monkeypatch, caplog, data_dir=pem.parent / "data", **files, **opened)
    assert "server.pem and " in said and "KEY_VALUES_MISMATCH" in said


@pytest.mark.parametrize("port", ["http_port", "dimse_port", "port"])
async def test_a_port_that_is_taken(
    taken: int, port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = await refusal(monkeypatch, caplog, data_dir=tmp_path, **{port: taken})
    assert f"127.0.0.1:{taken}: Address already in use" in said


async def test_a_destination_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By now the workers are starting: that they are stopped again is no failure of theirs."""
    given = {"workflow": True, "destinations": {"archive": "nowhere:x"}}
    said = await refusal(monkeypatch, caplog, data_dir=tmp_path, **given)
    assert said.startswith("destination archive: got 'nowhere:x'")
