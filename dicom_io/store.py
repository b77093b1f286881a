"""The studies of this server: received instances on disk as they came, known by their headers in memory and an index.

An instance is acknowledged only when it is durable and its header could be read. Files lie at
ROOT/STUDY_UID/SERIES_UID/SOP_UID.dcm; they are never overwritten or altered, but that a preamble in use is zeroed when
it comes: it could make a program of the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from radserve.dicom_io.commits import Commits
from radserve.dicom_io.durable import DurableTree
from radserve.dicom_io.incoming import Incoming, StoredInstance
from radserve.dicom_io.index import StudyIndex
from radserve.dicom_io.listing import Listing
from radserve.dicom_io.parse import InstanceHeader, patient_key
from radserve.dicom_io.recovery import Recovery, place_of
from radserve.dicom_io.store_options import IndexedOptions, StoreLimits
from radserve.image import Image, Volume
from radserve.references import AcquisitionContext, InstanceRef, StudyRef
from radserve.workers import WorkerPool

__all__ = ["Incoming", "IndexedOptions", "StoreLimits", "StoredInstance", "StudyStore"]

logger = logging.getLogger(__name__)


class StudyStore:
    """Takes and gives the instances under one folder (ports.InstanceSource). For one event loop.

    The folder belongs to one store at a time. `open` comes before anything else, `close` at the end.
    """

    def __init__(
        self,
        root: Path,
        workers: WorkerPool,
        limits: StoreLimits | None = None,
        index: StudyIndex | None = None,
        options: IndexedOptions | None = None,
    ) -> None:
        self._root = root
        self._workers = workers
        self._limits = limits or StoreLimits()
        self._index = index
        self._options = options or IndexedOptions()
        self._tree = DurableTree(root)
        self._listing = Listing()
        self._commits = Commits(root, self._tree, self._listing, workers, index, self._options)

    async def open(self) -> None:
        """Claim the folder, finish commits that were acknowledged and erasures, remove the rest; list what is stored.

        Files that the index does not know are read; ones whose header cannot be read (any more) stay on disk, unlisted,
        and are counted in the log. Raises StorageError.
        """
        await asyncio.to_thread(self._tree.claim)
        await self.erase_requested()
        recovery = Recovery(self._root, self._workers)
        await self._finish_interrupted(recovery)
        for header in await recovery.headers(self._index):
            self._listing.add(header)
        if self._index:
            await recovery.fill_steps(self._index)
        logger.info("%d instances of %d studies are stored", len(self._listing), len(self._listing.studies()))

    async def _finish_interrupted(self, recovery: Recovery) -> None:
        left = await asyncio.to_thread(self._tree.left_aside)
        moves = await recovery.acknowledged(left, self._index) if self._index else []
        await asyncio.to_thread(self._tree.finish, moves)
        await asyncio.to_thread(self._tree.drop_aside, left)

    async def rebuild(self) -> int:
        """Read all files anew and make the index from them; return how many instances it has. Raises StorageError."""
        received = await Recovery(self._root, self._workers).read_all()
        if self._index:
            await self._index.replace(received)
        self._listing.clear()
        for each in received:
            self._listing.add(each.entry.header)
        return len(received)

    async def erase(self, study: StudyRef) -> int:
        """Remove a study for good: files, rows, results, quarantined bytes. A tombstone stays, which knows no UID.

        Returns how many instances there were. An erasure that is cut off is finished by the next `open`. Raises
        StorageError.
        """
        if self._index:
            await self._index.bury(study.study_instance_uid, self._options.now())
        return await self._erase(study.study_instance_uid)

    async def erase_requested(self) -> int:
        """Do the erasures that were asked for in the index (by another process too); return how many."""
        asked = await self._index.to_be_erased() if self._index else ()
        for uid in asked:
            await self._erase(uid)
        return len(asked)

    async def close(self) -> None:
        """Let commits that are under way end, and give the folder free."""
        await self._commits.close()
        await asyncio.to_thread(self._tree.release)

    @contextlib.asynccontextmanager
    async def receive(self, calling_ae: str = "", study: StudyRef | None = None) -> AsyncIterator[Incoming]:
        """Take one instance: write its bytes in order, then commit. Without a commit nothing stays.

        `calling_ae` is from whom it comes, for the routing rules. With `study`, an instance of another one is refused
        (INVALID_ARGUMENT). Raises StorageError STORAGE_FULL.
        """
        incoming = self._commits.incoming(self._limits.max_instance_bytes, calling_ae, study)
        try:
            yield incoming
        finally:
            incoming.discard()

    @property
    def held_bytes(self) -> int:
        """What instances that are on their way hold in memory."""
        return self._commits.held_bytes

    async def list_studies(self) -> Sequence[StudyRef]:
        """All stored studies, in the order of their UIDs."""
        return [StudyRef(uid) for uid in self._listing.studies()]

    async def list_instances(self, study: StudyRef) -> Sequence[tuple[InstanceRef, AcquisitionContext]]:
        """The instances of a study, by series number and instance number. Raises RequestError STUDY_NOT_FOUND."""
        return [(header.instance, header.context) for header in self.headers(study)]

    def headers(self, study: StudyRef, series_instance_uid: str = "") -> Sequence[InstanceHeader]:
        """The headers of a study, or of one of its series, in the order of `list_instances`.

        Raises RequestError STUDY_NOT_FOUND, SERIES_NOT_FOUND.
        """
        return self._listing.headers(study, series_instance_uid)

    def header(self, sop_instance_uid: str) -> InstanceHeader | None:
        """The header of an instance, None where it is not stored."""
        return self._listing.get(sop_instance_uid)

    async def same_patient(self, one: StudyRef, other: StudyRef) -> bool:
        """Whether both studies have the same Patient ID, its issuer and birth date; nobody's ID is empty.

        Raises RequestError STUDY_NOT_FOUND, DicomError, WorkerError.
        """
        first = [place_of(self._root, self.headers(study)[0].instance) for study in (one, other)]
        patient, another = [await self._workers.run(patient_key, path) for path in first]
        return bool(patient[0]) and patient == another

    async def read_image(self, instance: InstanceRef) -> Image:
        """Decode one instance in a worker. Raises RequestError, DicomError, WorkerError."""
        self._listing.check(instance)
        from radserve.dicom_io.decode import DecodeLimits, decode_image

        limits = self._limits.decode or DecodeLimits()
        return await self._workers.run(decode_image, place_of(self._root, instance), limits)

    async def read_volume(self, instances: Sequence[InstanceRef]) -> Volume:
        """Decode instances of one series and stack them. Raises as `read_image`, and GeometryError."""
        for instance in instances:
            self._listing.check(instance)
        from radserve.dicom_io.decode import DecodeLimits
        from radserve.dicom_io.volume_reading import read_volume

        paths = [place_of(self._root, instance) for instance in instances]
        return await read_volume(self._workers, paths, self._limits.decode or DecodeLimits())

    def path(self, instance: InstanceRef) -> Path:
        """Where the file of an instance is, for tasks of the workers."""
        return place_of(self._root, instance)

    async def _erase(self, study_instance_uid: str) -> int:
        self._listing.drop(study_instance_uid)
        count = await asyncio.to_thread(self._tree.remove_folder, self._root / study_instance_uid)
        if self._index:
            if self._options.quarantine:
                await self._options.quarantine.remove_study(study_instance_uid)
            for result_uid in await self._index.result_uids(study_instance_uid):
                await self._options.remove_result(result_uid)
            await self._options.remove_study(study_instance_uid)
            await self._index.erase(study_instance_uid, count, self._options.now())
        return count
