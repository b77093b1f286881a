"""render_overlay: the right place, the right size, the right words, the same bytes."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy.ndimage import map_coordinates

from radserve.dicom_io import overlay
from radserve.dicom_io.overlay import BAND_PX, OUTLINE_RGB, overlay_name, picture_size, render_overlay
from radserve.errors import ErrorCode, RadserveError
from radserve.findings import HeatMap
from radserve.geometry import SpatialTransform
from radserve.image import Image
from tests.support.dicoms import cr, us
from tests.support.results import sample_finding, sample_image

GREY = np.full((600, 400), 1000, dtype=np.uint16)


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(data)))


def render(image: Image, **changes: object) -> np.ndarray:
    ((_, data),) = render_overlay(image, [replace(sample_finding(image), **changes)])
    return picture(data)


def with_heat(image: Image, values: np.ndarray, grid_to_source: SpatialTransform) -> np.ndarray:
    finding = sample_finding(image)
    region = replace(finding.region, heat_map=HeatMap(values.astype(np.float32), grid_to_source))
    return render(image, region=region)


def test_the_picture_is_a_png_no_longer_than_1024() -> None:
    image = sample_image(cr(np.zeros((3000, 1000), dtype=np.uint16)))
    ((name, data),) = render_overlay(image, [sample_finding(image)])
    assert data.startswith(b"\x89PNG") and name.endswith("-pneumonia.png")
    assert picture(data).shape[0] == 1024


def test_unequal_pixel_spacing_is_evened_out() -> None:
    square = sample_image(cr(GREY[:400]), pixel_spacing_mm=(2.0, 1.0))
    width, height = picture_size(square)
    assert height == 2 * width


def test_small_frames_are_enlarged() -> None:
    assert picture_size(sample_image(cr(np.zeros((28, 28), dtype=np.uint16)))) == (512, 512)


def test_the_outline_lies_on_the_pixels_it_names() -> None:
    image = sample_image(cr(GREY))
    shown = render(image)
    ys, xs = np.nonzero((shown == OUTLINE_RGB).all(axis=2))
    outline = sample_finding(image).region.outline
    assert abs(xs.min() - outline[:, 0].min()) <= 2 and abs(xs.max() - outline[:, 0].max()) <= 2
    assert abs(ys.min() - BAND_PX - outline[:, 1].min()) <= 2 and abs(ys.max() - BAND_PX - outline[:, 1].max()) <= 2


def test_the_heat_map_lies_where_the_transform_says() -> None:
    image = sample_image(cr(GREY))
    values = np.zeros((6, 4))
    values[1, 2] = 1.0  # a cell of 100 x 100 source pixels, its centre at row 150, column 250
    shown = with_heat(image, values, SpatialTransform.resize((600, 400), (6, 4))).astype(int)
    redness = (shown[..., 0] - shown[..., 2])[BAND_PX:-BAND_PX]
    row, column = np.unravel_index(np.argmax(redness), redness.shape)
    assert abs(row - 150) <= 1 and abs(column - 250) <= 1
    assert redness[450, 50] == 0


def test_the_heat_map_is_bilinear_as_scipy_has_it() -> None:
    values = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    turned = SpatialTransform(np.array([[0.0, 9, 4], [-11, 0, 60], [0, 0, 1]]), (80, 70), (5, 7))  # a quarter turn
    found = overlay._heat(HeatMap(values, turned), (80, 70), np.array([1.0, 1.0]))
    rows, columns = np.mgrid[:80, :70]
    points = turned.inverse().apply(np.stack([rows, columns], axis=-1))
    inside = ((points >= -0.5 + 1e-4) & (points <= np.array([4.5, 6.5]) - 1e-4)).all(axis=-1)
    outside = ((points < -0.5 - 1e-4) | (points > np.array([4.5, 6.5]) + 1e-4)).any(axis=-1)
    expected = map_coordinates(values, np.moveaxis(points, -1, 0), order=1, mode="nearest") / values.max()
    assert 1000 < inside.sum() < inside.size and outside.any()
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)
    assert not found[outside].any()


def test_a_map_that_speaks_against_the_finding_everywhere_colours_nothing() -> None:
    image = sample_image(cr(GREY))
    shown = with_heat(image, -np.ones((6, 4)), SpatialTransform.resize((600, 400), (6, 4)))
    inner = shown[BAND_PX + 200 : BAND_PX + 300, 180:220]
    assert (inner == inner[..., :1]).all()


def test_the_banner_and_the_label_are_written() -> None:
    image = sample_image(cr(GREY))
    shown = render(image)
    assert (shown[:BAND_PX] == overlay.TEXT_RGB).all(axis=2).sum() > 50
    assert (shown[-BAND_PX:] == overlay.TEXT_RGB).all(axis=2).sum() > 50
    other = render(image, probability=0.12)
    assert (other[:BAND_PX] == shown[:BAND_PX]).all()
    assert (other[-BAND_PX:] != shown[-BAND_PX:]).any()


def test_monochrome1_is_shown_as_a_reader_sees_it() -> None:
    ramp = np.tile(np.linspace(0, 4095, 400).astype(np.uint16), (600, 1))
    finding = sample_finding(sample_image(cr(ramp)))
    cold = HeatMap(np.zeros((7, 7), dtype=np.float32), finding.region.heat_map.grid_to_source)
    region = replace(finding.region, heat_map=cold)
    dark_left = render(sample_image(cr(ramp), bits_stored=12), region=region)
    dark_right = render(sample_image(cr(ramp), bits_stored=12, photometric_interpretation="MONOCHROME1"), region=region)
    assert dark_left[300, 20, 0] < 20 < 235 < dark_left[300, 380, 0]
    assert dark_right[300, 20, 0] > 235 > 20 > dark_right[300, 380, 0]


def test_only_findings_of_this_image_are_drawn_each_on_its_frame() -> None:
    frames = np.stack([np.full((64, 64), level, dtype=np.uint8) for level in (10, 200)])
    image, other = sample_image(us(frames)), sample_image(us(frames + 1))
    first, second = sample_finding(image, frame=1), sample_finding(image, "Mass", frame=2)
    drawn = render_overlay(image, [first, sample_finding(other), second])
    assert [name for name, _ in drawn] == [overlay_name(first), overlay_name(second)]
    assert picture(drawn[0][1])[BAND_PX + 5, 5].tolist() != picture(drawn[1][1])[BAND_PX + 5, 5].tolist()


def test_names_differ_by_frame_label_and_instance_and_hold_no_patient_data() -> None:
    image, other = sample_image(us(np.zeros((3, 8, 8), dtype=np.uint8))), sample_image(cr(GREY))
    findings = [
        sample_finding(image),
        sample_finding(image, frame=2),
        sample_finding(image, "Größe / weird\\..label"),
        sample_finding(other),
    ]
    names = [overlay_name(finding) for finding in findings]
    assert len(set(names)) == 4
    assert all(name.replace("-", "").replace(".png", "").isalnum() and name.isascii() for name in names)


def test_two_renderings_are_byte_identical() -> None:
    image = sample_image(cr(GREY))
    findings = [sample_finding(image), sample_finding(image, "Mass", 0.2)]
    assert render_overlay(image, findings) == render_overlay(image, findings)


def test_a_frame_that_is_not_there_is_refused() -> None:
    image = sample_image(cr(GREY))
    with pytest.raises(RadserveError, match="frame_index") as caught:
        render_overlay(image, [sample_finding(image, frame=2)])
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
