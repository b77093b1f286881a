"""Results on disk (ports.ResultStore): ROOT/RESULT_UID/ with the files and manifest.json, whole or not there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from radserve._checks import check_uid, invalid
from radserve.dicom_io.durable import ASIDE, fsync_folder, storage_error
from radserve.errors import ErrorCode, StorageError
from radserve.results import Artifact
from radserve.work import ResultObject, ResultRecord

MANIFEST = "manifest.json"


class ResultFolders:
    """Writes a result aside, syncs it, and renames the folder: the same result again changes nothing.

    All raise StorageError.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._aside = root / ASIDE

    async def open(self) -> None:
        """Make the folder and remove what a process that ended left half-written."""
        await asyncio.to_thread(self._open)

    async def holds(self, result_uid: str) -> bool:
        return await asyncio.to_thread((self._folder(result_uid) / MANIFEST).exists)

    async def keep(self, record: ResultRecord, objects: Sequence[ResultObject]) -> None:
        await asyncio.to_thread(self._keep, record, objects)

    async def objects(self, result_uid: str) -> Sequence[tuple[str, str, str]]:
        manifest = await asyncio.to_thread(self._manifest, result_uid)
        return [(each["name"], each["output"], each["sop_instance_uid"]) for each in manifest["files"]]

    async def read(self, result_uid: str, name: str) -> Artifact:
        return await asyncio.to_thread(self._read, result_uid, name)

    def path(self, result_uid: str, name: str) -> Path:
        """Where a file of a result is; it never changes."""
        if name != Path(name).name or not name:
            raise invalid("result file", name, "a plain name")
        return self._folder(result_uid) / name

    async def remove(self, result_uid: str) -> None:
        """Remove a result for good, if it is there."""
        await asyncio.to_thread(self._remove, result_uid)

    def _folder(self, result_uid: str) -> Path:
        check_uid("result_uid", result_uid)
        return self._root / result_uid

    def _open(self) -> None:
        try:
            self._aside.mkdir(parents=True, exist_ok=True)
            for leftover in self._aside.iterdir():
                shutil.rmtree(leftover)
        except OSError as error:
            raise storage_error(error) from None

    def _keep(self, record: ResultRecord, objects: Sequence[ResultObject]) -> None:
        target, aside = self._folder(record.result_uid), self._aside / secrets.token_hex(16)
        names = [each.artifact.name for each in objects]
        if len({MANIFEST, *names}) != len(names) + 1 or any(name != Path(name).name or not name for name in names):
            raise invalid("result files", names, f"plain names that differ, none of them {MANIFEST}")
        try:
            aside.mkdir()
            for each in objects:
                _write(aside / each.artifact.name, each.artifact.data)
            _write(aside / MANIFEST, json.dumps(_manifest(record, objects), indent=1).encode())
            fsync_folder(aside)
            if not target.exists():
                aside.rename(target)
            fsync_folder(self._root)
        except OSError as error:
            raise storage_error(error) from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _manifest(self, result_uid: str) -> Any:
        try:
            return json.loads((self._folder(result_uid) / MANIFEST).read_bytes())
        except OSError as error:
            raise storage_error(error) from None

    def _read(self, result_uid: str, name: str) -> Artifact:
        listed = {each["name"]: each for each in self._manifest(result_uid)["files"]}
        if name not in listed:
            raise invalid("result file", name, f"one of {sorted(listed)}")
        try:
            data = (self._folder(result_uid) / name).read_bytes()
        except OSError as error:
            raise storage_error(error) from None
        if hashlib.sha256(data).hexdigest() != listed[name]["sha256"]:
            raise StorageError(ErrorCode.INTERNAL, f"the file {name} of a result was altered")
        return Artifact(name, listed[name]["media_type"], data)

    def _remove(self, result_uid: str) -> None:
        try:
            shutil.rmtree(self._folder(result_uid))
            fsync_folder(self._root)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error) from None


def _manifest(record: ResultRecord, objects: Sequence[ResultObject]) -> dict[str, Any]:
    files = [
        {
            "name": each.artifact.name,
            "media_type": each.artifact.media_type,
            "output": each.output,
            "sop_instance_uid": each.sop_instance_uid,
            "sha256": hashlib.sha256(each.artifact.data).hexdigest(),
        }
        for each in objects
    ]
    return {**asdict(record), "files": files}


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
