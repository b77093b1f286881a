"""The text service of the settings."""

from __future__ import annotations

import ssl
from pathlib import Path

from radserve._checks import invalid
from radserve.models.text_service import ChatService
from radserve.server.settings import Settings


def site_text_service(settings: Settings) -> ChatService | None:
    """The text service that words reports here, None where the settings name none. Raises INVALID_ARGUMENT."""
    if not settings.text_service_url:
        return None
    return ChatService(
        settings.text_service_url,
        settings.text_service_model,
        _key(settings.text_service_key_file) if settings.text_service_key_file else "",
        settings.text_service_timeout_s,
        _trust(settings.text_service_ca) if settings.text_service_ca else None,
    )


def _key(path: Path) -> str:
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise invalid("text_service_key_file", str(path), f"a readable file ({type(error).__name__})") from None
    if not key:
        raise invalid("text_service_key_file", str(path), "a file with a key")
    return key


def _trust(path: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise invalid("text_service_ca", str(path), f"certificates (PEM) ({type(error).__name__})") from None
