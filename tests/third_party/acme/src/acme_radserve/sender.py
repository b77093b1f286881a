"""acme:/FOLDER takes each object as a file of its name."""

from __future__ import annotations

from pathlib import Path


class Sender:
    def check(self, url):
        pass

    async def send(self, url, artifacts, begin):
        for index, artifact in enumerate(artifacts):
            if await begin(index):
                Path(url.removeprefix("acme:"), artifact.name).write_bytes(artifact.data)
                yield index, None

    async def has(self, url, artifact):
        return Path(url.removeprefix("acme:"), artifact.name).exists()
