"""Folds keep twins together, leave every image out once and have their share of either state."""

from __future__ import annotations

import numpy as np

from radserve.models.train.folds import left_out, twin_groups


def test_twins_are_on_the_same_side_and_every_image_is_left_out_once() -> None:
    positive, groups = np.arange(60) % 4 == 0, np.repeat(np.arange(30), 2)
    cuts = [left_out(positive, groups, repeat, 5) for repeat in (0, 1)]
    for held in cuts:
        assert sorted(np.concatenate(held)) == list(range(60))
        sides = [set(groups[rows]) for rows in held]
        assert sum(map(len, sides)) == len(set.union(*sides))
        assert {int(positive[rows].sum()) for rows in held} <= {2, 3, 4}
    assert any(not np.array_equal(one, other) for one, other in zip(*cuts, strict=True))


def test_an_image_and_its_brighter_copy_are_one_group_and_the_others_none() -> None:
    images = np.random.default_rng(0).integers(0, 200, (5, 28, 28)).astype(np.uint8)
    groups = twin_groups(np.concatenate([images, images[:1] + 20]))
    assert groups[0] == groups[5] and len(set(groups)) == 5
