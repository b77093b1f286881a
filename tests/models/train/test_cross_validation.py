"""The script that chose the recipe: the table, and tiny networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks import cross_validation as script


def test_the_table_has_the_area_of_the_mean_of_the_cosines_fold_by_fold() -> None:
    drawn, positive = np.random.default_rng(0), np.arange(40) % 3 == 0
    held = (np.arange(20), np.arange(20, 40))
    done = {
        script.Run(name, 0, fold, seed): drawn.normal(positive[rows], 1)
        for name in ("one", "two")
        for fold, rows in enumerate(held)
        for seed in (0, 1)
    }
    one, twice, both = script.compare(("one", "one & one", "one & two"), done, positive, {0: held})
    area = {
        name: [
            roc_auc_score(positive[rows], sum(done[script.Run(*run[:1], 0, fold, run[1])] for run in runs))
            for fold, rows in enumerate(held)
        ]
        for name, runs in {
            "one": [("one", 0)],
            "twice": [("one", 0), ("one", 1)],
            "both": [("one", 0), ("two", 0)],
        }.items()
    }
    assert (one.auroc, twice.auroc, both.auroc) == pytest.approx(
        [np.mean(area[name]) for name in ("one", "twice", "both")]
    )
    gains = np.subtract(area["both"], area["one"])
    assert both.difference == pytest.approx(gains.mean()) and both.runs == 2
    assert both.standard_error == pytest.approx(gains.std(ddof=1) / np.sqrt(2))


@pytest.mark.parametrize("name", ["mixup 0.4", "cutmix 1", "residual"])
def test_a_recipe_learns_from_all_but_the_images_that_are_left_out(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 1, 28, 28), generator=generator, dtype=torch.uint8)
    data = script.LabelledImages(images, torch.arange(24) % 3 == 0)
    changed = script.LabelledImages(images.clone(), data.positive)
    changed.images[:4] = 255 - changed.images[:4]
    trial, run = replace(script.TRIALS[name], steps=2, images=8), script.Run(name, 0, 0, 0)
    one, other = (script.do(run, trial, each, np.arange(4)) for each in (data, changed))
    assert len(one["cosines"]) == 4 and one["cosines"] != other["cosines"]
    swapped = script.LabelledImages(images, data.positive.clone())
    swapped.positive[:4] = ~swapped.positive[:4]
    assert script.do(run, trial, swapped, np.arange(4))["cosines"] == one["cosines"]
    assert json.loads(json.dumps(one))["trial"] == name


def test_the_command_goes_on_where_it_stopped_and_shows_the_table_of_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = np.random.default_rng(0)
    arrays = {
        name: value
        for split, count in (("train", 40), ("val", 10))
        for name, value in (
            (f"{split}_images", drawn.integers(0, 256, (count, 28, 28)).astype(np.uint8)),
            (f"{split}_labels", (np.arange(count)[:, None] % 3 > 0).astype(np.uint8)),
        )
    }
    np.savez(tmp_path / script.TASK.file_name, **arrays)
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "runs.jsonl"), "--trials", "residual"]
    arguments += ["--repeats", "1", "--steps", "1"]
    script.main(arguments)
    first, kept = capsys.readouterr().out, (tmp_path / "runs.jsonl").read_text()
    script.main(arguments)
    assert capsys.readouterr().out == first and (tmp_path / "runs.jsonl").read_text() == kept
    images = script.read(tmp_path)
    positive, groups = images.positive.numpy(), script.twin_groups(images.images[:, 0].numpy())
    held = script.left_out(positive, groups, 0, script.FOLDS)
    cosines = {line["fold"]: line["cosines"] for line in map(json.loads, kept.splitlines())}
    area = np.mean([roc_auc_score(positive[rows], cosines[fold]) for fold, rows in enumerate(held)])
    assert f"| residual | 5 | {area:.4f} |" in first
