"""Packs without prompts and without a decoder: classifiers with maps, segmenters of volumes."""

from __future__ import annotations

import io
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from scipy.ndimage import label as connected

from radserve.dicom_io import write_seg as seg
from radserve.dicom_io.write_outputs import OutputKind, applicable, write_outputs
from radserve.dicom_io.write_sr import write_sr
from radserve.errors import GeometryError
from radserve.models.pack import ModelPack, load_pack
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.study import Analysis, AnalysisRequest, StudyAnalyser
from radserve.references import StudyRef
from tests.support.dicoms import ct_series
from tests.support.other_packs import make_classifier_pack, make_segmenter_pack
from tests.support.pipeline import analyser_of, images_of
from tests.support.written import assert_valid, placed

SHAPE = (8, 40, 32)
SPACING_MM = (2.0, 0.7, 0.7)  # of ct_series: slices, rows, columns
PROMPTLESS = """kind = "output"
graph = "classifier"
output = "logits"
index = 0
activation = "sigmoid"
map = "maps"
"""
AS_IT_IS = '{transform = "Orientation", axcodes = "SPL"}'  # the axes of an axial series, in its own order


async def analysis_of(analyser: StudyAnalyser, uid: str) -> Analysis:
    async with aclosing(analyser.analyse(AnalysisRequest(StudyRef(uid)), Deadline())) as events:
        (found,) = [event async for event in events if isinstance(event, Analysis)]
    return found


def phantom() -> np.ndarray:
    """Soft tissue with a box of bone in some slices and a smaller part of it, and a bubble of air, HU."""
    volume = np.zeros(SHAPE, np.int16)
    volume[2:5, 10:20, 8:25] = 1000
    volume[3, 30:33, 4:7] = 1000
    volume[5:7, 25:35, 20:30] = -1000
    return volume


def study(volume: np.ndarray) -> list:
    return [placed(ds) for ds in ct_series(volume)]


async def segmented(tmp_path: Path, preprocess: str = AS_IT_IS, shape: tuple[int, int, int] = SHAPE) -> tuple:
    images = study(phantom())
    pack = load_pack(make_segmenter_pack(tmp_path / "densities", shape, preprocess))
    analyser, runner, _ = await analyser_of(pack, list(reversed(images)))
    return images, await analysis_of(analyser, images[0].instance.study_instance_uid), runner, pack


async def test_the_mask_of_a_volume_is_on_the_voxels_it_was_planted_in(tmp_path: Path) -> None:
    images, analysis, runner, _ = await segmented(tmp_path)
    bone, air = analysis.result.findings
    assert runner.runs("segmenter") == 1
    for finding, truth in ((bone, phantom() == 1000), (air, phantom() == -1000)):
        assert finding.positive and finding.mask
        found = np.zeros(SHAPE, bool)
        by_uid = {image.instance.sop_instance_uid: at for at, image in enumerate(images)}
        for at, (instance, frame) in enumerate(finding.mask.frames):
            assert frame == 1
            found[by_uid[instance.sop_instance_uid]] = finding.mask.frame(at)
        np.testing.assert_array_equal(found, truth)
        (volume,) = finding.measurements
        expected_ml = truth.sum() * np.prod(images[0].properties.pixel_spacing_mm) * 2.0 / 1000
        assert (volume.name.value, volume.unit.value) == ("118565006", "ml")
        assert volume.value == pytest.approx(expected_ml, rel=1e-6)


async def test_the_region_is_the_largest_part_in_the_slice_with_most_of_it(tmp_path: Path) -> None:
    images, analysis, _, _ = await segmented(tmp_path)
    region = analysis.result.findings[0].region
    assert region.instance == images[3].instance  # the one slice with the smaller part too
    assert region.outline is not None
    assert region.outline.min(axis=0).tolist() == [8.0, 10.0] and region.outline.max(axis=0).tolist() == [25.0, 20.0]
    assert region.heat_map is None


async def test_a_mask_on_a_coarser_grid_comes_back_to_within_a_prepared_voxel(tmp_path: Path) -> None:
    coarse = '{transform = "Orientation", axcodes = "RAS"}, {transform = "Resize", spatial_size = [16, 20, 8]}'
    _, analysis, _, _ = await segmented(tmp_path, coarse, (16, 20, 8))
    outline = analysis.result.findings[0].region.outline
    assert outline is not None
    assert np.abs(outline.min(axis=0) - [8, 10]).max() <= 2  # a prepared voxel is two pixels wide
    assert np.abs(outline.max(axis=0) - [25, 20]).max() <= 2


