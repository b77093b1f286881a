"""DurableTree: files that are published together share the syncs of their folder, and fail one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.dicom_io import durable
from radserve.dicom_io.durable import DurableTree
from radserve.errors import ErrorCode, StorageError


@pytest.fixture
def tree(tmp_path: Path) -> DurableTree:
    made = DurableTree(tmp_path)
    made.claim()
    return made


def written(tree: DurableTree, data: bytes) -> Path:
    path = tree.aside()
    path.write_bytes(data)
    return path


def publish(tree: DurableTree, moves: list[tuple[Path, Path]]) -> list[bool | StorageError]:
    """Place each, sync those that are placed together, and take back what is new and not durable; as a store does."""
    outcomes: list[bool | StorageError] = []
    for source, target in moves:
        try:
            outcomes.append(tree.place(source, target))
        except StorageError as error:
            outcomes.append(error)
    placed = [at for at, outcome in enumerate(outcomes) if isinstance(outcome, bool)]
    for at, failed in zip(placed, tree.sync([moves[at][1] for at in placed]), strict=True):
        if failed:
            if outcomes[at]:
                tree.withdraw(moves[at][1])
            outcomes[at] = failed
    return outcomes


def test_files_of_one_folder_share_its_sync(tree: DurableTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(durable, "fsync_folder", synced.append)
    folder = tmp_path / "1.2" / "1.2.3"
    assert publish(tree, [(written(tree, b"a"), folder / f"{number}.dcm") for number in range(3)]) == [True] * 3
    assert synced == [folder, folder.parent, tmp_path]
    assert len(list(folder.iterdir())) == 3


def test_a_file_that_is_refused_costs_no_other_of_its_turn(tree: DurableTree, tmp_path: Path) -> None:
    folder = tmp_path / "1.2" / "1.2.3"
    publish(tree, [(written(tree, b"first"), folder / "1.dcm")])
    moves = [(b"other", "1.dcm"), (b"first", "1.dcm"), (b"new", "2.dcm")]
    conflict, same, new = publish(tree, [(written(tree, data), folder / name) for data, name in moves])
    assert isinstance(conflict, StorageError) and conflict.code is ErrorCode.UID_CONFLICT
    assert (same, new) == (False, True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"1.dcm": b"first", "2.dcm": b"new"}


def test_a_folder_that_cannot_be_synced_keeps_the_old_files_and_none_of_the_new(
    tree: DurableTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = tmp_path / "1.2" / "1.2.3", tmp_path / "1.2" / "1.2.4"
    publish(tree, [(written(tree, b"first"), bad / "1.dcm")])
    real = durable.fsync_folder

    def fail(folder: Path) -> None:
        if folder == bad:
            raise OSError(5, "I/O error")
        real(folder)

    monkeypatch.setattr(durable, "fsync_folder", fail)
    targets = [bad / "1.dcm", bad / "2.dcm", good / "3.dcm"]
    outcomes = publish(tree, [(written(tree, b"first"), target) for target in targets])
    assert [isinstance(outcome, StorageError) for outcome in outcomes] == [True, True, False]
    assert [target.exists() for target in targets] == [True, False, True]
