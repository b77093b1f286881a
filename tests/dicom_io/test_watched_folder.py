"""The watched folder: whole files go into the store, others wait or are refused, and nothing is lost in between."""

from __future__ import annotations

import asyncio
import shutil
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import JPEGLSLossless

from radserve.dicom_io import unpack
from radserve.dicom_io.found import DiscoveryLimits
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StoreLimits, StudyStore
from radserve.dicom_io.watched_folder import PATIENCE, REFUSED, WatchedFolder
from radserve.errors import ErrorCode, StorageError
from tests.support.dicoms import cr, part10
from tests.support.stored import IMAGE, InlineWorkers, instance, put

SETTLE = 2.0


class Site:
    """A store, a watched folder beside it, and a time that passes when told to."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.inbox = root / "inbox"
        self.stored = root / "studies"
        workers: Any = InlineWorkers()
        self.store = StudyStore(self.stored, workers, options.pop("limits", None))
        archives = options.pop("archives", None)
        self.folder = WatchedFolder(self.inbox, self.store, workers, settle_s=SETTLE, limits=archives, **options)
        self.now = 0.0

    async def open(self) -> Site:
        await self.store.open()
        await self.folder.open()
        return self

    def put(self, name: str, data: bytes) -> Path:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    async def pass_(self, seconds: float = SETTLE) -> int:
        """Look, let time pass, look again; how many files went."""
        went = await self.folder.tick(self.now)
        self.now += seconds
        return went + await self.folder.tick(self.now)

    def waiting(self) -> list[str]:
        found = (path.relative_to(self.inbox) for path in self.inbox.rglob("*") if path.is_file())
        return sorted(str(path) for path in found)

    def instances(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in self.stored.glob("*/*/*.dcm"))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = await Site(tmp_path).open()
    yield made
    await made.store.close()


async def test_files_in_the_folder_and_below_are_stored_and_removed(site: Site) -> None:
    data = [instance(number) for number in range(4)]
    for number, each in enumerate(data):
        site.put(f"{'sub/deeper/' if number % 2 else ''}{number}", each)
    assert await site.pass_() == 4
    assert site.waiting() == []
    assert site.instances() == sorted(data)


async def test_a_file_that_still_grows_is_waited_for(site: Site) -> None:
    data = instance()
    path = site.put("slow.dcm", data[:400])
    for end in (600, 800, len(data)):
        assert await site.folder.tick(site.now) == 0
        site.now += SETTLE / 2
        path.write_bytes(data[:end])
        assert await site.folder.tick(site.now) == 0
        site.now += SETTLE / 2
    assert await site.folder.tick(site.now) == 0  # it is whole, for half of the time
    site.now += SETTLE / 2
    assert await site.folder.tick(site.now) == 1
    assert site.instances() == [data]


async def test_a_file_that_is_renamed_into_the_folder_is_taken_and_its_first_name_left_alone(site: Site) -> None:
    data = instance()
    for name in (".1.dcm", "1.dcm.part", "1.tmp", ".hidden/1.dcm"):
        path = site.put(name, data)
        assert await site.pass_(100.0) == 0
        assert site.waiting() == [name]
        path.rename(site.inbox / "1.dcm")
        assert await site.pass_() == 1
    assert site.instances() == [data]


@pytest.mark.parametrize("syntax", [None, JPEGLSLossless])
async def test_a_file_whose_end_is_missing_is_waited_for_and_then_refused(site: Site, syntax: str | None) -> None:
    data = part10(cr(IMAGE), syntax) if syntax else instance()
    site.put("cut.dcm", data[:-20])
    assert await site.pass_() == 0
    assert site.waiting() == ["cut.dcm"]
    site.now += PATIENCE * SETTLE
    assert await site.folder.tick(site.now) == 1
    assert site.waiting() == [f"{REFUSED}/cut.dcm", f"{REFUSED}/cut.dcm.reason.txt"]
    assert site.instances() == []


async def test_what_cannot_be_stored_is_moved_aside_with_its_reason_and_stays_there(site: Site) -> None:
    await put(site.store, instance())
    refused = {
        "sub/notes.txt": (b"Doe^Jane is no DICOM file" * 20, ErrorCode.NOT_DICOM),
        "conflict.dcm": (instance(PatientID="OTHER"), ErrorCode.UID_CONFLICT),
        "empty": (b"", ErrorCode.NOT_DICOM),
    }
    for name, (data, _) in refused.items():
        site.put(name, data)
    assert await site.pass_() == 3
    for name, (data, code) in refused.items():
        moved = site.inbox / REFUSED / name
        assert moved.read_bytes() == data
        reason = moved.with_name(f"{moved.name}.reason.txt").read_text()
        assert reason.startswith(f"{code}: ")
        assert "Doe" not in reason
    assert await site.pass_() == 0
    site.put("empty", b"")  # the same name again
    assert await site.pass_() == 1
    assert (site.inbox / REFUSED / "empty (2)").exists()


async def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    site = await Site(tmp_path, limits=StoreLimits(max_instance_bytes=500)).open()
    site.put("large.dcm", instance())
    assert await site.pass_() == 1
    assert "REQUEST_TOO_LARGE" in (site.inbox / REFUSED / "large.dcm.reason.txt").read_text()
    await site.store.close()


async def test_while_the_disk_is_full_files_stay_and_are_taken_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reserve = DiskReserve(tmp_path, 1)
    site = await Site(tmp_path, reserve=reserve).open()
    site.put("1.dcm", instance())
    full = True

    def check(self: DiskReserve, wanted_bytes: int = 0) -> None:
        if full:
            raise StorageError(ErrorCode.STORAGE_FULL, "the store is full")

    monkeypatch.setattr(DiskReserve, "check", check)
    assert await site.pass_() == 0
    assert await site.pass_() == 0
    assert site.waiting() == ["1.dcm"]
    assert caplog.messages == ["files of the watched folder wait for space: the store is full"]  # said once
    full = False
    assert await site.pass_() == 1
    assert len(site.instances()) == 1
    await site.store.close()


async def test_a_file_that_was_stored_but_not_removed_is_removed_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await Site(tmp_path).open()
    site.put("1.dcm", instance())

    def fail(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        assert await site.pass_() == 0
        assert await site.pass_() == 0  # nor is it stored again and again
    await site.store.close()
    again = await Site(tmp_path).open()
    assert again.waiting() == ["1.dcm"]
    assert await again.pass_() == 1
    assert again.waiting() == []
    assert len(again.instances()) == 1
    await again.store.close()


async def test_links_lead_nowhere(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1.dcm").write_bytes(instance())
    (site.inbox / "link.dcm").symlink_to(outside / "1.dcm")
    (site.inbox / "folder").symlink_to(outside)
    assert await site.pass_() == 0
    assert (outside / "1.dcm").exists()
    assert site.instances() == []


async def test_it_runs_by_itself(tmp_path: Path) -> None:
    workers: Any = InlineWorkers()
    store = StudyStore(tmp_path / "studies", workers)
    await store.open()
    folder = WatchedFolder(tmp_path / "inbox", store, workers, settle_s=0.1)
    await folder.open()
    (tmp_path / "inbox" / "before.dcm").write_bytes(instance(1))
    task = asyncio.create_task(folder.run())

    async def taken(count: int) -> None:
        async with asyncio.timeout(60):
            while len(list((tmp_path / "studies").glob("*/*/*.dcm"))) < count or list(
                (tmp_path / "inbox").glob("*.dcm")
            ):
                await asyncio.sleep(0.02)

    await taken(1)
    (tmp_path / "inbox" / "after.dcm").write_bytes(instance(2))
    await taken(2)
    shutil.rmtree(tmp_path / "inbox")  # a network folder that goes away and comes back
    await asyncio.sleep(0.3)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "back.dcm").write_bytes(instance(3))
    await taken(3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()


# Archives


def zipped(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


async def test_the_members_of_an_archive_are_stored_and_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "TURN_FILES", 3)
    site = await Site(tmp_path).open()
    given = {f"CD/IM{number}": instance(instance=str(number)) for number in range(8)}
    zipped(site.inbox / "ward" / "study.zip", given)
    assert await site.pass_() == 1
    assert site.instances() == sorted(given.values()) and site.waiting() == []


async def test_what_is_wrong_with_an_archive_does_not_cost_its_good_members(tmp_path: Path) -> None:
    site = await Site(tmp_path).open()
    good = instance(instance="1")
    members = {"good.dcm": good, "../../slip.dcm": instance(instance="2"), "note.txt": b"text", "in.zip": b"PK"}
    archive = zipped(site.inbox / "mixed.zip", members).read_bytes()
    assert await site.pass_() == 1
    assert site.instances() == [good] and not list(tmp_path.glob("slip*"))
    assert site.waiting() == ["refused/mixed.zip", "refused/mixed.zip.reason.txt"]
    assert (site.inbox / "refused" / "mixed.zip").read_bytes() == archive
    reason = (site.inbox / "refused" / "mixed.zip.reason.txt").read_text()
    assert "3 not taken" in reason and "../../slip.dcm: ARCHIVE_UNSAFE" in reason and "note.txt: NOT_DICOM" in reason


async def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    site = await Site(tmp_path, archives=DiscoveryLimits(free_inflation_bytes=1 << 20)).open()
    zipped(site.inbox / "bomb.zip", {"a": bytes(4 << 20), "b.dcm": instance()})
    assert await site.pass_() == 1
    assert site.instances() == [] and "ARCHIVE_UNSAFE" in (site.inbox / "refused" / "bomb.zip.reason.txt").read_text()


async def test_an_archive_that_is_still_copied_or_meets_a_full_disk_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True

    def check(self: DiskReserve, wanted_bytes: int = 0) -> None:
        if full:
            raise StorageError(ErrorCode.STORAGE_FULL, "full")

    monkeypatch.setattr(DiskReserve, "check", check)
    site = await Site(tmp_path, reserve=DiskReserve(tmp_path, 1)).open()
    whole = zipped(tmp_path / "whole.zip", {f"{number}": instance(instance=str(number)) for number in range(3)})
    site.put("copy.zip", whole.read_bytes())
    assert await site.pass_() == 0 and site.waiting() == ["copy.zip"]
    full = False
    site.put("copy.zip", whole.read_bytes()[:-40])
    assert await site.pass_() == 0 and site.waiting() == ["copy.zip"]
    site.put("copy.zip", whole.read_bytes())
    assert await site.pass_() == 1 and len(site.instances()) == 3
