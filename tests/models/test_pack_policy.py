"""What a site asks of packs: a licence it may use, a signature of its own, files that are what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from radserve.errors import ErrorCode, PackError
from radserve.models import pack_files
from radserve.models.catalogue import PackCatalogue
from radserve.models.pack import load_pack
from radserve.models.pack_policy import PackPolicy
from radserve.models.pack_signature import check_signature, sign_folder
from radserve.models.pack_sources import add_pack
from tests.support.other_packs import make_classifier_pack
from tests.support.packs import seal
from tests.support.signing import keys


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return make_classifier_pack(tmp_path / "site" / "halves")


def licensed(pack: Path, licence: str) -> Path:
    text = (pack / "pack.toml").read_text()
    (pack / "pack.toml").write_text(text.replace('licence = "Apache-2.0"', f'licence = "{licence}"'))
    return pack


@pytest.mark.parametrize(
    "licence", ["CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "research only", "not stated", "MIT and CC-BY-NC-4.0", "OpenRAIL"]
)
def test_a_commercial_site_refuses_a_licence_that_does_not_allow_it_by_name(pack: Path, licence: str) -> None:
    found = PackCatalogue([licensed(pack, licence).parent], policy=PackPolicy("commercial"))
    assert found.names() == ("ct-chest-mini", "cxr-bus-mini")  # Apache-2.0
    with pytest.raises(PackError) as caught:
        found.get("halves")
    assert caught.value.code is ErrorCode.PACK_LICENCE
    assert repr(licence) in caught.value.client_message
    assert PackCatalogue([pack.parent], policy=PackPolicy("research")).get("halves").licence == licence


@pytest.mark.parametrize("licence", ["Vendor terms (2024)", "Terms and Conditions of a Vendor"])
def test_a_licence_of_a_sites_own_may_have_any_name(licence: str) -> None:
    PackPolicy("commercial", licences=(licence,)).check_licence("halves", licence.upper())
    with pytest.raises(PackError, match="PACK_LICENCE"):
        PackPolicy("commercial").check_licence("halves", licence)


def test_a_commercial_site_may_name_licences_of_its_own(pack: Path, tmp_path: Path) -> None:
    policy = PackPolicy("commercial", licences=("Contract 2026-17",))
    add_pack(str(licensed(pack, "MIT AND contract 2026-17")), tmp_path / "store", policy=policy)
    with pytest.raises(PackError, match="PACK_LICENCE"):
        add_pack(str(pack), tmp_path / "other", policy=PackPolicy("commercial"))
    assert list((tmp_path / "other").iterdir()) == []


def test_a_site_with_a_key_takes_signed_packs_and_no_others(pack: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    policy = PackPolicy(signing_key=public)
    unsigned = PackCatalogue([pack.parent], policy=policy)
    assert unsigned.names() == ("ct-chest-mini", "cxr-bus-mini")  # came with the installation
    assert unsigned.broken["halves"].code is ErrorCode.PACK_UNSIGNED
    digest = load_pack(pack).digest
    sign_folder(pack, private)
    assert PackCatalogue([pack.parent], policy=policy).get("halves").digest == digest  # a signature changes no digest
    assert add_pack(str(pack), tmp_path / "store", policy=policy).digest == digest


def test_signing_that_fails_leaves_the_signature_that_was_there(pack: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    sign_folder(pack, private)
    before = (pack / "model.sig").read_bytes()
    for no_key in (public, tmp_path / "gone.key"):
        with pytest.raises(PackError) as refusal:
            sign_folder(pack, no_key)
        assert refusal.value.code is ErrorCode.PACK_SIGNATURE
    assert (pack / "model.sig").read_bytes() == before
    sign_folder(pack, private)  # again: the old one is no part of what is signed
    check_signature(pack, public)


def test_relative_paths_are_as_good_as_others(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = keys(tmp_path)
    monkeypatch.chdir(tmp_path)
    sign_folder(pack.relative_to(tmp_path), private)
    policy = PackPolicy(signing_key=public.relative_to(tmp_path))
    found = PackCatalogue([pack.parent.relative_to(tmp_path)], built_in=False, policy=policy)
    assert found.names() == ("halves",), found.broken


def lower_the_threshold(pack: Path) -> None:
    text = (pack / "pack.toml").read_text()
    (pack / "pack.toml").write_text(text.replace("threshold = 0.5", "threshold = 0.1"))


def change_a_weight(pack: Path) -> None:
    graph = onnx.load(pack / "classifier.onnx")
    bias = next(each for each in graph.graph.initializer if each.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(np.array([2.0, -2.0], np.float32), "bias"))
    onnx.save(graph, pack / "classifier.onnx")


@pytest.mark.parametrize("alter", [lower_the_threshold, change_a_weight])
def test_an_altered_pack_is_refused_even_when_its_hashes_were_made_to_fit(
    pack: Path, tmp_path: Path, alter: Callable[[Path], None]
) -> None:
    private, public = keys(tmp_path)
    sign_folder(pack, private)
    alter(pack)
    load_pack(seal_but_the_signature(pack))
    error = PackCatalogue([pack.parent], built_in=False, policy=PackPolicy(signing_key=public)).broken["halves"]
    assert error.code is ErrorCode.PACK_SIGNATURE
    assert "'halves' has a signature that does not fit" in error.client_message


def seal_but_the_signature(pack: Path) -> Path:
    signature = (pack / "model.sig").read_bytes()
    (pack / "model.sig").unlink()
    seal(pack)
    (pack / "model.sig").write_bytes(signature)
    return pack


def test_the_signature_of_another_key_and_one_of_another_pack_are_refused(pack: Path, tmp_path: Path) -> None:
    _, public = keys(tmp_path)
    stranger, _ = keys(tmp_path, "stranger")
    sign_folder(pack, stranger)
    refused = PackCatalogue([pack.parent], built_in=False, policy=PackPolicy(signing_key=public)).broken
    assert refused["halves"].code is ErrorCode.PACK_SIGNATURE
    (pack / "model.sig").write_text("{}")
    refused = PackCatalogue([pack.parent], built_in=False, policy=PackPolicy(signing_key=public)).broken
    assert refused["halves"].code is ErrorCode.PACK_SIGNATURE


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x80\x02", b"\x80\x05"], ids=["torch", "pickle 2", "pickle 5"])
def test_pickled_data_under_a_harmless_name_is_refused(pack: Path, head: bytes) -> None:
    (pack / "weights.safetensors").write_bytes(head + b"rest")
    with pytest.raises(PackError) as caught:
        load_pack(seal(pack))
    assert "'weights.safetensors' holds pickled data" in caught.value.client_message


def test_an_oversized_file_is_refused_before_it_is_read(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_files, "MAX_FILE_BYTES", 100)
    with pytest.raises(PackError, match=r"has \d+ bytes, more than the 100 allowed"):
        load_pack(pack)
