"""What a workitem's study came to, as a completed workitem names it: the objects of its results and where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from radserve.dicom_io.identity import instance_of
from radserve.dicom_io.study_progress import ResultObjectAt, StudyProgress
from radserve.dicom_io.web_peer.ups import OutputReference
from radserve.ports import ResultStore
from radserve.server.peers import DIMSE_SCHEMES, WEB_SCHEMES


@dataclass(frozen=True, slots=True)
class Outputs:
    """`destinations`: URLs by name."""

    results: ResultStore
    destinations: Mapping[str, str] = field(default_factory=dict)

    async def of(self, found: StudyProgress) -> list[OutputReference]:
        """The objects of its newest results, where they were delivered to; those that were, if any was."""
        places: dict[tuple[str, str], list[str]] = {}
        for uid in found.result_uids:
            for name, _, sop_instance_uid in await self.results.objects(uid):
                if sop_instance_uid:
                    places[uid, name] = []
        for each in found.deliveries:
            places.setdefault((each.result_uid, each.artifact), []).append(each.destination)
        delivered = {key: names for key, names in places.items() if names} or places
        return [await self._at(ResultObjectAt(*key), names) for key, names in delivered.items()]

    async def _at(self, which: ResultObjectAt, destinations: Sequence[str]) -> OutputReference:
        artifact = await self.results.read(which.result_uid, which.artifact)
        instance = await asyncio.to_thread(instance_of, artifact.data)
        urls = [urlsplit(self.destinations.get(name, "")) for name in destinations]
        titles = [unquote(url.username or "") for url in urls if url.scheme in DIMSE_SCHEMES]
        web = [url.geturl().removeprefix("dicomweb+") for url in urls if url.scheme in WEB_SCHEMES]
        return OutputReference(instance, titles[0] if titles else "", web[0] if web else "")
