"""The training loop on a few seeded images: reproducible, balanced, and it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.agreement import AgreementRecipe, BankPart, align_decoder
from radserve.models.train.architecture import ModelConfig, Normalisation, RadCoCa
from radserve.models.train.augment import Augmentation
from radserve.models.train.batches import BatchMaker, caption_table, prompt_table
from radserve.models.train.data import TASKS, LabelledImages, load_split
from radserve.models.train.ensemble import join
from radserve.models.train.loop import Recipe, train
from radserve.models.train.objective import contrast_loss, trimmed
from radserve.models.train.wordings import START_TOKENS

_RECIPE = Recipe(steps=3, quotas=(3, 3), warm_up_steps=1, pretrained=False)
_AGREEMENT = AgreementRecipe(steps=2, images=6, last=(BankPart(12, 2), BankPart(6, 1)), last_images=4)
_SMALL = {
    "embedding_size": 16,
    "text_width": 112,  # that of the image tokens
    "text_layers": 1,
    "multimodal_layers": 1,
    "image_size": 32,
}


@pytest.fixture(scope="module")
def maker(tokenizer: PackTokenizer) -> BatchMaker:
    generator = torch.Generator().manual_seed(0)
    positive = torch.arange(12) % 3 == 0
    images = torch.randint(0, 120, (12, 1, 28, 28), generator=generator, dtype=torch.uint8)
    images[positive, :, 8:20, 8:20] += 120
    splits = [LabelledImages(images, positive), LabelledImages(255 - images, positive)]
    return BatchMaker(TASKS, splits, caption_table(TASKS, tokenizer), _RECIPE.quotas, Augmentation())


def _train(maker: BatchMaker, tokenizer: PackTokenizer, recipe: Recipe) -> tuple[RadCoCa, list[float]]:
    losses: list[float] = []
    config = ModelConfig(vocabulary_size=tokenizer.vocabulary_size, **_SMALL)
    prompts = prompt_table(TASKS, tokenizer)
    return train(config, recipe, maker, prompts, lambda _, loss: losses.append(loss)), losses


def test_the_same_seed_gives_the_same_losses_and_weights(maker: BatchMaker, tokenizer: PackTokenizer) -> None:
    (one, losses), (other, again) = (_train(maker, tokenizer, _RECIPE) for _ in range(2))
    assert len(losses) == 3 and losses == again
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_another_seed_gives_other_losses(maker: BatchMaker, tokenizer: PackTokenizer) -> None:
    assert _train(maker, tokenizer, _RECIPE)[1] != _train(maker, tokenizer, replace(_RECIPE, seed=8))[1]


def test_training_lowers_the_loss(maker: BatchMaker, tokenizer: PackTokenizer) -> None:
    _, losses = _train(maker, tokenizer, replace(_RECIPE, steps=40, warm_up_steps=5))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_teaching_the_decoder_leaves_the_scores_alone(maker: BatchMaker, tokenizer: PackTokenizer) -> None:
    model, _ = _train(maker, tokenizer, _RECIPE)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    align_decoder(
        model,
        maker,
        prompt_table(TASKS, tokenizer),
        [0.1, -0.1],
        _AGREEMENT,
    )
    changed = {name for name, each in model.state_dict().items() if not torch.equal(each, before[name])}
    assert changed and all(name.startswith("text_decoder.") for name in changed)


def _members(maker: BatchMaker, tokenizer: PackTokenizer) -> list[RadCoCa]:
    """Two networks of different seeds with the same frozen stages."""
    one, other = (_train(maker, tokenizer, replace(_RECIPE, seed=seed))[0] for seed in (1, 2))
    with pytest.raises(ValueError, match="need the same frozen stages"):
        join([one, other])
    other.visual.frozen.load_state_dict(one.visual.frozen.state_dict())
    return [one, other]


def test_joined_members_score_the_mean_of_their_scores(maker: BatchMaker, tokenizer: PackTokenizer) -> None:
    members = _members(maker, tokenizer)
    joint = join(members)
    pixels = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    prompts = prompt_table(TASKS[:1], tokenizer)[0, :, 0]  # one prompt of each state
    with torch.inference_mode():
        cosines = [each.encode_image(pixels) @ each.encode_text(prompts).T for each in (*members, joint)]
        embedding, tokens, patches = joint.visual.with_patches(pixels)
        _, first_tokens = members[0]._encode_image(pixels)
    torch.testing.assert_close(cosines[2], (cosines[0] + cosines[1]) / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(patches.sum(dim=1), embedding, atol=1e-6, rtol=0)
    torch.testing.assert_close(tokens, first_tokens, atol=1e-5, rtol=1e-5)


def test_the_decoder_of_joined_members_learns_with_its_mix_and_the_scores_stay(
    maker: BatchMaker, tokenizer: PackTokenizer
) -> None:
    joint = join(_members(maker, tokenizer))
    before = {name: each.clone() for name, each in joint.state_dict().items()}
    align_decoder(
        joint,
        maker,
        prompt_table(TASKS, tokenizer),
        [0.1, -0.1],
        _AGREEMENT,
    )
    changed = {name for name, each in joint.state_dict().items() if not torch.equal(each, before[name])}
    assert {name.split(".")[0] for name in changed} == {"text_decoder", "visual"}
    assert all(name.startswith(("text_decoder.", "visual.mix.")) for name in changed)


def test_an_image_and_its_mirror_image_have_mirrored_maps_at_inference(tokenizer: PackTokenizer) -> None:
    model = RadCoCa(ModelConfig(vocabulary_size=tokenizer.vocabulary_size, **_SMALL)).eval()
    pixels = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (plain, _), (mirrored, _) = model.visual(pixels), model.visual(pixels.flip(3))
    torch.testing.assert_close(plain, mirrored, atol=1e-5, rtol=1e-4)


def test_the_frozen_stages_stay_as_they_were(maker: BatchMaker, tokenizer: PackTokenizer) -> None:
    model, _ = _train(maker, tokenizer, _RECIPE)
    torch.manual_seed(_RECIPE.seed)
    drawn = RadCoCa(ModelConfig(vocabulary_size=tokenizer.vocabulary_size, **_SMALL))
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            model.visual.frozen.state_dict().values(), drawn.visual.frozen.state_dict().values(), strict=True
        )
    )


def test_padding_that_all_texts_share_makes_no_difference(tokenizer: PackTokenizer) -> None:
    model = RadCoCa(ModelConfig(vocabulary_size=tokenizer.vocabulary_size, **_SMALL)).eval()
    texts = prompt_table(TASKS, tokenizer).reshape(-1, 64)
    short = trimmed(texts, model.pad_id)
    assert short.shape[1] < 20
    with torch.inference_mode():
        torch.testing.assert_close(model.encode_text(short), model.encode_text(texts), atol=1e-6, rtol=0)


def test_a_batch_has_as_many_images_of_either_state(maker: BatchMaker) -> None:
    (batch,) = maker.batches(1, torch.Generator().manual_seed(0))
    assert batch.tasks.tolist() == [0] * 6 + [1] * 6
    assert batch.positive.tolist() == [False] * 3 + [True] * 3 + [False] * 3 + [True] * 3
    assert batch.pixels.shape == (12, 1, 28, 28) and batch.pixels.dtype == torch.float32


def test_the_caption_of_an_image_is_of_its_own_task_and_state(maker: BatchMaker, tokenizer: PackTokenizer) -> None:
    (batch,) = maker.batches(1, torch.Generator().manual_seed(0))
    for index, caption in zip(batch.captioned.tolist(), batch.captions, strict=True):
        task = TASKS[int(batch.tasks[index])]
        state, first = bool(batch.positive[index]), int(caption[0])
        (language,) = [each for each, token in START_TOKENS.items() if tokenizer.special_id(token) == first]
        reports = {tuple(tokenizer.encode_words(text)) for text in task.wording.reports(state, language)}
        assert tuple(token for token in caption[1:].tolist() if token not in (tokenizer.end_id, 0)) in reports


def test_augmented_pixels_stay_in_range_and_near_their_image() -> None:
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0.2, 0.8, 28).expand(8, 1, 28, 28)
    changed = Augmentation().apply(ramp, torch.zeros(8, dtype=torch.bool), generator)
    assert float(changed.min()) >= 0 and float(changed.max()) <= 1
    assert not torch.equal(changed, ramp)
    assert bool((changed[..., 20:].mean(dim=(1, 2, 3)) > changed[..., :8].mean(dim=(1, 2, 3))).all())  # never mirrored


def test_no_augmentation_is_no_change() -> None:
    still = Augmentation(shift=0, rotation_degrees=0, scale=0, brightness=0, contrast=0, log_gamma=0, noise=0)
    pixels = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)).clamp(0.01, 1)
    unchanged = still.apply(pixels, torch.zeros(4, dtype=torch.bool), torch.Generator())
    torch.testing.assert_close(unchanged, pixels, atol=1e-5, rtol=0)


@pytest.mark.parametrize("normalisation", [Normalisation(), Normalisation(per_image=True)], ids=("fixed", "per image"))
def test_normalisation_is_the_one_of_monai(normalisation: Normalisation) -> None:
    from monai.transforms import NormalizeIntensity

    fixed = {"subtrahend": normalisation.subtrahend, "divisor": normalisation.divisor}
    monai = NormalizeIntensity(**({} if normalisation.per_image else fixed))
    pixels = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([torch.as_tensor(monai(image)) for image in pixels])
    torch.testing.assert_close(normalisation.apply(pixels), expected, atol=1e-5, rtol=1e-5)


def test_a_configuration_survives_its_file(tmp_path: Path) -> None:
    config = ModelConfig(vocabulary_size=61, normalisation=Normalisation(per_image=True))
    config.save(tmp_path / "model.json")
    assert ModelConfig.load(tmp_path / "model.json") == config


def test_malignant_is_label_zero_of_the_breast_images(tmp_path: Path) -> None:
    images = np.zeros((3, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "breastmnist.npz", val_images=images, val_labels=np.array([[0], [1], [1]], dtype=np.uint8))
    assert load_split(tmp_path, TASKS[1], "val").positive.tolist() == [True, False, False]


def test_texts_of_the_same_class_all_count_as_matches() -> None:
    images = torch.eye(2)[[0, 0, 1]]
    texts = torch.eye(2)[[0, 1, 0]]
    classes, scale = torch.tensor([0, 0, 1]), torch.tensor(20.0)
    aligned = contrast_loss(images, texts, classes, torch.tensor([0, 1, 0]), scale)
    crossed = contrast_loss(images, texts, classes, torch.tensor([1, 0, 1]), scale)
    # Two equal matches share the probability: log 2 for each of the two images and for the two texts' two images.
    assert float(aligned) == pytest.approx(2 / 3 * np.log(2), abs=1e-4)
    assert float(crossed) > 10
