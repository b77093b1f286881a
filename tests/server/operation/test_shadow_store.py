"""What shadows said: kept by study, summed up, found again after a restart, gone with the study."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from radserve.errors import ErrorCode
from radserve.models.pack import ModelPack, load_pack
from radserve.results import StudyResult
from radserve.server.operation.shadow_store import ShadowStore
from tests.support.dicoms import cr
from tests.support.packs import make_tiny_pack
from tests.support.results import sample_finding, sample_image, sample_result


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path_factory.mktemp("pack") / "tiny"))


def result(study: str, probability: float) -> StudyResult:
    image = sample_image(cr(np.zeros((40, 30), dtype=np.uint16), study=study))
    return replace(sample_result(image), findings=(sample_finding(image, probability=probability),))


async def fill(store: ShadowStore, pack: ModelPack) -> list[StudyResult]:
    pairs = [("a", 0.9, 0.8), ("b", 0.6, 0.4), ("c", 0.2, 0.3)]
    delivered = [result(study, before) for study, before, _ in pairs]
    for each, (study, _, after) in zip(delivered, pairs, strict=True):
        await store.keep(each, "", pack, result(study, after))
    return delivered


async def test_agreement_and_differences_are_those_of_the_pairs(tmp_path: Path, pack: ModelPack) -> None:
    store = ShadowStore(tmp_path)
    delivered = await fill(store, pack)
    await store.keep(result("d", 0.5), "", pack, ErrorCode.MODEL_UNAVAILABLE)
    summary = store.summary(pack)
    assert (summary.studies, summary.failures) == (3, 1)
    (label,) = summary.labels
    assert (label.compared, label.agreeing, label.delivered_positive, label.shadow_positive) == (3, 2, 2, 1)
    assert label.mean_difference == pytest.approx((-0.1 - 0.2 + 0.1) / 3)
    assert label.largest_difference == pytest.approx(0.2)
    document = json.loads(next((tmp_path / delivered[0].study_instance_uid).glob("*.json")).read_text())
    assert document["result"]["findings"][0]["probability"] == 0.8


async def test_the_same_study_again_counts_once(tmp_path: Path, pack: ModelPack) -> None:
    store = ShadowStore(tmp_path)
    for _ in range(2):
        await fill(store, pack)
    assert store.summary(pack).studies == 3


async def test_a_restart_finds_the_same_summary(tmp_path: Path, pack: ModelPack) -> None:
    store, again = ShadowStore(tmp_path), ShadowStore(tmp_path)
    await fill(store, pack)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "broken.json").write_text("{")
    await again.open()
    assert again.summary(pack) == store.summary(pack)


async def test_an_erased_study_takes_its_shadow_results_with_it(tmp_path: Path, pack: ModelPack) -> None:
    store = ShadowStore(tmp_path)
    delivered = await fill(store, pack)
    await store.remove(delivered[0].study_instance_uid)
    await store.remove("1.2.3.4")
    assert not (tmp_path / delivered[0].study_instance_uid).exists()
    assert store.summary(pack).studies == 2
