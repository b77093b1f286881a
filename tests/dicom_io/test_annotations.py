"""Annotations come in from tables and SRs and go out equal."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Outline
from pydicom.sr.codedict import codes
from scipy import ndimage

from radserve.dicom_io.annotation_files import read_dicom
from radserve.dicom_io.annotations import COLUMNS, Annotation, AnnotationTable, Presence, read_csv, write_csv
from radserve.dicom_io.annotations_seg import outer_loops, read_seg
from radserve.dicom_io.annotations_sr import read_sr
from radserve.dicom_io.write_seg import write_seg
from radserve.dicom_io.write_sr import write_sr
from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.references import StudyRef
from tests.support.dicoms import cr, ct_series, save, uid, us
from tests.support.indexed import Site
from tests.support.results import sample_image, sample_result
from tests.support.stored import instance, put
from tests.support.written import ct_images, result_of


def annotation(number: int, **given: object) -> Annotation:
    values = {
        "annotation_uid": "",
        "study_instance_uid": f"1.2.{number % 7}",
        "series_instance_uid": "1.3",
        "sop_instance_uid": f"1.4.{number}",
        "frame": 1 + number % 3,
        "scheme": "SCT",
        "code": "233604007",
        "meaning": 'Pneumonia, "left"\nlower lobe; 肺炎',
        "presence": list(Presence)[number % 4],
        "outline": f"{number / 3} 0.1;7.25 1e-07;{number}.5 9" if number % 2 else "",
        "annotator": "",
    }
    return Annotation(**{**values, **given})  # type: ignore[arg-type]


def written(folder: Path, annotations: list[Annotation]) -> Path:
    path = folder / "table.csv"
    path.write_text(write_csv(annotations), encoding="utf-8", newline="")
    return path


def test_a_table_reads_back_as_it_was_written_and_in_one_order(tmp_path: Path) -> None:
    given = [annotation(number) for number in range(200)]
    read = read_csv(written(tmp_path, given[::-1]))
    assert sorted(read, key=lambda each: each.annotation_uid) == sorted(given, key=lambda each: each.annotation_uid)
    assert write_csv(read) == write_csv(given)
    assert len({each.annotation_uid for each in read}) == 200


async def test_what_is_imported_is_exported_equal_and_once(site: Site, tmp_path: Path) -> None:
    table = AnnotationTable(site.database)
    given = [annotation(number) for number in range(50)]
    assert await table.add(given) == 50
    assert await table.add([*given, annotation(50)]) == 1
    assert write_csv(await table.all()) == write_csv([*given, annotation(50)])
    other = replace(given[0], presence=Presence.UNDETERMINED)
    with pytest.raises(RadserveError, match="one that no other annotation has"):
        await table.add([annotation(60), other])
    assert len(await table.all()) == 51  # all or none


async def test_an_erased_study_takes_its_annotations_along(site: Site) -> None:
    await put(site.store, instance(study="s"))
    study = uid("study", "s")
    table = AnnotationTable(site.database)
    await table.add([annotation(1, study_instance_uid=study), annotation(2)])
    await site.store.erase(StudyRef(study))
    assert await table.all() == [annotation(2)]


@pytest.mark.parametrize("frames", [1, 5])
async def test_the_findings_of_an_sr_come_in_and_go_out_equal(site: Site, tmp_path: Path, frames: int) -> None:
    pixels = np.zeros((frames, 60, 80) if frames > 1 else (60, 80), dtype=np.uint8)
    image = sample_image(us(pixels) if frames > 1 else cr(pixels))
    result = sample_result(image)
    path = tmp_path / "sr.dcm"
    path.write_bytes(write_sr(result))
    found = read_sr(path)
    assert len(found) == len(result.findings)
    for each, finding in zip(found, result.findings, strict=True):
        assert (each.scheme, each.code, each.meaning) == (
            *(finding.code.scheme, finding.code.value),
            finding.code.meaning,
        )
        assert each.presence is (Presence.PRESENT if finding.positive else Presence.ABSENT)
        assert each.sop_instance_uid == finding.region.instance.sop_instance_uid
        assert each.series_instance_uid == finding.region.instance.series_instance_uid
        assert each.frame == finding.region.frame
        points = [tuple(map(float, point.split())) for point in each.outline.split(";")]
        np.testing.assert_allclose(points, finding.region.outline, rtol=1e-6)
        assert "Doe" not in repr(each)
    table = AnnotationTable(site.database)
    await table.add(found)
    assert sorted(read_csv(written(tmp_path, await table.all())), key=repr) == sorted(found, key=repr)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"frame": "0"}, "frame"),
        ({"frame": "one"}, "frame"),
        ({"presence": "perhaps"}, "presence"),
        ({"sop_instance_uid": "../../x"}, "sop_instance_uid"),
        ({"outline": "1 2;3 4"}, "at least 3 points"),
        ({"outline": "1 2;3 4;nan 2"}, "finite"),
        ({"outline": "1,2;3,4;5,6"}, "pairs"),
        ({"code": ""}, "code"),
    ],
)
def test_a_row_that_cannot_be_is_refused_by_its_number(tmp_path: Path, change: dict[str, str], named: str) -> None:
    rows = list(csv.DictReader(io.StringIO(write_csv([annotation(number) for number in range(3)]))))
    rows[1] |= change
    with (tmp_path / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(RadserveError, match=f"row 3: .*{named}") as caught:
        read_csv(tmp_path / "table.csv")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    for text in ("", "a,b\n1,2\n", ",".join((*COLUMNS, "more")) + "\n"):
        path.write_text(text)
        with pytest.raises(RadserveError, match="columns"):
            read_csv(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RadserveError, match="UTF-8"):
        read_csv(path)


def test_an_image_and_a_text_are_no_sr(tmp_path: Path) -> None:
    image = save(cr(np.zeros((8, 8), np.uint16)), tmp_path / "image.dcm")
    text = tmp_path / "text.dcm"
    text.write_text("Doe^Jane")
    for path in (image, text):
        with pytest.raises(DicomError) as caught:
            read_sr(path)
        assert caught.value.code is ErrorCode.NOT_DICOM
        assert "Doe" not in str(caught.value)


def test_outlines_go_exactly_around_the_pixels_of_each_part() -> None:
    random = np.random.default_rng(5)
    for density in (0.1, 0.3, 0.5, 0.7, 0.9):
        for _ in range(4):
            mask = random.random((12, 17)) < density
            points = np.stack(np.meshgrid(np.arange(17) + 0.5, np.arange(12) + 0.5), axis=-1).reshape(-1, 2)
            loops = outer_loops(mask)
            covered = np.zeros(mask.shape, bool)
            for loop in loops:
                covered |= Outline(loop).contains_points(points).reshape(mask.shape)
            np.testing.assert_array_equal(covered, ndimage.binary_fill_holes(mask, np.ones((3, 3))))
            assert len(loops) == ndimage.label(mask)[1]
    assert outer_loops(np.zeros((3, 3), bool)) == []
    assert outer_loops(np.ones((2, 3), bool)) == [[(0, 0), (3, 0), (3, 2), (0, 2), (0, 0)]]


@pytest.mark.parametrize("kind", hd.seg.SegmentationTypeValues)
async def test_segments_come_in_as_outlines_on_their_images(
    site: Site, tmp_path: Path, kind: hd.seg.SegmentationTypeValues
) -> None:
    sources = ct_series(np.zeros((3, 20, 24), np.int16))
    masks = np.zeros((3, 20, 24), np.uint8)
    masks[1, 2:9, 3:8], masks[2, 5:8, 10:20] = 1, 2
    segments = [
        hd.seg.SegmentDescription(
            *(number, f"segment {number}", codes.SCT.AnatomicalStructure, code),
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, code in ((1, codes.SCT.Lung), (2, codes.SCT.Liver))
    ]
    fractional = kind is hd.seg.SegmentationTypeValues.FRACTIONAL
    given = np.stack([masks == 1, masks == 2], axis=-1) * 0.9 if fractional else masks
    uids = (hd.UID(), 1, hd.UID(), 1)
    document = hd.seg.Segmentation(sources, given, kind, segments, *uids, "Maker", "Model", "1", "7")
    path = tmp_path / "seg.dcm"
    document.save_as(path)
    places = [str(source.SOPInstanceUID) for source in sources]  # of a label map the frames come in any order
    found = sorted(read_dicom(path), key=lambda each: places.index(each.sop_instance_uid))
    assert [(each.code, each.outline, each.frame) for each in found] == [
        (codes.SCT.Lung.value, "3.0 2.0;8.0 2.0;8.0 9.0;3.0 9.0;3.0 2.0", 1),
        (codes.SCT.Liver.value, "10.0 5.0;20.0 5.0;20.0 8.0;10.0 8.0;10.0 5.0", 1),
    ]
    assert [each.sop_instance_uid for each in found] == places[1:]
    assert {each.series_instance_uid for each in found} == {str(sources[0].SeriesInstanceUID)}
    assert {(each.presence, each.annotator) for each in found} == {(Presence.PRESENT, "Maker Model")}
    table = AnnotationTable(site.database)
    assert await table.add(found) == 2 and await table.add(read_dicom(path)) == 0
    assert sorted(read_csv(written(tmp_path, await table.all())), key=repr) == sorted(found, key=repr)


def test_our_own_segmentation_comes_in_and_what_is_none_is_refused(tmp_path: Path) -> None:
    images = ct_images()
    result = result_of(images)
    (data,) = write_seg(result, images)
    path = tmp_path / "seg.dcm"
    path.write_bytes(data)
    found = read_dicom(path)
    positive = [finding for finding in result.findings if finding.positive]
    assert {each.sop_instance_uid for each in found} == {each.region.instance.sop_instance_uid for each in positive}
    assert {each.code for each in found} == {each.code.value for each in positive}
    with pytest.raises(DicomError) as caught:
        read_seg(save(cr(np.zeros((8, 8), np.uint8)), tmp_path / "cr.dcm"))
    assert caught.value.code is ErrorCode.UNSUPPORTED_SOP_CLASS
    document = pydicom.dcmread(path)
    del document.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence
    document.save_as(path)
    with pytest.raises(DicomError, match="DerivationImageSequence"):
        read_dicom(path)
