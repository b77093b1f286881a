"""Settings come from arguments and the environment, once, and cannot be changed afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from radserve.server.settings import Settings


def test_the_environment_sets_a_field_and_an_argument_goes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADSERVE_PORT", "9000")
    monkeypatch.setenv("RADSERVE_PACK_DIRS", '["/a", "/b"]')
    assert Settings().port == 9000
    assert Settings().pack_dirs == (Path("/a"), Path("/b"))
    assert Settings(port=1234).port == 1234


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "70000"), ("INTENDED_USE", "sometimes"), ("DECODE_WORKERS", "0"), ("PORT", "many")]
)
def test_a_value_that_cannot_be_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RADSERVE_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False)])
def test_only_a_loopback_address_counts_as_loopback(host: str, loopback: bool) -> None:
    assert Settings(host=host).loopback is loopback
