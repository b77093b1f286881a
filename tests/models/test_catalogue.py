"""The catalogue: which packs are there, and what happens to the others when one is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.errors import ErrorCode, PackError
from radserve.models.catalogue import PackCatalogue, built_in_folder
from radserve.models.pack import load_pack
from tests.support.packs import make_tiny_pack, seal


def catalogue(*folders: Path) -> PackCatalogue:
    return PackCatalogue(folders, built_in=False)


def test_packs_are_found_in_a_folder_of_packs_and_in_a_folder_that_is_one(tmp_path: Path) -> None:
    make_tiny_pack(tmp_path / "site" / "b", "bravo")
    make_tiny_pack(tmp_path / "site" / "a", "alpha")
    (tmp_path / "site" / "notes").mkdir()
    single = make_tiny_pack(tmp_path / "single", "single")
    found = catalogue(tmp_path / "site", single)
    assert found.names() == ("alpha", "bravo", "single")
    assert found.get("bravo").folder == tmp_path / "site" / "b"
    assert not found.broken


def test_an_unknown_pack_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    make_tiny_pack(tmp_path / "a", "alpha")
    with pytest.raises(PackError) as caught:
        catalogue(tmp_path).get("omega")
    assert caught.value.code is ErrorCode.UNKNOWN_PACK
    assert caught.value.client_message == "pack 'omega' is unknown; known packs: alpha"


def test_a_broken_pack_does_not_hide_the_others_and_keeps_its_cause(tmp_path: Path) -> None:
    make_tiny_pack(tmp_path / "alpha", "alpha")
    broken = make_tiny_pack(tmp_path / "broken", "broken")
    (broken / "tokenizer.json").write_text("{}")
    found = catalogue(tmp_path)
    assert found.names() == ("alpha",)
    assert found.broken["broken"].code is ErrorCode.PACK_HASH_MISMATCH
    with pytest.raises(PackError, match=r"tokenizer\.json"):
        found.get("broken")


def test_of_two_packs_of_one_name_and_version_the_first_counts(tmp_path: Path) -> None:
    first = make_tiny_pack(tmp_path / "1" / "first", "same")
    make_tiny_pack(tmp_path / "2" / "second", "same")
    found = catalogue(tmp_path / "1", tmp_path / "2")
    assert found.get("same").folder == first
    assert "already known" in found.broken["second"].client_message


def test_versions_of_a_pack_stand_side_by_side_and_are_named_by_version_or_digest(tmp_path: Path) -> None:
    old = load_pack(make_tiny_pack(tmp_path / "1", "same", version="1.0.0"))
    new = load_pack(make_tiny_pack(tmp_path / "2", "same", version="1.1.0"))
    found = catalogue(tmp_path)
    assert found.versions("same") == (old, new)
    assert found.get("same") == found.get("same@1.0.0") == old
    assert found.get("same@1.1.0") == found.get(f"same@{new.digest}") == found.get(f"same@{new.digest[:12]}") == new
    assert not {model.name for model in old.models} & {model.name for model in new.models}


@pytest.mark.parametrize("chosen", ["2.0.0", "1.0", "0" * 12])
def test_an_unknown_version_is_named_with_those_that_are_known(tmp_path: Path, chosen: str) -> None:
    make_tiny_pack(tmp_path / "1", "same")
    with pytest.raises(PackError) as caught:
        catalogue(tmp_path).get(f"same@{chosen}")
    assert caught.value.code is ErrorCode.UNKNOWN_PACK
    assert caught.value.client_message == f"pack 'same' has no version {chosen!r}; known versions: 1.0.0"


def test_a_pack_that_comes_later_is_found_by_looking_again(tmp_path: Path) -> None:
    make_tiny_pack(tmp_path / "1", "alpha")
    found = catalogue(tmp_path)
    before = found.get("alpha")
    make_tiny_pack(tmp_path / "2", "bravo")
    found.refresh()
    assert found.names() == ("alpha", "bravo")
    assert found.get("alpha") is before


def test_verify_sees_a_pack_that_was_exchanged_although_its_hashes_fit(tmp_path: Path) -> None:
    folder = make_tiny_pack(tmp_path / "alpha", "alpha")
    found = catalogue(tmp_path)
    assert found.verify("alpha").digest == found.get("alpha").digest
    (folder / "MODEL_CARD.md").write_text("another card")
    seal(folder)
    with pytest.raises(PackError, match="changed on disk") as caught:
        found.verify("alpha")
    assert caught.value.code is ErrorCode.PACK_HASH_MISMATCH


def test_a_folder_that_does_not_exist_holds_no_packs(tmp_path: Path) -> None:
    assert catalogue(tmp_path / "absent").names() == ()


def test_every_built_in_pack_is_sound() -> None:
    assert built_in_folder().is_dir()
    assert not PackCatalogue().broken
