"""Pull a study from an archive of others into a store: what came, what did not, and why, by instance."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Protocol

from radserve.dicom_io.incoming import StoredInstance
from radserve.dicom_io.parse import IMAGE_STORAGE
from radserve.dicom_io.study_query import FoundStudy, StudyQuery
from radserve.errors import ErrorCode, PeerError, RadserveError
from radserve.references import InstanceRef, StudyRef

logger = logging.getLogger(__name__)


class IncomingInstance(Protocol):
    """One instance that is being written."""

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes of the Part 10 file. Raises RadserveError."""
        ...

    async def commit(self) -> StoredInstance:
        """Return when it is there for good. Raises RadserveError."""
        ...


class InstanceSink(Protocol):
    """Where instances go: a StudyStore, or a server."""

    def receive(self, calling_ae: str = "") -> AbstractAsyncContextManager[IncomingInstance]:
        """Take one instance; without a commit nothing stays. Raises RadserveError."""
        ...


@dataclass(frozen=True, slots=True)
class Taken:
    """An instance that came: stored, or refused with an error. `sop_instance_uid` is "" where it could not be read."""

    sop_instance_uid: str
    error: RadserveError | None = None


class Archive(Protocol):
    """An archive that can be asked for studies. All raise PeerError."""

    async def find_studies(self, query: StudyQuery) -> Sequence[FoundStudy]:
        """The studies that match."""
        ...

    async def list_instances(self, study: StudyRef) -> Sequence[InstanceRef]:
        """What the archive says that a study has."""
        ...

    def retrieve(self, wanted: Sequence[InstanceRef], sink: InstanceSink) -> AsyncGenerator[Taken, None]:
        """Get the instances, all of one study, into the sink. Others of their series may come, too.

        What fails for one series is raised after the others had their turn.
        """
        ...


@dataclass(frozen=True, slots=True)
class PulledStudy:
    """What came of one study. `failures` by SOP Instance UID; `skipped`: instances that are no images."""

    study_instance_uid: str
    stored: int
    skipped: int
    failures: dict[str, RadserveError]


async def pull_study(
    archive: Archive,
    study: StudyRef,
    sink: InstanceSink,
    told: Callable[[int, int], None] = lambda done, of: None,
    wanted: Callable[[InstanceRef], bool] = lambda instance: True,
) -> PulledStudy:
    """Get the wanted images of a study. What did not come is asked for once more, by instance.

    `told(done, of)` is called for each that came. Raises PeerError where the archive cannot be asked at all,
    StorageError STORAGE_FULL: then more would not fit either.
    """
    listed = [each for each in await archive.list_instances(study) if wanted(each)]
    images = {each.sop_instance_uid: each for each in listed if each.sop_class_uid in IMAGE_STORAGE}
    if not images:
        text = f"the archive has no images of the study {study.study_instance_uid}"
        raise PeerError(ErrorCode.STUDY_NOT_FOUND, text, is_transient=False)
    stored: set[str] = set()
    errors: dict[str, RadserveError] = {}
    for _ in range(2):
        missing = [each for uid, each in images.items() if uid not in stored and uid not in errors]
        try:
            async with aclosing(archive.retrieve(missing, sink)) as taking:
                async for taken in taking:
                    _note(taken, stored, errors)
                    told(len(stored), len(images))
        except PeerError as error:
            logger.warning("a retrieval ended early: %s", error.code)
            cause = error
        else:
            cause = PeerError(ErrorCode.SERVER_UNREACHABLE, "the archive did not send it")
        if stored >= images.keys():
            break
    failures = {uid: errors.get(uid, cause) for uid in images if uid not in stored}
    return PulledStudy(study.study_instance_uid, len(stored & images.keys()), len(listed) - len(images), failures)


def _note(taken: Taken, stored: set[str], errors: dict[str, RadserveError]) -> None:
    if taken.error is None:
        stored.add(taken.sop_instance_uid)
    elif taken.error.code is ErrorCode.STORAGE_FULL:
        raise taken.error
    elif taken.sop_instance_uid not in stored:
        errors[taken.sop_instance_uid] = taken.error
