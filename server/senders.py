"""Destinations of results by URL: the scheme says how they are reached, the sender of the scheme does it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from radserve._checks import invalid
from radserve.dicom_io.durable import fsync_folder, storage_error
from radserve.findings import Artifact


class SchemeSender(Protocol):
    """Sends to any URL of one scheme."""

    async def send(self, url: str, artifact: Artifact) -> None:
        """Return when the destination has the object. Raises RadserveError."""
        ...


class FolderSender:
    """file:///FOLDER: the object as a file, whole or not there, named by its bytes so that it is there once."""

    async def send(self, url: str, artifact: Artifact) -> None:
        await asyncio.to_thread(_write, Path(unquote(urlsplit(url).path)), artifact)


@dataclass(frozen=True, slots=True)
class Destinations:
    """ports.ArtifactSender over the site's destinations: `urls` by name, `senders` by scheme."""

    urls: Mapping[str, str]
    senders: Mapping[str, SchemeSender]

    def __post_init__(self) -> None:
        for name, url in self.urls.items():
            if urlsplit(url).scheme not in self.senders:
                raise invalid(f"destination {name}", url, f"a URL with one of the schemes {sorted(self.senders)}")

    def check(self, names: tuple[str, ...]) -> None:
        """Raise RadserveError INVALID_ARGUMENT for a name that is no destination."""
        if unknown := sorted(set(names) - set(self.urls)):
            raise invalid("destinations", unknown, f"some of {sorted(self.urls)}")

    async def send(self, destination: str, artifact: Artifact) -> None:
        self.check((destination,))
        url = self.urls[destination]
        await self.senders[urlsplit(url).scheme].send(url, artifact)


def _write(folder: Path, artifact: Artifact) -> None:
    target = folder / f"{hashlib.sha256(artifact.data).hexdigest()[:32]}{Path(artifact.name).suffix}"
    aside = target.with_name(f".{target.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(artifact.data)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(target)
        fsync_folder(folder)
    except OSError as error:
        raise storage_error(error) from None
