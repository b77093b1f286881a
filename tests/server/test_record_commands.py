"""The commands on a site's records: quarantine, store, rules."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from radserve.dicom_io.store import StudyStore
from radserve.dicom_io.write_sr import write_sr
from radserve.errors import DicomError, ErrorCode, RadserveError, StorageError
from radserve.pipelines.rules import RuleSet
from radserve.references import StudyRef
from radserve.server.cli import app
from radserve.server.records import Records
from radserve.server.senders import Destinations, FolderSender
from radserve.server.settings import Settings
from radserve.server.study_work import site_rules
from radserve.work import QuarantineEntry, QuarantineKind, StudyState
from tests.support.dicoms import cr, save, uid
from tests.support.records import call, on_site
from tests.support.results import sample_image, sample_result
from tests.support.sending import send
from tests.support.workflow import instance

STUDY = uid("study", "s")


async def receive(store: StudyStore, data: bytes) -> None:
    async with store.receive() as incoming:
        incoming.write(data)
        await incoming.commit()


async def spoil(records: Records, store: StudyStore) -> None:
    await receive(store, instance("s"))
    with pytest.raises(RadserveError):
        await receive(store, instance("s", PatientID="OTHER"))
    (study,) = await records.ledger.open_studies()
    revision = await records.ledger.close(StudyRef(study.study_instance_uid), incomplete=False, now=1.0)
    assert revision is not None
    error = DicomError(ErrorCode.DECODE_FAILED, "the JPEG stream is broken")
    entry = QuarantineEntry("2.25.7", QuarantineKind.STUDY, STUDY, error.code, error.client_message, 2.0, revision=1)
    await records.ledger.put_in_quarantine(entry)


def test_quarantine_is_listed_retried_and_dropped(tmp_path: Path) -> None:
    on_site(tmp_path, spoil)
    shown = call("quarantine", "list", "--data-dir", tmp_path)
    assert "the JPEG stream is broken" in shown and "UID_CONFLICT" in shown and "1970-01-01T00:00:02" in shown
    assert "1 will be tried again" in call("quarantine", "retry", "2.25.7", "--data-dir", tmp_path)

    async def waiting(records: Records, store: StudyStore) -> list[int]:
        return [each.generation for each in await records.ledger.revisions(StudyState.COMPLETE)]

    assert on_site(tmp_path, waiting) == [1]
    (kept,) = (tmp_path / "quarantine").iterdir()
    assert "1 dropped" in call("quarantine", "drop", "--all", "--data-dir", tmp_path)
    assert not kept.exists()
    result = CliRunner().invoke(app, ["quarantine", "drop", "2.25.9", "--data-dir", str(tmp_path)])
    assert isinstance(result.exception, RadserveError) and "2.25.9" in result.exception.client_message


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_releasing_takes_ids_or_all_of_them(tmp_path: Path, command: str) -> None:
    call("quarantine", command, "--data-dir", tmp_path, code=2)
    call("quarantine", command, "2.25.7", "--all", "--data-dir", tmp_path, code=2)


@pytest.mark.parametrize("command", [("store", "list"), ("store", "rebuild"), ("quarantine", "list")])
def test_a_data_folder_that_is_not_there_is_named_and_not_made(tmp_path: Path, command: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, [*command, "--data-dir", str(tmp_path / "typo")])
    assert isinstance(result.exception, StorageError)
    assert result.exception.code is ErrorCode.INVALID_ARGUMENT
    assert repr(str(tmp_path / "typo")) in result.exception.client_message
    assert not (tmp_path / "typo").exists()


def test_a_study_is_erased_with_the_server_stopped(tmp_path: Path) -> None:
    on_site(tmp_path, lambda records, store: receive(store, instance("s")))
    assert "the study is erased: 1 instances" in call("store", "erase", "--study", STUDY, "--data-dir", tmp_path)
    assert not (tmp_path / "studies" / STUDY).exists()


def test_a_study_is_erased_by_the_server_that_runs(tmp_path: Path) -> None:
    async def work(records: Records, store: StudyStore) -> None:
        await receive(store, instance("s"))
        said = await asyncio.to_thread(call, "store", "erase", "--study", STUDY, "--data-dir", tmp_path)
        assert "the erasure is asked for" in said
        assert await store.erase_requested() == 1 and not await store.list_studies()
        stone = await records.index.tombstone(STUDY)
        assert stone is not None and stone.erased_at is not None

    on_site(tmp_path, work)


def test_what_is_not_here_is_not_erased_and_a_tombstone_stays_as_it_is(tmp_path: Path) -> None:
    on_site(tmp_path, lambda records, store: receive(store, instance("s")))
    erasing = ["store", "erase", "--data-dir", str(tmp_path), "--study"]
    result = CliRunner().invoke(app, [*erasing, "1.2.3"])
    assert isinstance(result.exception, RadserveError) and result.exception.code is ErrorCode.STUDY_NOT_FOUND
    call(*erasing, STUDY)
    assert "was erased before: 1 instances" in call(*erasing, STUDY)

    async def stones(records: Records, store: StudyStore) -> list[int | None]:
        found = [await records.index.tombstone(uid) for uid in (STUDY, "1.2.3")]
        return [stone.instances if stone else None for stone in found]

    assert on_site(tmp_path, stones) == [1, None]


def test_studies_are_listed_with_how_far_they_have_come(tmp_path: Path) -> None:
    async def more(records: Records, store: StudyStore) -> None:
        await spoil(records, store)
        for name in ("cut off", "waiting"):
            await receive(store, instance(name))
        await records.ledger.close(StudyRef(uid("study", "cut off")), incomplete=True, now=1.0)

    on_site(tmp_path, more)
    listed = call("store", "list", "--data-dir", tmp_path)
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in listed.splitlines() if "2.25" in line]
    shown = {cell[0]: (cell[1], cell[2], cell[4], cell[5], cell[6]) for cell in cells}
    assert shown == {
        STUDY: ("quarantined", "1", "1", "0", "2"),
        uid("study", "cut off"): ("complete, with instances missing", "1", "1", "0", "0"),
        uid("study", "waiting"): ("receiving", "1", "0", "0", "0"),
    }
    quarantined = call("store", "list", "--state", "quarantined", "--data-dir", tmp_path)
    assert STUDY in quarantined and uid("study", "waiting") not in quarantined


def test_old_studies_are_shown_and_then_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def two(records: Records, store: StudyStore) -> None:
        for name in ("s", "waiting"):
            await receive(store, instance(name))
        revision = await records.ledger.close(StudyRef(STUDY), incomplete=False, now=1.0)
        assert revision is not None
        await records.ledger.finish(revision, StudyState.NOT_ROUTED)

    on_site(tmp_path, two)
    call("store", "retention", "--data-dir", tmp_path, code=2)
    assert "0 studies would be erased" in call("store", "retention", "--dry-run", "--days", "1", "--data-dir", tmp_path)
    shown = call("store", "retention", "--dry-run", "--days", "0", "--data-dir", tmp_path)
    assert "1 studies would be erased" in shown and STUDY in shown and "not-routed" in shown
    assert (tmp_path / "studies" / STUDY).exists()
    assert "1 studies are erased" in call("store", "retention", "--days", "0", "--data-dir", tmp_path)
    assert not (tmp_path / "studies" / STUDY).exists()
    assert (tmp_path / "studies" / uid("study", "waiting")).exists()
    monkeypatch.setenv("RADSERVE_RETENTION_DAYS", "1")
    assert "0 studies are erased" in call("store", "retention", "--data-dir", tmp_path)


def test_a_changed_pixel_is_found_by_verifying(tmp_path: Path) -> None:
    on_site(tmp_path, lambda records, store: receive(store, instance("s")))
    assert "1 instances, 0 with digital signatures (unchecked): 0 damaged" in call(
        "store", "verify", "--data-dir", tmp_path
    )
    (path,) = (tmp_path / "studies").glob("*/*/*.dcm")
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    shown = call("store", "verify", "--data-dir", tmp_path, "--study", STUDY, code=1)
    assert "1 damaged" in shown and path.stem in shown and "pixels" in shown


def test_annotations_come_in_from_an_sr_and_go_out_as_a_table_and_back(tmp_path: Path) -> None:
    document = tmp_path / "sr.dcm"
    document.write_bytes(write_sr(sample_result(sample_image(cr(np.zeros((60, 80), np.uint16))))))
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    assert "2 annotations read, 2 of them new" in call("annotations", "import", document, "--data-dir", tmp_path / "a")
    assert "2 annotations are in" in call("annotations", "export", first, "--data-dir", tmp_path / "a")
    assert "2 annotations read, 2 of them new" in call("annotations", "import", first, "--data-dir", tmp_path / "b")
    assert "2 annotations read, 0 of them new" in call("annotations", "import", first, "--data-dir", tmp_path / "b")
    call("annotations", "export", second, "--data-dir", tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_the_index_is_rebuilt_from_the_files(tmp_path: Path) -> None:
    on_site(tmp_path, lambda records, store: receive(store, instance("s")))
    assert "the index has 1 instances" in call("store", "rebuild", "--data-dir", tmp_path)


RULES = """
[[rule]]
name = "chest"
pack = "cxr-bus-mini"
destinations = ["pacs"]
when = { modality = "CR", tag.StationName = "XR*" }
"""


def test_testing_rules_says_which_matched_and_why(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    image = np.zeros((8, 8), np.uint16)
    save(cr(image, study="a", StationName="XR1"), tmp_path / "a.dcm")
    shown = call("rules", "test", tmp_path / "a.dcm", "--rules", rules)
    assert "modality is 'CR' and tag.StationName is 'XR*'" in shown
    assert "-> pack cxr-bus-mini: 1 series, by chest; to pacs (the usual)" in shown
    save(cr(image, study="b", StationName="MOBILE"), tmp_path / "b.dcm")
    shown = call("rules", "test", tmp_path / "b.dcm", "--rules", rules, code=3)
    assert "tag.StationName is not 'XR*'" in shown and "no rule takes this study" in shown
    assert "MOBILE" not in shown and "Doe" not in shown


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("StationName", "StationNam", "got 'StationNam', expected a keyword"),
        ("cxr-bus-mini", "none", "rule 'chest' pack: got ['none']"),
        ("destinations = ['pacs']", "outputs = ['gif']", "rule 'chest' outputs: got ['gif']"),
    ],
)
def test_rules_that_name_what_does_not_exist_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    from radserve.models.catalogue import PackCatalogue

    path = tmp_path / "rules.toml"
    path.write_text(RULES.replace('"pacs"', "'pacs'").replace(old, new))
    with pytest.raises(RadserveError) as caught:
        site_rules(Settings(rules_file=path), PackCatalogue(()))
    assert message in caught.value.client_message
    assert isinstance(site_rules(Settings(), PackCatalogue(())), RuleSet)


async def test_a_folder_destination_has_each_object_once(tmp_path: Path) -> None:
    from radserve.results import Artifact

    destinations = Destinations({"archive": f"file://{tmp_path}/with%20space"}, {"file": FolderSender()})
    for data in (b"one", b"one", b"two"):
        await send(destinations, "archive", Artifact("sr.dcm", "application/dicom", data))
    assert sorted(path.read_bytes() for path in (tmp_path / "with space").iterdir()) == [b"one", b"two"]
    with pytest.raises(RadserveError, match="expected some of"):
        await send(destinations, "pacs", Artifact("sr.dcm", "application/dicom", b""))
    with pytest.raises(RadserveError, match="ftp"):
        Destinations({"a": "ftp://host"}, {"file": FolderSender()})