async def test_what_is_not_there_is_negative_without_a_mask(tmp_path: Path) -> None:
    images = study(np.zeros(SHAPE, np.int16))
    pack = load_pack(make_segmenter_pack(tmp_path / "densities", SHAPE, AS_IT_IS))
    analyser, _, _ = await analyser_of(pack, images)
    result = (await analysis_of(analyser, images[0].instance.study_instance_uid)).result
    assert [finding.positive for finding in result.findings] == [False, False]
    assert all(finding.mask is None and finding.region.outline is None for finding in result.findings)
    assert result.report is not None
    assert "Not found: Bone, Air." in result.report.text and "No finding above threshold." in result.report.text


async def test_a_volume_with_a_gap_is_refused_and_not_guessed(tmp_path: Path) -> None:
    images = study(phantom())
    pack = load_pack(make_segmenter_pack(tmp_path / "densities", SHAPE, AS_IT_IS))
    analyser, _, _ = await analyser_of(pack, [image for at, image in enumerate(images) if at != 3])
    with pytest.raises(GeometryError, match="the step is"):
        await analysis_of(analyser, images[0].instance.study_instance_uid)


async def test_the_draft_of_a_pack_without_a_decoder_says_what_was_found_and_how_it_was_made(tmp_path: Path) -> None:
    _, analysis, _, pack = await segmented(tmp_path)
    assert analysis.result.report is not None
    sections = {section.name: section.text for section in analysis.result.report.sections}
    assert sections["Findings"].startswith("Bone: found, volume ")
    assert sections["Impression"] == "Found: Bone, Air."
    assert sections["Notice"].startswith(f"Draft put together from the findings of {pack.name}")
    assert analysis.result.report.status == "draft"


async def test_the_parametric_map_of_a_segment_holds_its_probabilities_in_the_slice_with_most_of_it(
    tmp_path: Path,
) -> None:
    images, analysis, _, _ = await segmented(tmp_path)
    kinds = applicable(analysis.result, analysis.images, list(OutputKind))
    assert OutputKind.PARAMETRIC_MAP in kinds
    bone, air = write_outputs(analysis.result, analysis.images, [OutputKind.PARAMETRIC_MAP])
    for artifact, at, truth in ((bone, 3, phantom() == 1000), (air, 5, phantom() == -1000)):
        assert_valid(artifact.data, tmp_path)
        ds = pydicom.dcmread(io.BytesIO(artifact.data))
        values = np.frombuffer(ds.FloatPixelData, "<f4").reshape(ds.Rows, ds.Columns)
        assert values.min() >= 0 and values.max() <= 1
        np.testing.assert_array_equal(values > 0.5, truth[at])
        source = ds.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == images[at].instance.sop_instance_uid


async def test_a_structure_that_is_asked_for_itself_is_anatomy_in_the_segmentation(tmp_path: Path) -> None:
    _, analysis, _, _ = await segmented(tmp_path)
    bone, air = analysis.result.findings
    result = replace(analysis.result, findings=(replace(bone, site=bone.code), air))
    (data,) = seg.write_seg(result, analysis.images)
    assert_valid(data, tmp_path)
    whole, found = pydicom.dcmread(io.BytesIO(data)).SegmentSequence
    categories = [each.SegmentedPropertyCategoryCodeSequence[0].CodeValue for each in (whole, found)]
    assert categories == ["91723000", "49755003"]
    assert "AnatomicRegionSequence" not in whole and "AnatomicRegionSequence" in found


@pytest.mark.parametrize("most", [seg.MOST_STACKED, 0], ids=["stacked", "in layers"])
async def test_the_segmentation_object_holds_the_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    images, analysis, _, _ = await segmented(tmp_path)
    monkeypatch.setattr(seg, "MOST_STACKED", most)
    (data,) = seg.write_seg(analysis.result, analysis.images)  # the two do not overlap: one object either way
    assert_valid(data, tmp_path)
    document = hd.seg.Segmentation.from_dataset(pydicom.dcmread(io.BytesIO(data)))
    assert [each.SegmentLabel for each in document.SegmentSequence] == ["AI: Bone", "AI: Air"]
    uids = [image.instance.sop_instance_uid for image in images]
    pixels = document.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    expected = np.stack([phantom() == 1000, phantom() == -1000], axis=-1)
    np.testing.assert_array_equal(pixels, expected)


