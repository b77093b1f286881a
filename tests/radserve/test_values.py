"""The core's value types: valid on construction, read-only, silent about patients."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from radserve import errors, findings, image, references, tensors
from radserve.clinical_context import ClinicalContext, LaboratoryValue
from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.findings import CodedConcept, Finding, HeatMap, Region
from radserve.geometry import SpatialTransform, VolumeGeometry
from radserve.image import Image, PixelProperties, PlanePosition, Provenance, Volume
from radserve.references import AcquisitionContext, InstanceRef, SeriesRef, SourceContext, StudyRef
from radserve.reports import Report, ReportSection
from radserve.results import PackRef, StudyResult
from radserve.tensors import InferenceRequest, InferenceResponse, ModelRef, PreparedInput, TensorSpec

INSTANCE = InstanceRef("1.2.1", "1.2.2", "1.2.3", "1.2.840.10008.5.1.4.1.1.1")
SOURCE = SourceContext(INSTANCE, b"Doe^Jane")
CONTEXT = AcquisitionContext("CR")
PROPERTIES = PixelProperties("MONOCHROME2", 12, (0.0, 4095.0))
PROVENANCE = Provenance("1.2.840.10008.1.2.1")
CODE = CodedConcept("1", "SCT", "meaning")
SQUARE = np.array([[0, 0], [0, 4], [4, 4], [4, 0], [0, 0]])


def heat_map() -> HeatMap:
    return HeatMap(np.zeros((2, 2), np.float32), SpatialTransform.resize((8, 8), (2, 2)))


def region() -> Region:
    return Region(INSTANCE, 1, SQUARE, heat_map())


def finding(**changes: object) -> Finding:
    values: dict[str, object] = {
        "label": "Pneumonia", "code": CODE, "site": CODE, "score": 0.5, "probability": 0.6, "threshold": 0.5,
        "region": region(), "tracking_identifier": "a", "tracking_uid": "2.25.1",
    }  # fmt: skip
    return Finding(**{**values, **changes})  # type: ignore[arg-type]


def make_image(array: np.ndarray, **changes: object) -> Image:
    return Image(array, PROPERTIES, PROVENANCE, CONTEXT, SOURCE, **changes)  # type: ignore[arg-type]


def refused(message: str):
    return pytest.raises(RadserveError, match=message)


@pytest.mark.parametrize("uid", ["", "1..2", "1.2.a", "1.2.", "1." * 40 + "1", "../1", "1.2\0", "1.²", "1 .2"])
def test_what_is_no_uid_is_refused_wherever_it_stands(uid: str) -> None:
    with refused("study_instance_uid"):
        StudyRef(uid)
    with refused("series_instance_uid"):
        SeriesRef("1.2", uid)
    with refused("sop_class_uid"):
        InstanceRef("1.2", "1.3", "1.4", uid)


def test_an_instance_knows_its_series_and_study() -> None:
    assert INSTANCE.series == SeriesRef("1.2.1", "1.2.2")
    assert INSTANCE.series.study == StudyRef("1.2.1")


@pytest.mark.parametrize("age", [-1, 200, float("nan")])
def test_an_age_outside_of_life_is_refused(age: float) -> None:
    with refused("age_years"):
        AcquisitionContext("CR", age_years=age)
    with refused("age_years"):
        ClinicalContext(age_years=age)


def test_a_source_context_needs_a_header_and_does_not_show_it() -> None:
    with refused("header"):
        SourceContext(INSTANCE, b"")
    assert "Doe" not in repr(SOURCE)


@pytest.mark.parametrize(
    "changes",
    [
        {"photometric_interpretation": "RGB"},
        {"bits_stored": 0},
        {"value_range": (1.0, 1.0)},
        {"value_range": (float("nan"), 1.0)},
        {"pixel_spacing_mm": (0.0, 1.0)},
    ],
)
def test_pixel_properties_that_mean_nothing_are_refused(changes: dict[str, object]) -> None:
    with refused(next(iter(changes))):
        dataclasses.replace(PROPERTIES, **changes)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4)), np.zeros((0, 4, 4)), np.zeros((1, 4, 4), complex), np.zeros((1, 4, 4), bool)]
)
def test_an_image_is_a_stack_of_real_numbers(array: np.ndarray) -> None:
    with refused("Image.array"):
        make_image(array)


def test_an_image_cannot_be_written_and_does_not_lock_the_array_it_was_made_of() -> None:
    array = np.zeros((2, 4, 4), np.uint16)
    result = make_image(array)
    with pytest.raises(ValueError, match="read-only"):
        result.array[0, 0, 0] = 1
    array[0, 0, 0] = 1
    assert (result.frames, result.instance) == (2, INSTANCE)


def test_an_image_stays_read_only_across_processes() -> None:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(make_image(np.ones((1, 4, 4), np.uint16)), protocol=5, buffer_callback=buffers.append)
    copy = pickle.loads(data, buffers=buffers)
    assert np.array_equal(copy.array, np.ones((1, 4, 4)))
    assert not copy.array.flags.writeable


def test_planes_are_one_for_each_frame_or_none() -> None:
    plane = PlanePosition((1, 0, 0, 0, 1, 0), (0, 0, 0))
    assert len(make_image(np.zeros((2, 4, 4)), planes=(plane, plane)).planes) == 2
    with refused("planes"):
        make_image(np.zeros((2, 4, 4)), planes=(plane,))


@pytest.mark.parametrize(
    ("orientation", "position"), [((1, 0, 0), (0, 0, 0)), ((1, 0, 0, 0, 1, float("nan")), (0, 0, 0))]
)
def test_a_plane_without_a_place_is_refused(orientation, position) -> None:
    with refused("image_orientation"):
        PlanePosition(orientation, position)


def test_a_volume_is_float32_of_its_geometrys_shape() -> None:
    geometry = VolumeGeometry(np.eye(4), (2, 3, 4))
    for array in (np.zeros((2, 3, 4)), np.zeros((2, 3, 5), np.float32)):
        with refused("Volume.array"):
            Volume(array, geometry, PROPERTIES, PROVENANCE, CONTEXT, (SOURCE,))  # type: ignore[arg-type]
    volume = Volume(np.zeros((2, 3, 4), np.float32), geometry, PROPERTIES, PROVENANCE, CONTEXT, (SOURCE,))
    assert not volume.array.flags.writeable


@pytest.mark.parametrize(
    ("dtype", "shape"), [("float64", (-1, 3)), ("float32", (3,)), ("float32", (2, 3)), ("float32", (-1, -1))]
)
def test_a_tensor_specification_has_a_free_batch_and_fixed_sizes(dtype: str, shape: tuple[int, ...]) -> None:
    with refused("TensorSpec"):
        TensorSpec("x", dtype, shape)


def test_a_tensor_is_held_against_its_specification() -> None:
    spec = TensorSpec("x", "float32", (-1, 1, 4))
    spec.check(np.zeros((3, 1, 4), np.float32))
    for array in (np.zeros((3, 1, 4)), np.zeros((3, 4), np.float32), np.zeros((0, 1, 4), np.float32)):
        with refused("tensor x"):
            spec.check(array)


def test_requests_and_responses_hold_read_only_tensors() -> None:
    model = ModelRef("m", 1)
    request = InferenceRequest(model, {"x": np.zeros((1, 2))})
    response = InferenceResponse(model, {"y": np.zeros((1, 2))})
    for array in (request.inputs["x"], response.outputs["y"]):
        assert not array.flags.writeable
    with pytest.raises(TypeError):
        request.inputs["x"] = np.zeros(1)  # type: ignore[index]
    with refused("inputs"):
        InferenceRequest(model, {})
    for name, version in (("", 1), ("m", 0)):
        with refused("ModelRef"):
            ModelRef(name, version)


@pytest.mark.parametrize(
    "tensor",
    [np.zeros((1, 4, 4)), np.full((1, 4, 4), np.nan, np.float32), np.zeros((1, 4, 5), np.float32)],
)
def test_a_prepared_input_is_finite_and_of_its_transforms_shape(tensor: np.ndarray) -> None:
    with refused("tensor"):
        PreparedInput(tensor, SpatialTransform.identity((4, 4)), PROVENANCE)  # type: ignore[arg-type]


def test_a_finding_is_positive_from_its_threshold_on() -> None:
    assert finding(probability=0.5, threshold=0.5).positive
    assert not finding(probability=0.4999, threshold=0.5).positive


@pytest.mark.parametrize("name", ["score", "probability", "threshold"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_scores_and_probabilities_are_from_0_to_1(name: str, value: float) -> None:
    with refused(name):
        finding(**{name: value})


def test_a_region_is_a_closed_polygon_in_a_frame_counted_from_1() -> None:
    for outline in (SQUARE[:-1], SQUARE[:2], SQUARE[:, :1], np.zeros(4)):
        with refused("outline"):
            Region(INSTANCE, 1, outline, heat_map())
    with refused("frame"):
        Region(INSTANCE, 0, SQUARE, heat_map())
    assert not region().outline.flags.writeable


def test_a_heat_map_has_the_shape_of_its_grid() -> None:
    with refused("HeatMap"):
        HeatMap(np.zeros((3, 2), np.float32), SpatialTransform.resize((8, 8), (2, 2)))


@pytest.mark.parametrize("missing", ["value", "scheme", "meaning"])
def test_a_code_has_value_scheme_and_meaning(missing: str) -> None:
    with refused("CodedConcept"):
        dataclasses.replace(CODE, **{missing: ""})


def test_a_report_is_always_a_draft() -> None:
    report = Report((ReportSection("Findings", "Clear lungs."), ReportSection("Impression", "Normal.")))
    assert report.status == "draft"
    assert report.text == "FINDINGS\nClear lungs.\n\nIMPRESSION\nNormal.\n"
    with refused("draft"):
        Report((), status="final")


def test_a_result_has_a_study_and_findings() -> None:
    pack = PackRef("p", "1", 1, "00")
    assert StudyResult("1.2", (), (finding(),), None, pack, ClinicalContext(), (SOURCE,)).findings
    with refused("findings"):
        StudyResult("1.2", (), (), None, pack, ClinicalContext(), (SOURCE,))
    with refused("study_instance_uid"):
        StudyResult("x", (), (finding(),), None, pack, ClinicalContext(), (SOURCE,))


def test_a_context_that_is_too_long_is_refused_and_not_repeated() -> None:
    ClinicalContext("x" * 100_000, laboratory_values=(LaboratoryValue("CRP", "12", "mg/l"),) * 1_000)
    with pytest.raises(RadserveError) as caught:
        ClinicalContext("Doe " * 30_000)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "got 120000, expected at most 100000" in caught.value.client_message and "Doe" not in str(caught.value)
    with refused("its unit"):
        LaboratoryValue("CRP", "12", "m" * 2_001)
    with refused("laboratory_values"):
        ClinicalContext(laboratory_values=(LaboratoryValue("CRP", "12"),) * 1_001)


@pytest.mark.parametrize(("name", "value"), [("", "12"), ("CRP", ""), (" ", "12"), ("CRP", " ")])
def test_a_laboratory_value_has_a_name_and_a_value(name: str, value: str) -> None:
    with refused("laboratory value"):
        LaboratoryValue(name, value)


@pytest.mark.parametrize(("name", "value"), [("sex", "X"), ("prior_study_instance_uid", "yes")])
def test_a_clinical_context_that_means_nothing_is_refused(name: str, value: str) -> None:
    with refused(name):
        ClinicalContext(**{name: value})


def test_an_error_keeps_code_texts_and_class_across_processes() -> None:
    error = DicomError(ErrorCode.TRUNCATED, "for the client", detail="for the log")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, copy.client_message, copy.detail) == (
        DicomError, ErrorCode.TRUNCATED, "for the client", "for the log",
    )  # fmt: skip
    assert str(copy) == "TRUNCATED: for the log"
    assert RadserveError(ErrorCode.INTERNAL, "x").detail == "x"


def test_every_code_is_its_own_wire_form() -> None:
    assert all(code.value == code.name for code in ErrorCode)


@pytest.mark.parametrize("module", [references, image, tensors, findings])
def test_every_value_type_is_frozen(module: object) -> None:
    types = [item for item in vars(module).values() if dataclasses.is_dataclass(item)]
    assert types
    assert all(item.__dataclass_params__.frozen for item in types)


def test_every_error_class_is_an_error_of_ours() -> None:
    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, Exception)]
    assert len(classes) >= 7
    assert all(issubclass(item, RadserveError) for item in classes)


CORE = ["errors", "references", "geometry", "voi", "image", "tensors", "findings", "ports", "workers"]


def test_the_core_imports_nothing_but_numpy_and_the_standard_library() -> None:
    imports = "; ".join(f"import radserve.{name}" for name in CORE)
    report = "import sys; print({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    output = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; before = set(sys.modules); {imports}; {report}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    loaded = {name for name in eval(output) if not name.startswith(("__", "_"))}
    allowed = {"radserve", "numpy", "sitecustomize", "cython_runtime"}
    started = subprocess.run([sys.executable, "-I", "-c", report], capture_output=True, text=True, check=True).stdout
    assert loaded - eval(started) <= allowed
    assert importlib.import_module("radserve.ports")
