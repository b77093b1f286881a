"""Towers that an input has of its own: mixing, learning against fixed texts, and joining."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.agreement import AgreementRecipe, BankPart, align_decoder
from radserve.models.train.architecture import ModelConfig, RadCoCa
from radserve.models.train.augment import Augmentation, mixed
from radserve.models.train.batches import BatchMaker, caption_table, prompt_table
from radserve.models.train.data import TASKS, LabelledImages
from radserve.models.train.ensemble import fit_mix, with_own_towers
from radserve.models.train.own_tower import MIXUP, RESIDUAL, SingleTower, load_tower, save_tower, train_tower
from radserve.models.train.residual import Halved

OWN = "breast_ultrasound"
FEW = {"steps": 3, "images": 6, "warm_up_steps": 1, "pretrained": False}


@pytest.fixture(scope="module")
def learned() -> LabelledImages:
    positive = torch.arange(12) % 3 == 0
    images = torch.randint(0, 120, (12, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images[positive, :, 8:20, 8:20] += 120
    return LabelledImages(images, positive)


@pytest.fixture(scope="module")
def members(model: RadCoCa, learned: LabelledImages) -> list[SingleTower]:
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    recipes = [replace(each, seed=seed, **FEW) for seed, each in enumerate((RESIDUAL, MIXUP, MIXUP))]
    found = [train_tower(model.config, each, direction, learned, may_flip=True) for each in recipes]
    with pytest.raises(ValueError, match="need the same frozen stages"):
        with_own_towers(model, {OWN: found})
    found[2].visual.frozen.load_state_dict(found[1].visual.frozen.state_dict())
    return found


@pytest.fixture
def pixels(model: RadCoCa) -> Tensor:
    return model.config.normalisation.apply(torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(2)))


def test_a_mixed_image_has_the_target_of_its_parts() -> None:
    values = torch.tensor([0.0, 0.25, 0.5, 1.0])
    pixels, targets = mixed(values.view(4, 1, 1, 1).expand(4, 1, 2, 2), values, 0.4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(pixels, targets.view(4, 1, 1, 1).expand(4, 1, 2, 2))  # both were blended alike
    assert not torch.equal(targets, values)


@pytest.mark.parametrize("side", [6, 7])
def test_halving_a_map_is_pooling_with_what_is_left_at_an_odd_end(side: int) -> None:
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Halved()(x), functional.avg_pool2d(x, 2, ceil_mode=True), atol=1e-6, rtol=0)


def test_the_same_seed_gives_the_same_tower_which_survives_its_file(
    model: RadCoCa, learned: LabelledImages, pixels: Tensor, tmp_path: Path
) -> None:
    direction = torch.ones(32)
    one, again, other = (
        train_tower(model.config, replace(RESIDUAL, seed=seed, **FEW), direction, learned, may_flip=True)
        for seed in (0, 0, 1)
    )
    save_tower(one, tmp_path / "tower.safetensors")
    kept = load_tower("residual", model.config, tmp_path / "tower.safetensors")
    with torch.inference_mode():
        found = [each.cosines(pixels) for each in (one, again, kept, other)]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert not torch.allclose(found[0], found[3])


def test_a_tower_learns_to_tell_the_states_apart_by_texts_that_stay(model: RadCoCa, learned: LabelledImages) -> None:
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    losses: list[float] = []
    recipe = replace(RESIDUAL, steps=40, images=8, warm_up_steps=4)
    found = train_tower(model.config, recipe, direction, learned, True, lambda _, loss: losses.append(loss))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert torch.equal(found.direction, direction)


def test_an_input_of_its_own_towers_is_scored_by_their_sum_and_the_others_as_before(
    model: RadCoCa, members: list[SingleTower], pixels: Tensor
) -> None:
    joined = with_own_towers(model, {OWN: members})
    with torch.inference_mode():
        embedding, tokens, patches = joined.tower_of(OWN).with_patches(pixels)
        units = torch.stack([functional.normalize(each.visual(pixels)[0]) for each in members])
        chest, before = joined.encode(pixels, "chest_radiograph"), model.encode(pixels, "chest_radiograph")
    torch.testing.assert_close(embedding, functional.normalize(units.sum(dim=0)), atol=1e-5, rtol=0)
    torch.testing.assert_close(patches.sum(dim=1), embedding, atol=1e-6, rtol=0)
    assert tokens.shape == chest[1].shape
    for one, other in zip(chest, before, strict=True):
        assert torch.equal(one, other)
    assert joined.scale_of("chest_radiograph") == model.scale != joined.scale_of(OWN)


def test_the_tokens_of_own_towers_start_near_those_that_the_decoder_reads(
    model: RadCoCa, members: list[SingleTower]
) -> None:
    joined = with_own_towers(model, {OWN: members})
    shown = model.config.normalisation.apply(torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(3)))

    def distance() -> float:
        with torch.inference_mode():
            return float((joined.encode(shown, OWN)[1] - model.encode(shown, OWN)[1]).square().mean())

    before = distance()
    fit_mix(joined, OWN, shown)
    with torch.inference_mode():
        mean = model.encode(shown, OWN)[1]
        spread = float((mean - mean.mean(dim=(0, 1))).square().mean())
    assert distance() < min(before, spread)  # nearer than any constant could be


def test_the_decoder_learns_with_the_mix_of_every_tower_and_the_scores_stay(
    model: RadCoCa, members: list[SingleTower], learned: LabelledImages, tokenizer: PackTokenizer
) -> None:
    joined = with_own_towers(model, {OWN: members})
    before = {name: each.clone() for name, each in joined.state_dict().items()}
    maker = BatchMaker(TASKS, [learned, learned], caption_table(TASKS, tokenizer), (3, 3), Augmentation())
    recipe = AgreementRecipe(steps=2, images=6, last=(BankPart(12, 2),), last_images=4)
    align_decoder(joined, maker, prompt_table(TASKS, tokenizer), [0.1, -0.1], recipe)
    changed = {name for name, each in joined.state_dict().items() if not torch.equal(each, before[name])}
    learning = ("text_decoder.", "visual.mix.", f"own.{OWN}.mix.")
    assert all(name.startswith(learning) for name in changed)
    assert all(any(name.startswith(each) for name in changed) for each in learning)


def test_a_configuration_with_own_towers_survives_its_file(tmp_path: Path) -> None:
    config = ModelConfig(vocabulary_size=61, own_towers={OWN: ("imagenet", "residual")})
    config.save(tmp_path / "model.json")
    assert ModelConfig.load(tmp_path / "model.json") == config
