"""Headers are read once, never another file's, and leave with their study."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from radserve.dicom_io.dicomweb.dicom_json import read_metadata
from radserve.dicom_io.dicomweb.header_cache import HeaderCache, with_address
from radserve.dicom_io.dicomweb.held import Held
from radserve.dicom_io.parse import parse_header
from radserve.errors import DicomError
from tests.support.dicoms import cr, save

URL = 'http://pacs.example/"dicom-web"'


class Workers:
    """Runs tasks in this process, and counts the files."""

    def __init__(self) -> None:
        self.files = 0

    async def run(self, function: Callable[..., Any], paths: list[Path], urls: list[str]) -> Any:
        self.files += len(paths)
        return function(paths, urls)


def held(folder: Path, study: str = "a", instance: str = "1", **attributes: Any) -> Held:
    image = np.zeros((8, 8), np.uint8)
    path = save(cr(image, study=study, instance=instance, **attributes), folder / f"{study}-{instance}.dcm")
    header = parse_header(path)
    return Held(header.instance, header.transfer_syntax_uid, path)


async def test_a_header_is_read_once_and_has_the_links_of_who_asks(tmp_path: Path) -> None:
    workers: Any = Workers()
    long = held(tmp_path, RedPaletteColorLookupTableData=bytes(2048))
    several = [long, *(held(tmp_path, instance=str(number)) for number in range(2, 60))]
    for cache in (HeaderCache(tmp_path / "headers.db"), HeaderCache(tmp_path / "headers.db")):
        found = await cache.read(several, workers)
        assert workers.files == len(several)
        for each, header in zip(several, found, strict=True):
            (expected,) = read_metadata([each.path], [URL + each.url])
            assert isinstance(header, bytes) and with_address(header, URL) == expected
        links = [
            each["BulkDataURI"] for each in json.loads(with_address(found[0], URL)).values() if "BulkDataURI" in each
        ]
        assert len(links) == 2 and all(link.startswith(f"{URL}/studies/") for link in links)
        await cache.close()


async def test_another_file_in_its_place_is_read_anew_and_a_broken_one_is_not_kept(tmp_path: Path) -> None:
    workers: Any = Workers()
    cache = HeaderCache(tmp_path / "headers.db")
    first = await cache.read([held(tmp_path, PatientID="one")], workers)
    second = await cache.read([held(tmp_path, PatientID="other")], workers)
    assert workers.files == 2 and first != second and b"other" in second[0]  # type: ignore[operator]
    broken = held(tmp_path, instance="2")
    broken.path.write_bytes(broken.path.read_bytes()[:200])
    for _ in range(2):
        (error,) = await cache.read([broken], workers)
        assert isinstance(error, DicomError)
    assert workers.files == 4
    await cache.close()


async def test_an_erased_study_leaves_the_file(tmp_path: Path) -> None:
    workers: Any = Workers()
    cache = HeaderCache(tmp_path / "headers.db")
    gone, kept = held(tmp_path, "a", PatientID="CANARY"), held(tmp_path, "b")
    await cache.read([gone, kept], workers)
    await cache.settled()
    gone.path.unlink()
    await cache.remove_study(gone.instance.study_instance_uid)
    await cache.read([kept], workers)
    assert workers.files == 2
    await cache.close()
    needle = gone.instance.study_instance_uid.encode()
    assert not any(needle in path.read_bytes() for path in tmp_path.glob("headers.db*"))


async def test_a_study_that_is_erased_while_its_header_is_being_kept_leaves_nothing(tmp_path: Path) -> None:
    workers: Any = Workers()
    cache = HeaderCache(tmp_path / "headers.db")
    gone = held(tmp_path)
    await cache.read([held(tmp_path, "b")], workers)
    await cache.settled()
    await cache.read([gone], workers)  # it is kept when the loop goes on
    gone.path.unlink()
    await cache.remove_study(gone.instance.study_instance_uid)
    await cache.close()
    needle = gone.instance.study_instance_uid.encode()
    assert not any(needle in path.read_bytes() for path in tmp_path.glob("headers.db*"))


async def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "headers.db").write_bytes(b"no database" * 1000)
    workers: Any = Workers()
    cache = HeaderCache(tmp_path / "headers.db")
    one = [held(tmp_path)]
    first = await cache.read(one, workers)
    await cache.settled()
    assert await cache.read(one, workers) == first
    assert workers.files == 1
    await cache.close()


async def test_after_its_end_headers_are_read_but_nothing_is_kept(tmp_path: Path) -> None:
    workers: Any = Workers()
    cache = HeaderCache(tmp_path / "headers.db")
    await cache.close()
    (header,) = await cache.read([held(tmp_path)], workers)
    await cache.settled()
    assert isinstance(header, bytes) and not (tmp_path / "headers.db").exists()
