"""The text service of the settings: off by default, its key in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from radserve.errors import ErrorCode, RadserveError
from radserve.server.settings import Settings
from radserve.server.text_service import site_text_service

URL = "https://llm.example/v1"


def test_there_is_none_by_default() -> None:
    assert site_text_service(Settings()) is None


def test_the_settings_are_the_services(tmp_path: Path) -> None:
    key, ca = tmp_path / "key", tmp_path / "ca.pem"
    key.write_text("sk-secret\n")
    trustme.CA().cert_pem.write_to_path(str(ca))
    settings = Settings(
        text_service_url=URL,
        text_service_model="tiny",
        text_service_key_file=key,
        text_service_timeout_s=7,
        text_service_ca=ca,
    )
    service = site_text_service(settings)
    assert service is not None
    assert (service.base_url, service.model, service.key, service.timeout_s) == (URL, "tiny", "sk-secret", 7)
    assert service.tls is not None
    assert service.tls.cert_store_stats()["x509_ca"] == 1


@pytest.mark.parametrize(
    ("setting", "content"),
    [
        ("text_service_key_file", None),
        ("text_service_key_file", b" \n"),
        ("text_service_key_file", b"\xff"),
        ("text_service_ca", None),
        ("text_service_ca", b"no certificate"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, setting: str, content: bytes | None) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RadserveError, match=setting) as caught:
        site_text_service(Settings(text_service_url=URL, text_service_model="tiny", **{setting: path}))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert str(path) in str(caught.value)


def test_a_service_without_a_model_is_refused() -> None:
    with pytest.raises(RadserveError, match="text service model"):
        site_text_service(Settings(text_service_url=URL))
