"""The model repository: what Triton will read back is the graphs, the options and nothing else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as messages

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.models.pack import GRAPH_NAMES, ModelPack, load_pack
from radserve.models.triton.config import ServingOptions, TensorRtOptions
from radserve.models.triton.config_check import check_repository
from radserve.models.triton.repository import write_repository
from tests.support.packs import make_tiny_pack

TYPES = {"float32": messages.TYPE_FP32, "int64": messages.TYPE_INT64}


@pytest.fixture
def pack(tmp_path: Path) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path / "tiny"))


def read_config(folder: Path, model: str) -> Any:
    return text_format.Parse((folder / model / "config.pbtxt").read_text(), messages.ModelConfig())


@pytest.mark.parametrize("graph", GRAPH_NAMES)
def test_config_pbtxt_parses_back_to_the_graph(pack: ModelPack, tmp_path: Path, graph: str) -> None:
    options = ServingOptions(instances=2, threads=3, queue_delay_us=500, queue_size=99)
    write_repository([pack], tmp_path / "models", options)
    config, spec = read_config(tmp_path / "models", f"tiny--1.0.0--{graph}"), pack.graphs[graph]
    assert (config.name, config.backend, config.max_batch_size) == (
        f"tiny--1.0.0--{graph}",
        "python",
        spec.max_batch_size,
    )
    for described, tensors in ((config.input, spec.inputs), (config.output, spec.outputs)):
        assert [(each.name, each.data_type, tuple(each.dims)) for each in described] == [
            (each.name, TYPES[each.dtype], each.shape[1:]) for each in tensors
        ]
    assert tuple(config.dynamic_batching.preferred_batch_size) == spec.preferred_batch_sizes
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert config.dynamic_batching.default_queue_policy.allow_timeout_override
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 99
    assert [(group.kind, group.count) for group in config.instance_group] == [(messages.ModelInstanceGroup.KIND_CPU, 2)]
    assert list(config.version_policy.specific.versions) == [1]
    assert config.parameters["intra_op_threads"].string_value == "3"


def test_version_folders_hold_the_packs_own_graphs(pack: ModelPack, tmp_path: Path) -> None:
    models = write_repository([pack], tmp_path / "models")
    assert models == tuple(pack.models)
    for model, graph in pack.models.items():
        version = tmp_path / "models" / model.name / "1"
        assert {path.name for path in version.iterdir()} == {"model.onnx", "model.py", "onnx_graph.py"}
        assert (version / "model.onnx").read_bytes() == (pack.folder / graph.file).read_bytes()


def test_an_outside_tritons_onnxruntime_backend_gets_the_graph_alone(pack: ModelPack, tmp_path: Path) -> None:
    write_repository([pack], tmp_path / "models", ServingOptions(backend="onnxruntime", threads=2))
    model = tmp_path / "models" / "tiny--1.0.0--text_encoder"
    assert [path.name for path in (model / "1").iterdir()] == ["model.onnx"]
    config = read_config(tmp_path / "models", "tiny--1.0.0--text_encoder")
    assert config.backend == "onnxruntime"
    assert config.parameters["intra_op_thread_count"].string_value == "2"


def test_writing_again_replaces_these_models_and_leaves_others_alone(pack: ModelPack, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    write_repository([pack], folder)
    (folder / "tiny--1.0.0--text_encoder" / "1" / "left-over").touch()
    (folder / "another").mkdir()
    write_repository([pack], folder, ServingOptions(backend="onnxruntime"))
    assert [path.name for path in (folder / "tiny--1.0.0--text_encoder" / "1").iterdir()] == ["model.onnx"]
    assert {path.name for path in folder.iterdir()} == {"another", *(f"tiny--1.0.0--{name}" for name in GRAPH_NAMES)}


def test_a_graph_altered_since_the_pack_was_loaded_is_not_served(pack: ModelPack, tmp_path: Path) -> None:
    (pack.folder / "text_encoder.onnx").write_bytes(b"other")
    with pytest.raises(PackError) as caught:
        write_repository([pack], tmp_path / "models")
    assert caught.value.code is ErrorCode.PACK_HASH_MISMATCH
    assert not (tmp_path / "models" / "tiny--1.0.0--text_encoder").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"instances": 0},
        {"threads": 0},
        {"queue_delay_us": -1},
        {"backend": "openvino"},
        {"backend": "python", "device": "gpu"},
        {"backend": "tensorrt"},
        {"backend": "onnxruntime", "tensorrt": TensorRtOptions()},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RadserveError) as caught:
        ServingOptions(**wrong)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("file", ["model.py", "onnx_graph.py"])
def test_what_the_backend_runs_imports_numpy_and_onnxruntime_alone(pack: ModelPack, tmp_path: Path, file: str) -> None:
    write_repository([pack], tmp_path / "models")
    source = (tmp_path / "models" / "tiny--1.0.0--text_encoder" / "1" / file).read_text()
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    beside = {"numpy", "onnxruntime", "onnx_graph", "triton_python_backend_utils"}
    assert imported - set(sys.stdlib_module_names) <= beside


def test_tensorrt_is_the_accelerator_of_onnxruntime_on_a_gpu(pack: ModelPack, tmp_path: Path) -> None:
    tensorrt = TensorRtOptions("fp16", workspace_mib=512, cache_path="/var/engines")
    write_repository([pack], tmp_path, ServingOptions(backend="onnxruntime", device="gpu", tensorrt=tensorrt))
    config = read_config(tmp_path, "tiny--1.0.0--image_encoder")
    assert [group.kind for group in config.instance_group] == [messages.ModelInstanceGroup.KIND_GPU]
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert dict(accelerator.parameters) == {
        "precision_mode": "FP16",
        "max_workspace_size_bytes": str(512 * 1024 * 1024),
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": "/var/engines",
    }


def test_a_gpu_without_tensorrt_has_no_accelerator(pack: ModelPack, tmp_path: Path) -> None:
    write_repository([pack], tmp_path, ServingOptions(backend="onnxruntime", device="gpu"))
    assert not read_config(tmp_path, "tiny--1.0.0--image_encoder").HasField("optimization")


@pytest.mark.parametrize("backend", ["python", "onnxruntime"])
def test_a_repository_as_written_fits_its_graphs(pack: ModelPack, tmp_path: Path, backend: Any) -> None:
    written = write_repository([pack], tmp_path, ServingOptions(backend=backend))
    assert check_repository(pack, tmp_path) == written


@pytest.mark.parametrize(
    ("found", "changed", "named"),
    [
        ('name: "tokens"', 'name: "words"', "input names"),
        ("TYPE_INT64", "TYPE_INT32", "input tokens type: got 'TYPE_INT32'"),
        ("dims: 24", "dims: 25", r"input tokens dims: got \[25\]"),
        ("max_batch_size: 64", "max_batch_size: 128", "max_batch_size: got 128"),
        ("versions: 1", "versions: 2", "version_policy"),
        ('name: "tiny--1.0.0--text_encoder"', 'name: "other"', "name: got 'other'"),
        ("max_batch_size", "max_butch_size", "a ModelConfig of Triton"),
    ],
)
def test_a_config_that_is_not_the_graphs_is_refused_by_name(
    pack: ModelPack, tmp_path: Path, found: str, changed: str, named: str
) -> None:
    write_repository([pack], tmp_path, ServingOptions(backend="onnxruntime"))
    path = tmp_path / "tiny--1.0.0--text_encoder" / "config.pbtxt"
    text = path.read_text()
    assert found in text
    path.write_text(text.replace(found, changed, 1))
    with pytest.raises(RadserveError, match=named) as caught:
        check_repository(pack, tmp_path)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "tiny--1.0.0--text_encoder" in caught.value.client_message


def test_a_site_may_change_instances_and_batching(pack: ModelPack, tmp_path: Path) -> None:
    write_repository([pack], tmp_path, ServingOptions(backend="onnxruntime", instances=7, queue_delay_us=900))
    assert check_repository(pack, tmp_path)


def test_a_repository_without_a_graph_is_refused(pack: ModelPack, tmp_path: Path) -> None:
    write_repository([pack], tmp_path, ServingOptions(backend="onnxruntime"))
    (tmp_path / "tiny--1.0.0--text_encoder" / "1" / "model.onnx").unlink()
    with pytest.raises(RadserveError, match=r"model\.onnx or model\.plan in it"):
        check_repository(pack, tmp_path)
