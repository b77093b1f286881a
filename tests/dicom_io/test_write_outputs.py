"""write_outputs: every object of every source is valid, of its study, marked as a draft, the same on every run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from radserve.dicom_io.decode import decode_image
from radserve.dicom_io.derived import COPIED, source_dataset
from radserve.dicom_io.write_base import SERIES, OutputKind
from radserve.dicom_io.write_outputs import OBJECTS, DestinationRole, applicable, default_kinds, write_outputs
from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.references import SourceContext
from radserve.workers import WorkerLimits, WorkerPool
from tests.support.results import PACK, sample_finding, sample_result
from tests.support.written import IMAGES, assert_valid, cr_images, ct_images, negative, read, result_of, us_images

FLAT = (OutputKind.SEG, OutputKind.PARAMETRIC_MAP)


@pytest.mark.parametrize("positive", [True, False], ids=["positive", "negative"])
@pytest.mark.parametrize("name", IMAGES)
def test_every_object_of_every_source_passes_dciodvfy_and_joins_the_study(
    name: str, positive: bool, tmp_path: Path
) -> None:
    images = IMAGES[name]()
    result = result_of(images, positive=positive)
    kinds = applicable(result, images, OutputKind)
    assert (OutputKind.SEG in kinds) == ((positive and "ct" in name) or (positive and "mr" in name))
    expected = source_dataset(result.sources[0])
    for artifact in write_outputs(result, images, kinds):
        assert_valid(artifact.data, tmp_path)
        ds = read(artifact.data)
        for keyword in COPIED:
            assert ds.get(keyword) == expected.get(keyword), (artifact.name, keyword)
        assert ds.StudyInstanceUID == result.study_instance_uid
        assert (ds.Manufacturer, ds.ManufacturerModelName) == ("radserve", PACK.name)
        assert "AI draft" in ds.SeriesDescription and "not verified" in ds.SeriesDescription
        assert ds.SOPClassUID in OBJECTS[OutputKind(artifact.name.split(".")[0].split("-")[0])].sop_class_uids
        assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert "InstanceCreationDate" not in ds and "ContributingEquipmentSequence" not in ds


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("CT_small.dcm", 7),
        ("MR_small.dcm", 7),
        ("eCT_Supplemental.dcm", 7),  # enhanced, two frames
        ("emri_small.dcm", 5),  # enhanced without functional groups, so without a place
        ("US1_UNCR.dcm", 5),  # RGB
        ("examples_ybr_color.dcm", 5),  # cine
        ("examples_palette.dcm", 5),
    ],
)
def test_every_object_of_real_files_as_the_decoder_gives_them_passes_dciodvfy(
    name: str, kinds: int, tmp_path: Path
) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom-data with {name} is not installed")
    images = (decode_image(Path(path)),)
    result = result_of(images)
    chosen = applicable(result, images, OutputKind)
    assert len(chosen) == kinds
    for artifact in write_outputs(result, images, chosen):
        assert_valid(artifact.data, tmp_path)


@pytest.mark.parametrize("name", ["ct", "enhanced ct", "us", "rg1"])
def test_two_writes_are_byte_identical(name: str) -> None:
    def write() -> list[tuple[str, bytes]]:
        images = IMAGES[name]()
        result = result_of(images)
        kinds = applicable(result, images, OutputKind)
        return [(each.name, each.data) for each in write_outputs(result, images, kinds)]

    assert write() == write()


def test_no_two_objects_share_a_uid_and_each_kind_has_its_series() -> None:
    images = ct_images()
    result = result_of(images)
    written = write_outputs(result, images, OutputKind)
    objects = [read(each.data) for each in written]
    assert len({ds.SOPInstanceUID for ds in objects}) == len(objects)
    series = {
        (each.name.split(".")[0].split("-")[0], ds.SeriesInstanceUID) for each, ds in zip(written, objects, strict=True)
    }
    assert len(series) == len({uid for _, uid in series}) == len(OutputKind)
    assert len({ds.SeriesNumber for ds in objects}) == len(OutputKind)
    assert {number for number, _ in SERIES.values()} < {ds.SeriesNumber for ds in objects}


def test_another_pack_digest_or_another_source_gives_other_uids() -> None:
    images = ct_images()
    result = result_of(images)
    uids = [
        {read(each.data).SOPInstanceUID for each in write_outputs(one, images, OutputKind)}
        for one in (result, replace(result, pack=replace(PACK, digest="f" * 64)), _with_one_more_source(result))
    ]
    assert not (uids[0] & uids[1]) and not (uids[0] & uids[2])


def _with_one_more_source(result: object) -> object:
    extra = cr_images(instance="another")[0].source
    return replace(result, sources=(*result.sources, extra))  # type: ignore[attr-defined,type-var]


def test_files_are_named_by_kind_and_number() -> None:
    images = ct_images()
    names = [each.name for each in write_outputs(result_of(images), images, [OutputKind.PARAMETRIC_MAP, OutputKind.SR])]
    assert names == ["sr.dcm", "pmap.dcm", "pmap-2.dcm", "pmap-3.dcm"]


@pytest.mark.parametrize("kind", FLAT)
def test_a_radiograph_is_refused_a_seg_and_a_parametric_map_by_its_modality(kind: OutputKind) -> None:
    images = cr_images()
    with pytest.raises(RadserveError, match=r"modality of a .*\['CR'\].*\['CT', 'MR'\]") as caught:
        write_outputs(result_of(images), images, [kind])
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert applicable(result_of(images), images, [kind]) == ()


def test_slices_without_a_place_are_refused_a_seg_and_it_is_not_applicable() -> None:
    images = tuple(replace(image, planes=()) for image in ct_images())
    result = result_of(images)
    for kind in FLAT:
        with pytest.raises(RadserveError) as caught:
            write_outputs(result, images, [kind])
        assert caught.value.code is ErrorCode.GEOMETRY_MISSING
    assert applicable(result, images, OutputKind) == tuple(kind for kind in OBJECTS if kind not in FLAT)


def test_a_mixed_study_gets_a_seg_of_its_ct_alone() -> None:
    images = (*ct_images(study="mixed"), *us_images(study="mixed"))
    result = sample_result(*images)
    (data,) = OBJECTS[OutputKind.SEG].write(result, images)
    (series,) = read(data).ReferencedSeriesSequence
    listed = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert listed == {image.instance.sop_instance_uid for image in images[:3]}


@pytest.mark.parametrize("kind", [OutputKind.SEG, OutputKind.PRESENTATION_STATE, OutputKind.SECONDARY_CAPTURE])
def test_an_image_that_was_not_handed_in_is_refused(kind: OutputKind) -> None:
    images = ct_images()
    with pytest.raises(RadserveError, match="images") as caught:
        write_outputs(result_of(images), images[:1], [kind])
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("kind", OutputKind)
def test_a_finding_on_an_unknown_instance_is_refused(kind: OutputKind) -> None:
    images = ct_images()
    result = replace(result_of(images), sources=(images[0].source,))
    with pytest.raises(RadserveError, match=r"StudyResult\.sources") as caught:
        write_outputs(result, images, [kind])
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("kind", OutputKind)
def test_a_header_that_is_not_dicom_gives_an_error_without_its_bytes(kind: OutputKind) -> None:
    images = ct_images()
    sources = tuple(SourceContext(image.instance, b"Doe^Jane is not a header") for image in images)
    with pytest.raises(DicomError) as caught:
        write_outputs(replace(result_of(images), sources=sources), images, [kind])
    assert caught.value.code is ErrorCode.INVALID_HEADER
    assert "Doe" not in str(caught.value)


def test_a_label_beyond_the_source_character_set_turns_the_objects_into_utf_8(tmp_path: Path) -> None:
    images = ct_images(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
    finding = replace(sample_finding(images[0]), label="肺炎", tracking_identifier="肺炎 1")
    result = sample_result(*images, findings=(finding,))
    for artifact in write_outputs(result, images, OutputKind):
        assert_valid(artifact.data, tmp_path)
        ds = read(artifact.data)
        assert (ds.SpecificCharacterSet, ds.PatientName) == ("ISO_IR 192", "Müller^Jürgen")
    for artifact in write_outputs(result_of(images), images, OutputKind):
        ds = read(artifact.data)
        assert (ds.SpecificCharacterSet, ds.PatientName) == ("ISO_IR 100", "Müller^Jürgen")


def test_default_destinations_keep_presentation_states_from_viewers() -> None:
    viewer, pacs = default_kinds(DestinationRole.VIEWER), default_kinds(DestinationRole.PACS)
    assert OutputKind.PRESENTATION_STATE in pacs and OutputKind.PRESENTATION_STATE not in viewer
    assert set(viewer) | set(pacs) == set(OutputKind)


def test_negative_results_write_no_seg_and_no_map() -> None:
    images = ct_images()
    assert write_outputs(negative(result_of(images)), images, FLAT) == ()


async def test_objects_are_written_in_a_worker_under_its_limits_as_in_this_process() -> None:
    images = us_images()
    result = result_of(images)
    kinds = applicable(result, images, OutputKind)
    pool = WorkerPool(name="test", size=1, limits=WorkerLimits(2 << 30, 30.0, 60.0))
    try:
        written = await pool.run(write_outputs, result, images, kinds)
    finally:
        await pool.close()
    assert [(one.name, one.data) for one in written] == [
        (one.name, one.data) for one in write_outputs(result, images, kinds)
    ]


def test_no_warning_quotes_the_patient(recwarn: pytest.WarningsRecorder) -> None:
    images = cr_images(PatientName="Doe^Jane")
    write_outputs(result_of(images), images, applicable(result_of(images), images, OutputKind))
    assert [str(each.message) for each in recwarn if "Doe" in str(each.message)] == []
