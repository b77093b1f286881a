"""What the seed changes: single networks and joined ones are never averaged together."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radserve.models.train import seeds
from radserve.models.train.data import TASKS, load_split
from radserve.models.train.evaluate import SEEDS_FILE
from radserve.models.train.own_tower import MIXUP, RESIDUAL, OwnRecipe

LABELS = np.arange(40) % 4 == 0
COSINES = {seed: np.random.default_rng(seed).normal(LABELS, 1) for seed in (7, 8, 9)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for task in TASKS:
        stored = np.where(LABELS, task.positive_label, 1 - task.positive_label).astype(np.uint8)
        np.savez(tmp_path / task.file_name, test_images=np.zeros((40, 28, 28), np.uint8), test_labels=stored[:, None])
    assert load_split(tmp_path, TASKS[1], "test").positive.tolist() == LABELS.tolist()
    return tmp_path


def test_single_and_joined_networks_have_a_spread_each(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "_cosines", lambda folder, *_: COSINES[int(folder.name)])
    spread = seeds.measure_seeds({seed: Path(str(seed)) for seed in COSINES}, 2, [], data, data)
    for by_count in spread.values():
        assert list(by_count) == ["1", "2"]
        assert list(by_count["1"].areas) == ["7", "8", "9"] and list(by_count["2"].areas) == ["7+8", "7+9", "8+9"]
        assert by_count["1"].areas["8"].auroc == pytest.approx(roc_auc_score(LABELS, COSINES[8]))
        assert by_count["2"].areas["7+9"].auroc == pytest.approx(roc_auc_score(LABELS, COSINES[7] + COSINES[9]))
        for each in by_count.values():
            found = [area.auroc for area in each.areas.values()]
            assert each.mean == pytest.approx(statistics.mean(found))
            assert each.deviation == pytest.approx(statistics.stdev(found))
    written = json.loads((data / SEEDS_FILE).read_text())
    assert written["Pneumonia"]["1"]["areas"]["7"]["auroc_low"] < written["Pneumonia"]["1"]["areas"]["7"]["auroc"]


def test_all_networks_joined_are_one_and_have_no_deviation(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "_cosines", lambda folder, *_: COSINES[int(folder.name)])
    spread = seeds.measure_seeds({seed: Path(str(seed)) for seed in COSINES}, 3, [], data, data)
    assert spread["Pneumonia"]["3"].deviation is None and list(spread["Pneumonia"]["3"].areas) == ["7+8+9"]


def test_towers_of_an_input_of_its_own_have_a_spread_by_kind_and_by_set(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds, "_cosines", lambda folder, *_: COSINES[int(folder.name)])
    monkeypatch.setattr(seeds, "_tower_cosines", lambda recipe, *_: COSINES[7 + recipe.seed % 3] + recipe.seed)
    own = OwnRecipe((MIXUP, RESIDUAL), sets=2)
    sets = [{"breast_ultrasound": own.of_set(index, 7)} for index in range(own.sets)]
    spread = seeds.measure_seeds({seed: Path(str(seed)) for seed in COSINES}, 2, sets, data, data)
    assert list(spread["Pneumonia"]) == ["1", "2"]
    found = spread["Malignant breast lesion"]
    assert {name: list(each.areas) for name, each in found.items()} == {
        "imagenet": ["7", "9"],
        "residual": ["8", "10"],
        "2": ["7+8", "9+10"],
    }
    assert found["imagenet"].areas["9"].auroc == pytest.approx(roc_auc_score(LABELS, COSINES[7]))
    assert found["2"].areas["9+10"].auroc == pytest.approx(roc_auc_score(LABELS, COSINES[7] + COSINES[8]))
