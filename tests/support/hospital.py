"""An origin server of workitems, an archive, and a performer that can be killed at any point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from radserve.dicom_io.study_progress import SqlStudyProgress
from radserve.dicom_io.web_peer.archive import WebArchive as Archive
from radserve.dicom_io.web_peer.peer import WebPeer
from radserve.dicom_io.web_peer.ups import Worklist
from radserve.results import Artifact
from radserve.server.ups_claims import ClaimFolder
from radserve.server.ups_outputs import Outputs
from radserve.server.ups_performer import PerformerOptions, UpsPerformer
from radserve.work import ResultObject
from tests.support.dicoms import uid
from tests.support.dicomweb import WebArchive, header
from tests.support.workflow import Site, instance
from tests.support.worklist import OriginServer, Step

ITEM = "1.2.3.4"
STUDY = uid("study", "s")
URLS = {"pacs": "dicomweb+https://archive.example/dicom-web"}


class KilledError(BaseException):
    """The end of a process."""


@dataclass
class Hospital:
    """An origin server and an archive with a study of two images, as they listen."""

    origin: OriginServer
    archive: WebArchive
    origin_url: str
    archive_url: str

    def performer(self, site: Site, kill: str = "", **options: Any) -> UpsPerformer:
        """A performer over what is on disk; it is killed at a point."""
        worklist, archive = Worklist(WebPeer(self.origin_url), "RADSERVE"), Archive(WebPeer(self.archive_url))
        ledger: Any = Through(site.ledger)
        performer = UpsPerformer(
            worklist,
            archive,
            site.store,
            ledger,
            SqlStudyProgress(site.database),
            Outputs(site.results, URLS),
            ClaimFolder(site.root / "ups"),
            site.clock,
            PerformerOptions(**options),
        )
        mortal = Mortal(kill)
        mortal.watch(worklist, "get", "_update", "_change_state")
        mortal.watch(ledger, "signal")
        mortal.watch(archive, "list_instances")
        mortal.watch(performer, "_put", "_forget")
        return performer

    @property
    def step(self) -> Step:
        return self.origin.steps[ITEM]


class Through:
    """A part whose methods can be replaced for one user of it."""

    def __init__(self, part: Any) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


class Mortal:
    """Kills at `METHOD:before:N` or `METHOD:after:N`, the N-th time that it comes there."""

    def __init__(self, point: str) -> None:
        self._method, self._when, number = point.split(":") if point else ("", "", "1")
        self._left = int(number)

    def watch(self, part: Any, *methods: str) -> None:
        for name in methods:
            if name == self._method:
                setattr(part, name, self._deadly(getattr(part, name)))

    def _deadly(self, method: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0 and self._when == "before":
                raise KilledError
            result = await method(*args, **kwargs)
            if self._left == 0:
                raise KilledError
            return result

        return call


async def look(performer: UpsPerformer) -> None:
    await performer.tick()
    await performer.settled()


async def work(site: Site, performer: UpsPerformer, times: int = 4) -> None:
    for _ in range(times):
        await look(performer)
        await site.step()


def reason_of(step: Step) -> str:
    return str(step.data["00741002"]["Value"][0]["00741238"]["Value"][0])


def make_real_objects(site: Site) -> None:
    """Let the results be DICOM objects, and the destination name them."""
    analyse, send = site.analysis.analyse, site.destination.send

    async def made(job: Any) -> Any:
        objects = []
        for each in await analyse(job):
            name, uid = each.artifact.name, each.sop_instance_uid
            data = instance("s", 90, SOPInstanceUID=uid) if uid else b"text"
            objects.append(ResultObject(Artifact(name, each.artifact.media_type, data), each.output, uid))
        return objects

    async def sent(destination: str, artifact: Artifact) -> None:
        text = f"x {header(artifact.data).SOPInstanceUID}".encode()
        await send(destination, Artifact(artifact.name, artifact.media_type, text))

    site.analysis.analyse = made  # type: ignore[method-assign]
    site.destination.send = sent  # type: ignore[method-assign]
