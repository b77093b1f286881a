"""What a store finds on its disk when it opens: only files that the index does not know are read."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import mmap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from radserve.dicom_io.durable import storage_error
from radserve.dicom_io.index import Received, StudyIndex
from radserve.dicom_io.index_entry import IndexEntry, read_entry, read_received
from radserve.dicom_io.parse import InstanceHeader
from radserve.dicom_io.part10 import open_dicom, quiet
from radserve.dicom_io.performed_steps import PerformedStep, steps_of
from radserve.dicom_io.quick_header import quick_header
from radserve.errors import RadserveError, WorkerError
from radserve.references import InstanceRef
from radserve.workers import WorkerPool

logger = logging.getLogger(__name__)

BATCH = 64  # headers read in one task of a worker
STEPS_BATCH = 256
STEPS_TOLD = 40 * STEPS_BATCH  # a start that takes a minute says where it is
Steps = tuple[PerformedStep, ...]


def read_entries(paths: Sequence[Path]) -> list[IndexEntry | RadserveError]:
    """`read_entry` of many files, errors as values. Run it in a worker: files are hostile."""
    return [_entry_of(path) for path in paths]


def _entry_of(path: Path) -> IndexEntry | RadserveError:
    try:
        return read_entry(path)
    except RadserveError as error:
        return error
    except OSError as error:
        return storage_error(error)


def read_steps(paths: Sequence[Path]) -> list[Steps]:
    """The performed steps of files, none for one that cannot be read. Run it in a worker: files are hostile."""
    return [_steps_of(path) for path in paths]


def _steps_of(path: Path) -> Steps:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if quick := quick_header(data):
                return quick.steps
        with quiet():
            return steps_of(open_dicom(path).dataset)
    except (OSError, ValueError, RadserveError):  # ValueError: an empty file cannot be mapped
        return ()


def place_of(root: Path, instance: InstanceRef) -> Path:
    """Where a store keeps an instance."""
    return root / f"{instance.study_instance_uid}/{instance.series_instance_uid}/{instance.sop_instance_uid}.dcm"


@dataclass(frozen=True, slots=True)
class Recovery:
    """Reads the files of a store. Ones that cannot be read (any more) stay on disk, unlisted, counted in the log."""

    root: Path
    workers: WorkerPool

    async def headers(self, index: StudyIndex | None) -> list[InstanceHeader]:
        """The headers of all files, bringing the index in line with them. Raises StorageError."""
        sizes = await asyncio.to_thread(self._sizes)
        known = await index.headers() if index else {}
        listed, unknown = [], dict(sizes)
        for header, size in known.values():
            path = place_of(self.root, header.instance)
            if sizes.get(path) == size:
                listed.append(header)
                del unknown[path]
        received = await self.read(unknown)
        if index:
            gone = set(known) - {header.instance.sop_instance_uid for header in listed}
            if gone:
                logger.warning("%d indexed instances have no file or another one", len(gone))
                await index.remove(gone)
            if received:
                await index.add(received)
        return listed + [each.entry.header for each in received]

    async def fill_steps(self, index: StudyIndex) -> int:
        """Read the files of instances that an older radserve indexed for their performed steps; return how many.

        Once: what was read is noted. A file that cannot be read (any more) has none. Raises StorageError.
        """
        left = await index.without_steps()
        for at in range(0, len(left), STEPS_BATCH):
            batch = left[at : at + STEPS_BATCH]
            found = await self._steps([place_of(self.root, instance) for instance in batch])
            await index.add_steps(list(zip(batch, found, strict=True)))
            if at % STEPS_TOLD == 0:
                logger.info("performed steps: %d of %d stored files were read", at + len(batch), len(left))
        if left:
            logger.info("%d stored files were read for their performed steps", len(left))
        return len(left)

    async def _steps(self, paths: list[Path]) -> Sequence[Steps]:
        try:
            return await self.workers.run(read_steps, paths)
        except WorkerError:
            if len(paths) == 1:
                return [()]
        return [found for path in paths for found in await self._steps([path])]

    async def acknowledged(self, left: Sequence[Path], index: StudyIndex) -> list[tuple[Path, Path]]:
        """Those of the files left aside that may have been acknowledged, with their places.

        These are the ones that the index has a row for, byte for byte. An index without rows was lost, or is new: then
        they are the ones that are whole. Raises StorageError.
        """
        if not left:
            return []
        by_digest = await asyncio.to_thread(_by_digest, left)
        known = await index.instances_of(by_digest)
        moves = [(by_digest[digest], place_of(self.root, instance)) for digest, instance in known.items()]
        if not moves and not await index.headers():
            moves = await self._whole(by_digest.values())
        if moves:
            logger.warning("%d instances lay aside: they are put in their places", len(moves))
        return moves

    async def _whole(self, paths: Iterable[Path]) -> list[tuple[Path, Path]]:
        found = []
        for path in paths:
            try:
                entry = await self.workers.run(read_received, path)
            except RadserveError:
                continue
            found.append((path, place_of(self.root, entry.header.instance)))
        return found

    async def read_all(self) -> list[Received]:
        """Everything on disk that can be read, for rebuilding the index. Raises StorageError."""
        return await self.read(await asyncio.to_thread(self._sizes))

    async def read(self, paths: Iterable[Path]) -> list[Received]:
        """Read files; the time of a file's last change stands for when it came."""
        ordered = sorted(paths)
        batches = [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)]
        refused: Counter[str] = Counter()
        read: list[Received] = []
        for found in await asyncio.gather(*(self.read_batch(batch) for batch in batches)):
            for path, entry in found:
                if isinstance(entry, RadserveError):
                    refused[entry.code] += 1
                elif place_of(self.root, entry.header.instance) != path:
                    refused["misplaced"] += 1
                else:
                    read.append(Received(entry, path.stat().st_mtime))
        if refused:
            logger.warning("stored files left out: %s", dict(refused))
        return read

    async def read_batch(self, paths: list[Path]) -> Sequence[tuple[Path, IndexEntry | RadserveError]]:
        """Each file and what it says of itself, errors as values."""
        try:
            return list(zip(paths, await self.workers.run(read_entries, paths), strict=True))
        except WorkerError as error:
            if len(paths) == 1:
                return [(paths[0], error)]
        # One file of the batch ended the worker: read them one by one.
        return [found for path in paths for found in await self.read_batch([path])]

    def _sizes(self) -> dict[Path, int]:
        try:
            return {path: path.stat().st_size for path in self.root.glob("[0-9]*/[0-9]*/*.dcm")}
        except OSError as error:
            raise storage_error(error) from None


def _by_digest(paths: Sequence[Path]) -> dict[str, Path]:
    found = {}
    try:
        for path in paths:
            with path.open("rb") as data:
                found[hashlib.file_digest(data, "sha256").hexdigest()] = path
    except OSError as error:
        raise storage_error(error) from None
    return found
