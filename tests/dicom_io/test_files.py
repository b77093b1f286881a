"""discover: every file once, under the caller's own name, and a code for each input that cannot be taken."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from radserve.dicom_io.files import DiscoveryLimits, FoundFile, discover
from radserve.errors import DicomError, ErrorCode
from radserve.results import StudyFailure


def search(*paths: Path, **limits: float) -> tuple[list[FoundFile], list[StudyFailure]]:
    found = list(discover(paths, DiscoveryLimits(**limits)))
    return [item for item in found if isinstance(item, FoundFile)], [i for i in found if isinstance(i, StudyFailure)]


def content(found: FoundFile) -> bytes:
    with found.open() as stream:
        return stream.read()


def references(found: Sequence[FoundFile], base: Path) -> list[str]:
    return [item.reference.removeprefix(f"{base}/") for item in found]


def make_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def make_dicomdir(path: Path, file_ids: Sequence[str | list[str]], syntax: str = ExplicitVRLittleEndian) -> Path:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    ds.file_meta.TransferSyntaxUID = syntax
    ds.DirectoryRecordSequence = []
    for file_id in file_ids:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedFileID = file_id
        ds.DirectoryRecordSequence.append(record)
    ds.save_as(path, enforce_file_format=True)
    return path


# Folders and files


def test_a_folder_gives_its_files_sorted_with_the_callers_names(tmp_path: Path) -> None:
    for name in ("b.dcm", "a.dcm", "inner/c", "inner/notes.txt", ".hidden", ".cache/x", "__MACOSX/y"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    found, failures = search(tmp_path)
    assert references(found, tmp_path) == ["a.dcm", "b.dcm", "inner/c", "inner/notes.txt"]
    assert [content(item) for item in found] == [b"a.dcm", b"b.dcm", b"inner/c", b"inner/notes.txt"]
    assert not failures


def test_relative_paths_stay_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.dcm").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    found, _ = search(Path("folder"))
    assert [item.reference for item in found] == ["folder/a.dcm"]


def test_a_link_that_leads_back_up_ends_the_search_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"1")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "same").symlink_to(tmp_path / "a" / "one")
    found, failures = search(tmp_path)
    assert len(found) == 1 and content(found[0]) == b"1"
    assert not failures


def test_overlapping_paths_give_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    found, _ = search(tmp_path, tmp_path / "one", tmp_path)
    assert len(found) == 1


def test_an_empty_folder_and_no_path_at_all_are_empty_input(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_bytes(b"x")
    _, failures = search(tmp_path)
    assert [(failure.code, failure.reference) for failure in failures] == [(ErrorCode.EMPTY_INPUT, str(tmp_path))]
    assert [failure.code for failure in search()[1]] == [ErrorCode.EMPTY_INPUT]


def test_a_path_that_is_not_there_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    found, failures = search(tmp_path / "missing", tmp_path / "one")
    assert len(found) == 1
    assert [(failure.code, failure.reference) for failure in failures] == [
        (ErrorCode.INVALID_ARGUMENT, str(tmp_path / "missing"))
    ]


def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    _, failures = search(tmp_path)
    assert [failure.message for failure in failures] == ["not a regular file"]


def test_a_file_that_vanishes_before_it_is_opened_raises_our_error(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    found, _ = search(tmp_path)
    (tmp_path / "one").unlink()
    with pytest.raises(DicomError, match="No such file") as caught:
        found[0].open()
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert str(tmp_path) not in caught.value.client_message


def test_more_files_than_allowed_end_the_search(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"1")
    found, failures = search(tmp_path, max_files=3)
    assert len(found) == 3
    assert [failure.code for failure in failures] == [ErrorCode.REQUEST_TOO_LARGE]


# Archives


def test_an_archives_members_are_read_without_unpacking(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"b": b"2" * 100_000, "inner/a.dcm": b"1", ".DS_Store": b"", "__MACOSX/b": b""})
    found, failures = search(path)
    assert references(found, tmp_path) == ["x.zip!b", "x.zip!inner/a.dcm"]
    assert [content(item) for item in found] == [b"2" * 100_000, b"1"]
    assert content(found[0]) == b"2" * 100_000  # may be opened again
    assert not failures and list(tmp_path.iterdir()) == [path]


def test_an_archive_in_a_folder_is_opened_and_known_by_its_magic(tmp_path: Path) -> None:
    make_zip(tmp_path / "export.bin", {"a": b"1"})
    found, _ = search(tmp_path)
    assert references(found, tmp_path) == ["export.bin!a"]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "\\evil", "C:\\evil", "a\\..\\evil"])
def test_names_that_lead_out_are_refused_and_the_rest_goes_on(tmp_path: Path, name: str) -> None:
    found, failures = search(make_zip(tmp_path / "x.zip", {name: b"1", "good": b"2"}))
    assert [content(item) for item in found] == [b"2"]
    assert [failure.code for failure in failures] == [ErrorCode.ARCHIVE_UNSAFE]
    assert failures[0].reference == f"{tmp_path / 'x.zip'}!{name}"


def test_an_archive_with_too_many_members_is_refused_whole(tmp_path: Path) -> None:
    found, failures = search(make_zip(tmp_path / "x.zip", {str(n): b"" for n in range(11)}), max_files=10)
    assert not found and [failure.code for failure in failures] == [ErrorCode.ARCHIVE_UNSAFE]
    assert "11 files" in failures[0].message


def test_an_archive_that_inflates_too_far_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "bomb.zip", {"a": bytes(3_000_000), "b": bytes(3_000_000)})
    for limits in ({"max_archive_bytes": 5_000_000}, {"free_inflation_bytes": 1_000_000}):
        found, failures = search(path, **limits)
        assert not found and [failure.code for failure in failures] == [ErrorCode.ARCHIVE_UNSAFE]
    assert len(search(path)[0]) == 2


def test_a_member_larger_than_the_directory_says_is_cut_and_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "lie.zip", {"a": bytes(1_000_000)})
    data = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        struct.pack_into("<I", data, data.index(magic) + offset, 10)
    path.write_bytes(data)
    found, _ = search(path)
    with pytest.raises(DicomError) as caught:
        content(found[0])
    assert caught.value.code is ErrorCode.TRUNCATED


def test_an_archive_in_an_archive_is_refused(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner.zip", {"a": b"1"}).read_bytes()
    found, failures = search(make_zip(tmp_path / "outer.zip", {"inner.ZIP": inner}))
    assert not found and [failure.code for failure in failures] == [ErrorCode.ARCHIVE_UNSAFE]


def test_encrypted_members_and_other_methods_are_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a": b"1"})
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, data.index(b"PK\x01\x02") + 8, 0x1)
    path.write_bytes(data)
    lzma = make_zip(tmp_path / "l.zip", {"a": b"1"}, zipfile.ZIP_LZMA)
    found, failures = search(path, lzma)
    assert not found and [failure.code for failure in failures] == [ErrorCode.ARCHIVE_UNSAFE] * 2
    assert "encrypted" in failures[0].message and "method 14" in failures[1].message


def test_a_cut_archive_is_truncated_and_an_empty_one_is_empty(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "x.zip", {"a": b"1" * 1000}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    _, failures = search(tmp_path / "cut.zip", make_zip(tmp_path / "none.zip", {}))
    assert [failure.code for failure in failures] == [ErrorCode.TRUNCATED, ErrorCode.EMPTY_INPUT]


def test_damaged_member_data_raises_our_error_while_it_is_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a": os.urandom(5000)})
    data = bytearray(path.read_bytes())
    data[2000:2100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(DicomError) as caught:
        content(search(path)[0][0])
    assert caught.value.code is ErrorCode.TRUNCATED


def test_a_dicom_file_that_is_named_zip_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(bytes(128) + b"DICM")
    assert references(search(tmp_path)[0], tmp_path) == ["a.zip"]


# DICOMDIR


@pytest.fixture
def media(tmp_path: Path) -> Path:
    for name in ("IMG/A", "IMG/B", "EXTRA"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    make_dicomdir(tmp_path / "DICOMDIR", [["IMG", "A"], ["IMG", "B"], ["IMG", "A"]])
    return tmp_path


def test_a_dicomdir_gives_the_files_that_it_names(media: Path) -> None:
    found, failures = search(media / "DICOMDIR")
    assert references(found, media) == ["IMG/A", "IMG/B"] and not failures


def test_a_folder_with_a_dicomdir_gives_its_files_once(media: Path) -> None:
    found, failures = search(media)
    assert references(found, media) == ["EXTRA", "IMG/A", "IMG/B"] and not failures


def test_a_dicomdir_is_known_by_its_sop_class_too(media: Path) -> None:
    (media / "DICOMDIR").rename(media / "index.dcm")
    assert references(search(media / "index.dcm")[0], media) == ["IMG/A", "IMG/B"]


def test_file_ids_match_lower_case_copies(media: Path) -> None:
    (media / "IMG").rename(media / "img")
    assert references(search(media / "DICOMDIR")[0], media) == ["img/A", "img/B"]


@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_missing_file_is_a_failure_that_names_it(media: Path, whole_folder: bool) -> None:
    (media / "IMG" / "B").unlink()
    found, failures = search(media if whole_folder else media / "DICOMDIR")
    assert "IMG/A" in references(found, media)
    assert [failure.reference for failure in failures] == [f"{media}/DICOMDIR!IMG/B"]
    assert failures[0].code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("file_id", [["..", "secret"], "../secret", ["IMG", "..", "..", "secret"], "/etc/passwd"])
def test_file_ids_that_lead_out_of_the_folder_are_refused(tmp_path: Path, file_id: str | list[str]) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "media").mkdir()
    found, failures = search(make_dicomdir(tmp_path / "media" / "DICOMDIR", [file_id]))
    assert not found and [failure.code for failure in failures] == [ErrorCode.ARCHIVE_UNSAFE]


def test_a_dicomdir_that_is_no_dicomdir_is_refused_with_its_code(tmp_path: Path) -> None:
    cases = {
        "text": (b"not DICOM at all", ErrorCode.NOT_DICOM),
        "empty": (b"", ErrorCode.NOT_DICOM),
        "garbage": (bytes(128) + b"DICM" + b"\xff" * 64, ErrorCode.INVALID_HEADER),
    }
    for name, (data, code) in cases.items():
        (tmp_path / name).mkdir()
        path = tmp_path / name / "DICOMDIR"
        path.write_bytes(data)
        assert [failure.code for failure in search(path)[1]] == [code], name


def test_deep_nesting_in_a_dicomdir_is_an_error_of_ours(tmp_path: Path) -> None:
    path = make_dicomdir(tmp_path / "DICOMDIR", [])
    level = struct.pack("<HH2sHI", 0x0004, 0x1220, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(struct.pack("<HH2s", 0x0004, 0x1220, b"SQ"))] + level * 20_000)
    found, failures = search(path)
    assert not found and [failure.code for failure in failures] == [ErrorCode.INVALID_HEADER]


def test_a_deflated_dicomdir_is_refused_without_inflating(tmp_path: Path) -> None:
    path = make_dicomdir(tmp_path / "DICOMDIR", ["A"], DeflatedExplicitVRLittleEndian)
    assert [failure.code for failure in search(path)[1]] == [ErrorCode.UNSUPPORTED_TRANSFER_SYNTAX]


def test_a_dicomdir_without_files_or_too_large_is_refused(tmp_path: Path) -> None:
    path = make_dicomdir(tmp_path / "DICOMDIR", [])
    assert [failure.code for failure in search(path)[1]] == [ErrorCode.EMPTY_INPUT]
    assert [failure.code for failure in search(path, max_dicomdir_bytes=100)[1]] == [ErrorCode.REQUEST_TOO_LARGE]


def test_a_real_dicomdir_gives_the_files_beside_it() -> None:
    path = Path(str(get_testdata_file("DICOMDIR", download=False)))
    found, failures = search(path)
    assert len(found) == 31 and not failures
    assert all(content(item)[128:132] == b"DICM" for item in found)
