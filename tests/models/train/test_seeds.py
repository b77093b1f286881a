"""What the seed changes: single networks and joined ones are never averaged together."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from radserve.models.train import seeds
from radserve.models.train.architecture import ModelConfig
from radserve.models.train.data import TASKS

AREAS = {"seed1": 0.91, "seed2": 0.85, "seed3": 0.88, "1+2": 0.93, "2+3": 0.90}


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders with a configuration alone; what each would score is in AREAS."""
    folders = [tmp_path / name for name in AREAS]
    for folder in folders:
        folder.mkdir()
        ModelConfig(vocabulary_size=8, members=2 if "+" in folder.name else 1).save(folder / "model.json")
    labels = [task.wording.label for task in TASKS]
    monkeypatch.setattr(seeds, "_areas", lambda folder, _: dict.fromkeys(labels, AREAS[folder.name]))
    return folders


def test_single_and_joined_networks_have_a_spread_each(checkpoints: list[Path], tmp_path: Path) -> None:
    for by_members in seeds.spread_of(checkpoints, tmp_path).values():
        assert list(by_members) == [1, 2]
        assert list(by_members[1].auroc) == ["seed1", "seed2", "seed3"] and list(by_members[2].auroc) == ["1+2", "2+3"]
        for spread in by_members.values():
            assert spread.mean == pytest.approx(statistics.mean(spread.auroc.values()))
            assert spread.deviation == pytest.approx(statistics.stdev(spread.auroc.values()))