async def test_overlapping_masks_that_are_large_go_into_objects_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, analysis, _, _ = await segmented(tmp_path)
    bone, air = analysis.result.findings
    result = replace(analysis.result, findings=(bone, replace(air, mask=bone.mask)))
    monkeypatch.setattr(seg, "MOST_STACKED", 0)
    objects = [pydicom.dcmread(io.BytesIO(data)) for data in seg.write_seg(result, analysis.images)]
    assert [[each.SegmentLabel for each in ds.SegmentSequence] for ds in objects] == [["AI: Bone"], ["AI: Air"]]
    assert len({ds.SOPInstanceUID for ds in objects}) == 2
    assert len({ds.SeriesInstanceUID for ds in objects}) == 1


async def test_the_structured_report_has_the_volume(tmp_path: Path) -> None:
    _, analysis, _, _ = await segmented(tmp_path)
    data = write_sr(analysis.result)
    assert_valid(data, tmp_path)
    document = hd.sr.srread(io.BytesIO(data))
    group = document.content.get_planar_roi_measurement_groups()[0]
    (volume,) = [each for each in group.get_measurements() if each.name.value == "118565006"]
    assert volume.value == pytest.approx(analysis.result.findings[0].measurements[0].value)
    assert volume.unit.value == "ml"


async def classified(tmp_path: Path, *, maps: bool = True) -> tuple[Analysis, ModelPack]:
    folder = make_classifier_pack(tmp_path / "halves")
    if not maps:
        text = (folder / "pack.toml").read_text()
        (folder / "pack.toml").write_text(text.replace('map = "maps"\n', ""))
    (image,) = images_of()
    array = np.zeros((1, 56, 42), np.float32)
    array[:, 8:40, 24:36] = 4.0
    image = replace(image, array=array)
    analyser, _, _ = await analyser_of(load_pack(folder), [image])
    return await analysis_of(analyser, image.instance.study_instance_uid), analyser.pack


async def test_a_classifier_is_scored_by_its_own_output_and_its_map_adds_up_to_it(tmp_path: Path) -> None:
    analysis, _ = await classified(tmp_path)
    left, right = analysis.result.findings
    assert right.positive and not left.positive
    assert right.region.heat_map is not None and right.region.outline is not None
    logit = np.log(right.score / (1 - right.score))
    assert right.region.heat_map.values.sum() - 2.0 == pytest.approx(logit, abs=1e-5)
    middle = right.region.outline[:-1].mean(axis=0)
    assert 24 < middle[0] < 36 and 8 < middle[1] < 40


async def test_a_finding_without_a_place_names_its_image_alone(tmp_path: Path) -> None:
    analysis, _ = await classified(tmp_path, maps=False)
    result = analysis.result
    assert all(finding.region.outline is None for finding in result.findings)
    kinds = applicable(result, analysis.images, list(OutputKind))
    assert OutputKind.SEG not in kinds and OutputKind.PARAMETRIC_MAP not in kinds
    for artifact in write_outputs(result, analysis.images, kinds):
        assert_valid(artifact.data, tmp_path)
    document = hd.sr.srread(io.BytesIO(write_sr(result)))
    groups = document.content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["halves/Bright left", "halves/Bright right"]


def test_connected_parts_are_what_the_outline_is_taken_from() -> None:
    assert connected(phantom()[3] == 1000)[1] == 2  # the phantom has two parts in that slice


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("index = 1", "index = 2", "index 2 of output 'logits' (-1, 2), expected (N, K) with index < K"),
        ('output = "logits"', 'output = "scores"', "no output 'scores', only ['logits', 'maps']"),
        ('graph = "classifier"', 'graph = "segmenter"', "no graph for images of this pack"),
        ('map = "maps"', 'map = "logits"', "map 'logits' (-1, 2), expected (N, 2, rows, columns) of an image"),
        ('kind = "output"', 'kind = "guess"', "labels.0.scoring"),
        ('name = "chest radiograph"', 'kind = "volume"\nname = "chest radiograph"', "kind volume, graph 'classifier'"),
        (PROMPTLESS, 'kind = "prompts"\nlogit_scale = 1.0\n', "[files] does not list 'prompts.toml'"),
    ],
)  # fmt: skip
def test_scoring_that_does_not_fit_its_graph_is_refused(tmp_path: Path, old: str, new: str, cause: str) -> None:
    from radserve.errors import PackError

    folder = make_classifier_pack(tmp_path / "halves")
    text = (folder / "pack.toml").read_text()
    assert old in text
    (folder / "pack.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(PackError) as caught:
        load_pack(folder)
    assert cause in caught.value.client_message
