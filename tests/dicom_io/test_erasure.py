"""An erased study leaves a tombstone, no byte, and is not taken again unless the site says so."""

from __future__ import annotations

from pathlib import Path

from radserve.dicom_io.database import sqlite_url
from radserve.dicom_io.store import StoredInstance
from radserve.errors import ErrorCode, RequestError
from radserve.references import StudyRef
from tests.support.indexed import Site
from tests.support.stored import instance, put, refused


async def erased(site: Site) -> StoredInstance:
    await put(site.store, instance(9, study="other"))
    answer = await put(site.store, instance(1, PatientName="Canary^Erased", PatientID="CANARY-77"))
    await refused(site.store, instance(1, PatientName="Canary^Erased", PatientID="CANARY-77", AccessionNumber="B"))
    study = StudyRef(answer.header.instance.study_instance_uid)
    await site.ledger.close(study, incomplete=False, now=1.0)
    assert await site.store.erase(study) == 1
    return answer


async def test_an_erased_study_leaves_a_tombstone_and_no_byte(site: Site, url: str) -> None:
    answer = await erased(site)
    uids = answer.header.instance
    needles = [b"CANARY-77", b"Canary^Erased", uids.study_instance_uid.encode(), uids.sop_instance_uid.encode()]
    for path in site.root.rglob("*"):
        assert not any(needle in bytes(path) for needle in needles)
        assert not path.is_file() or not any(needle in path.read_bytes() for needle in needles), path.name
    text = str(await site.dump()).encode()
    assert not any(needle in text for needle in needles)
    stone = await site.index.tombstone(uids.study_instance_uid)
    assert stone is not None and stone.instances == 1 and stone.erased_at is not None
    assert len(await site.store.list_studies()) == 1 and len(await site.index.headers()) == 1


async def test_the_byte_search_would_find_what_is_not_erased(tmp_path: Path) -> None:
    site = await Site(tmp_path, sqlite_url(tmp_path / "index.db")).open()
    await put(site.store, instance(1, PatientID="CANARY-77"))
    found = [path for path in tmp_path.rglob("*") if path.is_file() and b"CANARY-77" in path.read_bytes()]
    await site.close()
    assert {path.suffix for path in found} >= {".dcm", ".db-wal"}


async def test_an_erased_study_is_refused_when_it_comes_again(site: Site) -> None:
    answer = await erased(site)
    error = await refused(site.store, instance(1, PatientID="CANARY-77"))
    assert isinstance(error, RequestError) and error.code is ErrorCode.STUDY_ERASED
    assert not (site.root / "studies" / answer.header.instance.study_instance_uid).exists()


async def test_an_erased_study_is_taken_again_where_the_site_says_so(tmp_path: Path, url: str) -> None:
    site = await Site(tmp_path, url, refuse_erased=False).open()
    await erased(site)
    assert not (await put(site.store, instance(1))).duplicate
    assert len(await site.ledger.open_studies()) == 2 == len(await site.store.list_studies())
    await site.close()


async def test_an_erasure_that_was_cut_off_is_finished_when_the_store_opens(tmp_path: Path, url: str) -> None:
    site = await Site(tmp_path, url).open()
    uid = (await put(site.store, instance(1))).header.instance.study_instance_uid
    await site.index.bury(uid, 3.0)  # as another process, or one that was killed after its first step
    await site.close()
    again = await Site(tmp_path, url).open()
    assert not await again.store.list_studies() and not await again.index.headers()
    assert not (tmp_path / "studies" / uid).exists()
    stone = await again.index.tombstone(uid)
    assert stone is not None and stone.erased_at is not None
    await again.close()
