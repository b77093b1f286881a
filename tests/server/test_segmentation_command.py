"""`radserve evaluate segmentation` from files: SEG of any form and NIfTI give the same masks; refusals name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel
import numpy as np
import pytest
from pydicom.sr.codedict import codes
from typer.testing import CliRunner

from radserve.dicom_io.read_masks import read_masks
from radserve.dicom_io.write_seg import write_seg
from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.segmentation import on_grid_of
from radserve.server.cli import app
from tests.support.dicoms import cr, ct_series, save
from tests.support.written import ct_images, result_of

SHAPE = (5, 20, 24)
ORIGIN, STEP_MM, PIXEL_MM = (-12.0, 7.0, -40.0), 2.0, 0.7
KINDS = hd.seg.SegmentationTypeValues


def masks() -> np.ndarray:
    """Label map: 1 on slices 1 to 3, 2 on slice 3 alone."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 2:9, 3:8], labels[3, 5:8, 10:20] = 1, 2
    return labels


def seg(path: Path, labels: np.ndarray, kind: KINDS = KINDS.BINARY, names: tuple[str, ...] = ("lung", "liver")) -> Path:
    segments = [
        hd.seg.SegmentDescription(
            *(number, name, codes.SCT.AnatomicalStructure, codes.SCT.Lung), hd.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, name in enumerate(names, start=1)
    ]
    fractional = kind is KINDS.FRACTIONAL
    given = np.stack([labels == 1, labels == 2], axis=-1) * 0.9 if fractional else labels
    sources = ct_series(np.zeros(SHAPE, np.int16), origin=ORIGIN, step_mm=STEP_MM)
    uids = (hd.UID(), 1, hd.UID(), 1)
    hd.seg.Segmentation(sources, given, kind, segments, *uids, "Maker", "Model", "1", "7").save_as(path)
    return path


def nifti(path: Path, labels: np.ndarray, *, coded: bool = True) -> Path:
    """The label map as other programs write it: axes (x, y, z), world to the right, front and head."""
    affine = np.diag([-PIXEL_MM, -PIXEL_MM, STEP_MM, 1.0])
    affine[:3, 3] = -ORIGIN[0], -ORIGIN[1], ORIGIN[2]
    image = nibabel.Nifti1Image(np.ascontiguousarray(labels.transpose(2, 1, 0)), affine)
    nibabel.save(image, path)
    if not coded:  # qform_code and sform_code of the header
        content = path.read_bytes()
        path.write_bytes(content[:252] + bytes(4) + content[256:])
    return path


def evaluated(folder: Path, rows: str, *options: str) -> dict[str, Any]:
    (folder / "cases.csv").write_text(rows)
    arguments = ["evaluate", "segmentation", str(folder / "cases.csv"), *options, "--json", str(folder / "out.json")]
    run = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    found: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return found


def refusal(folder: Path, rows: str, *options: str) -> RadserveError:
    with pytest.raises(RadserveError) as caught:
        evaluated(folder, rows, *options)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_seg_of_every_form_and_a_nifti_file_give_the_same_masks(tmp_path: Path, kind: KINDS) -> None:
    found = read_masks(seg(tmp_path / "seg.dcm", masks(), kind))
    names = {"1": "lung", "2": "liver", "liver": "liver of a segment"}
    reference = read_masks(nifti(tmp_path / "labels.nii.gz", masks()), names)
    predicted = on_grid_of(reference, found)
    for name, voxels in (("lung", 105), ("liver", 30)):
        truth = reference.masks[name]
        assert (truth.start, truth.voxels) == (predicted.masks[name].start, voxels)
        np.testing.assert_array_equal(truth.inside, predicted.masks[name].inside, name)
    # The first voxel of the lung: slice 1, row 2, column 3.
    np.testing.assert_allclose(
        reference.geometry.to_patient(reference.masks["lung"].start),
        [ORIGIN[0] + 3 * 0.7, ORIGIN[1] + 2 * 0.7, ORIGIN[2] + 2],
        atol=1e-4,
    )


def test_two_cases_are_compared_structure_by_structure(tmp_path: Path) -> None:
    labels = masks()
    shifted = np.roll(labels, 1, axis=2)
    seg(tmp_path / "a.dcm", labels), seg(tmp_path / "b.dcm", shifted)
    nifti(tmp_path / "a.nii.gz", labels), nifti(tmp_path / "b.nii", labels)
    (tmp_path / "structures.csv").write_text("value,structure\n1,lung\n2,liver\n")
    rows = "case,prediction,reference\na,a.dcm,a.nii.gz\nb,b.dcm,b.nii\n"
    found = evaluated(tmp_path, rows, "--structures", str(tmp_path / "structures.csv"), "--bootstrap", "100")
    assert {(each["case"], each["structure"]): each["dice"] for each in found["cases"]} == {
        ("a", "lung"): 1.0, ("a", "liver"): 1.0, ("b", "lung"): pytest.approx(0.8), ("b", "liver"): pytest.approx(0.9),
    }  # fmt: skip
    assert found["structures"]["lung"]["dice"]["value"] == pytest.approx(0.9)
    assert found["cases"][2]["hd95_mm"] == pytest.approx(PIXEL_MM, rel=1e-4)
    assert found["structures"]["lung"]["reference_ml"] == pytest.approx(105 * 2 * 0.49 / 1000, rel=1e-4)


def test_a_seg_against_a_seg_needs_no_names_and_a_table_may_rename_segments(tmp_path: Path) -> None:
    seg(tmp_path / "a.dcm", masks()), seg(tmp_path / "b.dcm", masks(), names=("left lung", "right lung"))
    rows = "case,patient,prediction,reference\na,p,a.dcm,a.dcm\n"
    found = evaluated(tmp_path, rows)
    assert set(found["structures"]) == {"lung", "liver"}
    assert "one patient: no interval" in found["warnings"][0]
    (tmp_path / "s.csv").write_text("value,structure\nlung,lungs\nliver,lungs\nleft lung,lungs\nright lung,lungs\n")
    rows = "case,prediction,reference\na,a.dcm,b.dcm\n"
    found = evaluated(tmp_path, rows, "--structures", str(tmp_path / "s.csv"))
    assert found["structures"]["lungs"]["dice"]["value"] == 1.0


def test_a_result_folder_is_read_with_all_its_segs_under_their_labels(tmp_path: Path) -> None:
    images = ct_images()
    result = result_of(images)
    (tmp_path / "results").mkdir()
    for number, data in enumerate(write_seg(result, images), start=1):
        (tmp_path / "results" / f"seg-{number}.dcm").write_bytes(data)
    found = evaluated(tmp_path, "case,prediction,reference\na,results,results\n")
    assert set(found["structures"]) == {each.label for each in result.findings if each.positive}
    assert {each["dice"] for each in found["cases"]} == {1.0}


def test_what_cannot_be_compared_is_refused_with_its_name(tmp_path: Path) -> None:
    (
        seg(tmp_path / "a.dcm", masks()),
        nifti(tmp_path / "a.nii", masks()),
        nifti(tmp_path / "n.nii", masks(), coded=False),
    )
    save(cr(np.zeros((8, 8), np.uint8)), tmp_path / "cr.dcm")
    (tmp_path / "text.nii.gz").write_text("no")
    (tmp_path / "empty").mkdir()
    (tmp_path / "s.csv").write_text("value,structure\n1,lung\nlung,lung\n")
    (tmp_path / "other.csv").write_text("value,structure\nheart,heart\n")
    named, other = ("--structures", str(tmp_path / "s.csv")), ("--structures", str(tmp_path / "other.csv"))
    for reference, options, code, text in (
        ("a.nii", (), ErrorCode.INVALID_ARGUMENT, "its values need names"),
        ("a.nii", other, ErrorCode.INVALID_ARGUMENT, "no whole number was given a name"),
        ("n.nii", named, ErrorCode.GEOMETRY_MISSING, "does not say where its voxels are"),
        ("cr.dcm", (), ErrorCode.UNSUPPORTED_SOP_CLASS, "'cr.dcm' is no segmentation"),
        ("text.nii.gz", named, ErrorCode.INVALID_ARGUMENT, "cannot be read as NIfTI"),
        ("cases.csv", (), ErrorCode.NOT_DICOM, "'cases.csv' is neither DICOM nor"),
        ("gone.dcm", (), ErrorCode.INVALID_ARGUMENT, "'gone.dcm' is not a file"),
        ("empty", (), ErrorCode.INVALID_ARGUMENT, "the folder 'empty' has no seg"),
    ):
        error = refusal(tmp_path, f"case,prediction,reference\na,a.dcm,{reference}\n", *options)
        assert (error.code, text in error.client_message) == (code, True), error
    smaller = nibabel.Nifti1Image(masks(), np.eye(4))
    nibabel.save(smaller, tmp_path / "elsewhere.nii")
    error = refusal(tmp_path, "case,prediction,reference\na7,a.dcm,elsewhere.nii\n", *named)
    assert "case 'a7': the two segmentations do not lie on the same voxels" in error.client_message
    twice = refusal(tmp_path, "case,prediction,reference\na,a.dcm,a.dcm\na,a.dcm,a.dcm\n")
    assert "names a case twice" in twice.client_message
