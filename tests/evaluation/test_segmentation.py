"""Agreement of segmentations: the figures are MONAI's, grids are matched without resampling, few patients say so."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy.ndimage import gaussian_filter

from radserve.errors import RadserveError
from radserve.evaluation.gate_measurements import read_measurements
from radserve.evaluation.output import json_text
from radserve.evaluation.segmentation import Agreement, agreement, joined, on_grid_of
from radserve.evaluation.segmentation_summary import CaseAgreement, Resampling, compare_case, summarise
from radserve.geometry import VolumeGeometry
from radserve.segments import MaskBlock, SegmentedVolume

SPACING = (2.5, 0.7, 0.9)
AFFINE = np.array([[0, 0, 0.9, -10], [0, 0.7, 0, 20], [2.5, 0, 0, 5], [0, 0, 0, 1.0]])


def blob(seed: int, shape: tuple[int, int, int] = (12, 20, 22)) -> np.ndarray:
    """A lumpy mask, in several parts and up to the border."""
    return np.asarray(gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2) > 0.03)


def volume(affine: np.ndarray = AFFINE, **masks: np.ndarray) -> SegmentedVolume:
    blocks = {name: MaskBlock.of(mask) for name, mask in masks.items()}
    return SegmentedVolume(VolumeGeometry(affine, next(iter(masks.values())).shape), blocks)


def compared(reference: np.ndarray, predicted: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> Agreement:
    return agreement(MaskBlock.of(reference), MaskBlock.of(predicted), spacing, tolerance)  # type: ignore[arg-type]


def on_grid(block: MaskBlock, shape: tuple[int, int, int] = (12, 20, 22)) -> np.ndarray:
    return np.asarray(block.within((0, 0, 0), shape))


@pytest.mark.parametrize("seed", range(4))
def test_the_figures_are_those_of_monai(seed: int) -> None:
    reference, predicted = blob(seed), blob(seed) ^ blob(seed + 100) if seed % 2 else np.roll(blob(seed), 1, 2)
    found = compared(reference, predicted, SPACING, 1.5)
    one, other = (torch.from_numpy(each[None, None].astype(np.uint8)) for each in (predicted, reference))
    assert found.dice == pytest.approx(compute_dice(one, other).item(), rel=1e-6)
    surface = compute_surface_dice(one, other, [1.5], include_background=True, spacing=SPACING)
    assert found.surface_dice == pytest.approx(surface.item(), rel=1e-6)
    distance = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=SPACING)
    assert found.hd95_mm == pytest.approx(distance.item(), rel=1e-5)
    mean = compute_average_surface_distance(one, other, include_background=True, symmetric=True, spacing=SPACING)
    assert found.assd_mm == pytest.approx(mean.item(), rel=1e-5)
    assert found.reference_ml == pytest.approx(reference.sum() * math.prod(SPACING) / 1000)


def test_two_cubes_a_known_way_apart() -> None:
    reference, predicted = (np.zeros((6, 30, 30), bool) for _ in range(2))
    reference[1:5, 4:12, 4:12] = True
    predicted[1:5, 4:12, 14:22] = True
    found = compared(reference, predicted, (1.0, 1.0, 1.0), 2.0)
    assert found.dice == 0 and found.surface_dice == 0
    assert found.hd95_mm == 10.0  # from the far side of one to the near side of the other: 10 columns, and never less
    assert compared(reference, reference, (1.0, 1.0, 1.0), 0.0) == Agreement(1.0, 1.0, 0.0, 0.0, 0.256, 0.256)


def test_what_was_missed_or_made_up_counts_as_nothing_and_has_no_distance() -> None:
    mask, empty = blob(1), np.zeros((12, 20, 22), bool)
    for reference, predicted in ((mask, empty), (empty, mask)):
        found = compared(reference, predicted, SPACING, 2.0)
        assert (found.dice, found.surface_dice) == (0.0, 0.0)
        assert math.isnan(found.hd95_mm) and math.isnan(found.assd_mm)
    assert math.isnan(compared(empty, empty, SPACING, 2.0).dice)


def test_the_same_voxels_in_another_order_of_axes_and_another_box_are_found() -> None:
    mask = blob(2)
    part = mask[3:9, :, 5:].transpose(2, 0, 1)[::-1]  # (column, slice, row), columns from the far end
    turned = np.zeros((4, 4))
    turned[2, 0], turned[0, 1], turned[1, 2], turned[3, 3] = -1, 1, 1, 1
    turned[:3, 3] = 3, 0, 21
    predicted = on_grid_of(volume(a=mask), volume(AFFINE @ turned, a=np.ascontiguousarray(part)))
    expected = mask.copy()
    expected[:3], expected[9:], expected[:, :, :5] = False, False, False
    np.testing.assert_array_equal(on_grid(predicted.masks["a"]), expected)
    assert predicted.geometry.spacing_mm == pytest.approx(SPACING)


def test_a_prediction_that_reaches_beyond_the_reference_keeps_what_lies_there() -> None:
    mask = blob(3)
    beyond = AFFINE.copy()
    beyond[:3, 3] = AFFINE[:3, 3] - 2 * AFFINE[:3, 0]  # two slices further to the feet
    found = on_grid_of(volume(a=mask[:4]), volume(beyond, a=mask)).masks["a"]
    assert found.voxels == mask.sum()
    np.testing.assert_array_equal(found.within((-2, 0, 0), (10, 20, 22)), mask)


@pytest.mark.parametrize(
    "change",
    [
        lambda affine: affine @ np.diag([1, 1.01, 1, 1]),  # at the last row a fifth of a voxel away
        lambda affine: affine + np.eye(4)[:, [0, 0, 0, 0]] * np.array([0, 0, 0, 0.2]),
        lambda affine: affine @ np.array([[1, 0, 0, 0], [0, 0.8, -0.6, 0], [0, 0.6, 0.8, 0], [0, 0, 0, 1]]),
    ],
    ids=["other spacing", "shifted", "turned"],
)
def test_other_voxels_are_refused_and_not_resampled(change: Any) -> None:
    with pytest.raises(RadserveError, match="do not lie on the same voxels"):
        on_grid_of(volume(a=blob(1)), volume(change(AFFINE), a=blob(1)))


def test_the_parts_of_a_segmentation_are_joined() -> None:
    mask = blob(4)
    first, second = mask.copy(), mask.copy()
    first[6:], second[:6] = False, False
    whole = joined([volume(a=first, b=mask), volume(a=second)])
    np.testing.assert_array_equal(on_grid(whole.masks["a"]), mask)
    np.testing.assert_array_equal(on_grid(whole.masks["b"]), mask)


def cases(*dice: float, patients: tuple[str, ...] = (), structure: str = "liver") -> list[CaseAgreement]:
    return [
        CaseAgreement(str(number), (patients or tuple(map(str, range(len(dice)))))[number], structure, found)
        for number, found in enumerate(Agreement(each, each, 3.0, 1.0, 2.0, 2.0) for each in dice)
    ]


def test_the_interval_of_many_patients_is_that_of_a_plain_bootstrap() -> None:
    dice = np.random.default_rng(0).beta(8, 2, 60)
    result = summarise(cases(*dice), Resampling(4000, 3), 2.0)["structures"]["liver"]["dice"]
    generator = np.random.default_rng(9)
    means = [generator.choice(dice, len(dice)).mean() for _ in range(4000)]
    assert result["value"] == pytest.approx(dice.mean())
    assert result["ci"] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.004)


def test_cases_of_one_patient_are_drawn_together_so_the_interval_is_wider() -> None:
    dice = [0.9, 0.5, 0.8, 0.4, 0.95, 0.6, 0.7, 0.85, 0.55, 0.75]
    alone = summarise(cases(*dice, *dice, *dice), Resampling(), 2.0)["structures"]["liver"]["dice"]["ci"]
    patients = tuple(str(number % 10) for number in range(30))
    together = summarise(cases(*dice, *dice, *dice, patients=patients), Resampling(), 2.0)
    low, high = together["structures"]["liver"]["dice"]["ci"]
    assert together["n_patients"] == 10 and together["n_cases"] == 30
    assert high - low > 1.4 * (alone[1] - alone[0])


def test_one_patient_has_no_interval_and_the_result_says_why() -> None:
    result = summarise(cases(0.8, 0.9, patients=("a", "a")), Resampling(), 2.0)
    assert result["structures"]["liver"]["dice"] == {"value": pytest.approx(0.85), "ci": None}
    assert result["bootstrap"] is None
    (warning,) = result["warnings"]
    assert "one patient: no interval" in warning
    assert '"ci": null' in json_text(result)
    assert "too narrow" in summarise(cases(0.8, 0.9), Resampling(), 2.0)["warnings"][0]


def test_a_structure_that_the_prediction_does_not_name_was_missed_and_one_that_only_it_names_is_left_out() -> None:
    mask, empty = blob(5), np.zeros((12, 20, 22), bool)
    reference, predicted = volume(liver=mask, spleen=mask, kidney=empty), volume(liver=mask, kidney=mask, heart=mask)
    found = compare_case("1", "1", reference, predicted, 2.0) + compare_case("2", "2", reference, reference, 2.0)
    result = summarise(found, Resampling(200), 2.0)
    counts = {name: [each[key] for key in ("n", "n_absent", "missed", "made_up")]
              for name, each in result["structures"].items()}  # fmt: skip
    assert counts == {"liver": [2, 0, 0, 0], "spleen": [2, 0, 1, 0], "kidney": [0, 2, 0, 1]}
    assert result["structures"]["spleen"]["dice"]["value"] == 0.5
    assert result["structures"]["spleen"]["assd_mm"]["value"] == 0.0  # of the one that has a distance
    assert result["mean"]["dice"]["value"] == 0.75  # of liver and spleen: the kidney is in no reference
    assert any(each.startswith("spleen: not found in 1 of 2") for each in result["warnings"])


def test_the_same_inputs_give_the_same_bytes() -> None:
    texts = {json_text(summarise(cases(0.7, 0.8, 0.9), Resampling(50, 1), 2.0)) for _ in range(2)}
    assert len(texts) == 1


def test_a_gate_reads_the_metrics_of_each_structure_and_of_all_together() -> None:
    found = [*cases(0.7, 0.8, 0.9), *cases(0.5, 0.6, 0.4, structure="spleen")]
    measured = read_measurements(json_text(summarise(found, Resampling(100), 2.0)).encode())
    assert measured["liver", "dice"].value == pytest.approx(0.8)
    assert measured["", "dice"].value == pytest.approx(0.65)
    liver = measured["liver", "dice"]
    assert liver.n == 3 and liver.low is not None and liver.high is not None and liver.low < 0.8 < liver.high
    (of_one,) = cases(0.8)
    assert read_measurements(json_text(summarise([of_one], Resampling(), 2.0)).encode())["liver", "dice"].low is None


def test_bad_options_are_refused() -> None:
    for given in ({"replicates": 0}, {"level": 1.0}):
        with pytest.raises(RadserveError):
            Resampling(**given)  # type: ignore[arg-type]
    with pytest.raises(RadserveError, match="no case"):
        summarise([], Resampling(), 2.0)
