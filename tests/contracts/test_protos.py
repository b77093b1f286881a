"""The generated stubs in the tree are those of the .proto files, and the API is what the documents say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUBS = sorted(path.name for path in (ROOT / "proto/radserve/v1").glob("*_pb2*"))


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stubs")
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([str(ROOT / "proto/generate.sh"), str(out)], check=True, env=environment)
    return out / "radserve/v1"


def test_there_is_a_stub_for_each_service_and_message_file(generated: Path) -> None:
    assert sorted(path.name for path in generated.iterdir()) == STUBS


@pytest.mark.parametrize("name", STUBS)
def test_a_stub_in_the_tree_is_current(name: str, generated: Path) -> None:
    assert (ROOT / "proto/radserve/v1" / name).read_text() == (generated / name).read_text()


def test_the_services_have_the_methods_that_integrators_script_against() -> None:
    from radserve.v1 import inference_pb2, model_pb2, review_pb2, study_pb2

    methods = {
        f"{service.name}.{method.name}"
        for file in (study_pb2, inference_pb2, model_pb2, review_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods == {
        "StudyService.ImportInstances",
        "StudyService.GetStudy",
        "StudyService.ListStudies",
        "InferenceService.ClassifyLesions",
        "InferenceService.GenerateReport",
        "InferenceService.AnalyseStudy",
        "ModelService.ListModels",
        "ModelService.LoadModel",
        "ModelService.UnloadModel",
        "ModelService.PromoteModel",
        "ModelService.RollbackModel",
        "ModelService.ShadowModel",
        "ModelService.DeprecateModel",
        "ReviewService.RecordReview",
    }
