"""The train split scored by towers that have not seen it, and what is fitted on these scores."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.calibrate import conformal_band, youden_threshold
from radserve.models.train.data import TASKS, load_split
from radserve.models.train.ensemble import with_own_towers
from radserve.models.train.fit_calibration import fit_calibration
from radserve.models.train.out_of_fold import folds_of, read_out_of_fold, score_folds, start_folds
from radserve.models.train.own_tower import RESIDUAL, OwnRecipe, train_tower
from radserve.models.train.prompt_file import Prompts, load_prompts, write_prompts
from radserve.models.train.scoring import image_logits, prompt_direction

TASK = TASKS[1]
NAME, LABEL = TASK.wording.input_name, TASK.wording.label
OWN = {NAME: OwnRecipe((replace(RESIDUAL, steps=3, images=6, warm_up_steps=1),) * 2, folds=2)}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Prompts:
    path = tmp_path_factory.mktemp("prompts") / "prompts.toml"
    write_prompts(path)
    return load_prompts(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    arrays = {}
    for split in ("train", "val"):
        labels = np.arange(24) % 3 > 0
        arrays[f"{split}_images"] = generator.integers(0, 256, (24, 28, 28)).astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    np.savez(folder / TASK.file_name, **arrays)
    return folder


@pytest.fixture(scope="module")
def scored(
    model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run whose folds are trained and scored."""
    out = tmp_path_factory.mktemp("out")
    aim = {NAME: prompt_direction(model, tokenizer, *prompts[LABEL]).numpy()}
    with ThreadPoolExecutor(1) as threads:
        pool = cast(ProcessPoolExecutor, threads)
        started = start_folds(pool, data, out, model.config, OWN, 7, aim)
        assert len([each.result() for each in started]) == 4  # two towers of two folds
        assert start_folds(pool, data, out, model.config, OWN, 7, aim) == []
    score_folds(model, tokenizer, prompts, data, out, OWN, 7)
    return out


def test_an_image_is_scored_by_joined_towers_that_learned_from_the_other_folds(
    model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, data: Path, scored: Path
) -> None:
    learned, aim = load_split(data, TASK, "train"), prompt_direction(model, tokenizer, *prompts[LABEL])
    logits = read_out_of_fold(scored)[LABEL]
    folds = folds_of(learned, 2)
    assert sorted(np.concatenate(folds)) == list(range(24))
    for held, others in (folds, folds[::-1]):
        rows = torch.from_numpy(np.sort(others))
        alone = replace(learned, images=learned.images[rows], positive=learned.positive[rows])
        towers = [train_tower(model.config, each, aim, alone, TASK.may_flip) for each in OWN[NAME].of_set(0, 7)]
        joined = with_own_towers(model, {NAME: towers})
        images = learned.images[held, 0].numpy()
        expected = image_logits(joined, tokenizer, {LABEL: prompts[LABEL]}, images)[LABEL]
        np.testing.assert_allclose(logits[held], expected, atol=1e-5)


def test_slope_offset_threshold_and_band_are_of_the_validation_split_and_the_folds(
    model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, data: Path, scored: Path
) -> None:
    held, learned = (load_split(data, TASK, split) for split in ("val", "train"))
    own = image_logits(model, tokenizer, {LABEL: prompts[LABEL]}, held.images[:, 0].numpy())[LABEL]
    logits = np.concatenate([own, read_out_of_fold(scored)[LABEL]])
    positive = np.concatenate([held.positive.numpy(), learned.positive.numpy()])
    fitted = fit_calibration(model, tokenizer, prompts, data, TASK, read_out_of_fold(scored))
    reference = LogisticRegression(C=np.inf).fit(logits[:, None], positive)
    assert fitted.probabilities(logits) == pytest.approx(reference.predict_proba(logits[:, None])[:, 1], abs=1e-3)
    band = conformal_band(fitted.probabilities(logits), positive, 0.1)
    assert fitted.cannot_assess == pytest.approx(band)
    threshold = youden_threshold(fitted.probabilities(logits), positive)
    assert band and fitted.threshold == pytest.approx(np.clip(threshold, *band))
    alone = fit_calibration(model, tokenizer, prompts, data, TASK, {})
    assert alone.threshold != fitted.threshold


def test_an_input_without_folds_has_no_scores(
    model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, data: Path, tmp_path: Path
) -> None:
    assert read_out_of_fold(tmp_path) == {}
    score_folds(model, tokenizer, prompts, data, tmp_path, {NAME: replace(OWN[NAME], folds=0)}, 7)
    assert json.loads((tmp_path / "out_of_fold.json").read_text()) == {}
