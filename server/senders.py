"""Destinations of results by URL: the scheme says how they are reached, the sender of the scheme does it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from radserve._checks import invalid
from radserve.dicom_io.durable import fsync_folder, storage_error
from radserve.dicom_io.web_peer.peer import shown
from radserve.errors import RadserveError
from radserve.ports import Begin, Outcome
from radserve.results import Artifact


@runtime_checkable
class SchemeSender(Protocol):
    """Sends to any URL of one scheme."""

    def check(self, url: str) -> None:
        """Raise RadserveError INVALID_ARGUMENT for a URL that cannot be used."""
        ...

    def send(self, url: str, artifacts: Sequence[Artifact], begin: Begin) -> AsyncGenerator[Outcome, None]:
        """As ports.ArtifactSender.send."""
        ...

    async def has(self, url: str, artifact: Artifact) -> bool:
        """Whether the destination has the object; False where that cannot be told. Raises RadserveError."""
        ...


class FolderSender:
    """file:///FOLDER: the object as a file, whole or not there, named by its bytes so that it is there once."""

    def check(self, url: str) -> None:
        if not Path(unquote(urlsplit(url).path)).is_absolute():
            raise invalid("destination", url, "file:///FOLDER")

    async def send(self, url: str, artifacts: Sequence[Artifact], begin: Begin) -> AsyncGenerator[Outcome, None]:
        for index, artifact in enumerate(artifacts):
            if await begin(index):
                try:
                    await asyncio.to_thread(_write, _target(url, artifact), artifact)
                except RadserveError as error:
                    yield index, error
                else:
                    yield index, None

    async def has(self, url: str, artifact: Artifact) -> bool:
        return await asyncio.to_thread(_target(url, artifact).exists)


@dataclass(frozen=True, slots=True)
class Destinations:
    """ports.ArtifactSender and ArrivalProbe over the site's destinations: `urls` by name, `senders` by scheme."""

    urls: Mapping[str, str]
    senders: Mapping[str, SchemeSender]

    def __post_init__(self) -> None:
        for name, url in self.urls.items():
            if urlsplit(url).scheme not in self.senders:
                raise invalid(
                    f"destination {name}", shown(url), f"a URL with one of the schemes {sorted(self.senders)}"
                )
            self.senders[urlsplit(url).scheme].check(url)

    def check(self, names: tuple[str, ...]) -> None:
        """Raise RadserveError INVALID_ARGUMENT for a name that is no destination."""
        if unknown := sorted(set(names) - set(self.urls)):
            raise invalid("destinations", unknown, f"some of {sorted(self.urls)}")

    async def send(
        self, destination: str, artifacts: Sequence[Artifact], begin: Begin
    ) -> AsyncGenerator[Outcome, None]:
        self.check((destination,))
        url = self.urls[destination]
        async with aclosing(self.senders[urlsplit(url).scheme].send(url, artifacts, begin)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def has(self, destination: str, artifact: Artifact) -> bool:
        url = self.urls.get(destination)
        return url is not None and await self.senders[urlsplit(url).scheme].has(url, artifact)


def _target(url: str, artifact: Artifact) -> Path:
    name = f"{hashlib.sha256(artifact.data).hexdigest()[:32]}{Path(artifact.name).suffix}"
    return Path(unquote(urlsplit(url).path)) / name


def _write(target: Path, artifact: Artifact) -> None:
    folder = target.parent
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
