"""Bytes that may not be stored under their UID, set aside with their reason until a person decides."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

from radserve.dicom_io.durable import fsync_folder, storage_error
from radserve.dicom_io.work_ledger import SqlWorkLedger
from radserve.errors import RadserveError
from radserve.references import InstanceRef
from radserve.uids import derive_uid
from radserve.work import QuarantineEntry, QuarantineKind

logger = logging.getLogger(__name__)


class QuarantineFolder:
    """ROOT/ID.dcm for each set of bytes; the ledger has the reasons. Nothing in it is listed, decoded or analysed."""

    def __init__(self, root: Path, ledger: SqlWorkLedger, now: Callable[[], float] = time.time) -> None:
        self._root = root
        self._ledger = ledger
        self._now = now

    def path(self, quarantine_id: str) -> Path:
        """Where the bytes of an entry are."""
        return self._root / f"{quarantine_id}.dcm"

    async def keep(self, data: BufferedReader, instance: InstanceRef, calling_ae: str, cause: RadserveError) -> None:
        """Make a copy of `data` durable, then its row; the same bytes once. Leaves a line in the audit log.

        Raises StorageError.
        """
        quarantine_id, digest = await asyncio.to_thread(self._copy, data, instance)
        await self._ledger.put_in_quarantine(
            QuarantineEntry(
                quarantine_id=quarantine_id,
                kind=QuarantineKind.CONFLICT,
                study_instance_uid=instance.study_instance_uid,
                code=cause.code,
                reason=cause.client_message,
                created_at=self._now(),
                sop_instance_uid=instance.sop_instance_uid,
                calling_ae=calling_ae,
                sha256=digest,
            )
        )
        logger.warning("audit: %s: other bytes (sha256 %s) in quarantine as %s", cause.code, digest, quarantine_id)

    def remove(self, quarantine_id: str) -> None:
        """Remove the bytes of an entry, if it has any. Raises StorageError."""
        try:
            self.path(quarantine_id).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error) from None

    async def remove_study(self, study_instance_uid: str) -> None:
        """Remove the bytes of a study. Raises StorageError."""
        for entry in await self._ledger.quarantined():
            if entry.study_instance_uid == study_instance_uid and entry.kind is QuarantineKind.CONFLICT:
                await asyncio.to_thread(self.remove, entry.quarantine_id)

    def _copy(self, data: BufferedReader, instance: InstanceRef) -> tuple[str, str]:
        try:
            digest = hashlib.file_digest(data, "sha256").hexdigest()
            quarantine_id = derive_uid("conflict", instance.study_instance_uid, instance.sop_instance_uid, digest)
            self._root.mkdir(parents=True, exist_ok=True)
            aside = self.path(quarantine_id).with_suffix(".part")
            data.seek(0)
            with aside.open("wb") as copy:
                shutil.copyfileobj(data, copy)
                copy.flush()
                os.fsync(copy.fileno())
            aside.rename(self.path(quarantine_id))
            fsync_folder(self._root)
        except OSError as error:
            raise storage_error(error) from None
        return quarantine_id, digest
