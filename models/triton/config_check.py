"""Holds config.pbtxt, and a whole model repository, to the graphs of a pack. A site may have changed them."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format

from radserve._checks import invalid
from radserve.models.pack import GraphSpec, ModelPack
from radserve.models.triton.config import PLAN_FILE, tensor_message
from radserve.tensors import ModelRef

MODEL_FILE, CONFIG_FILE = "model.onnx", "config.pbtxt"


def check_config(text: str, model: ModelRef, graph: GraphSpec) -> None:
    """Raise INVALID_ARGUMENT naming the field in which a config.pbtxt does not fit the graph.

    Instances, batching and accelerators are the site's; name, version, batch size and tensors are not.
    """
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    try:
        config = text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise invalid(f"{model.name} config.pbtxt", str(error), "a ModelConfig of Triton") from error
    wanted: list[tuple[str, object, object]] = [
        ("name", config.name, model.name),
        ("version_policy", list(config.version_policy.specific.versions), [model.version]),
        ("max_batch_size", config.max_batch_size, graph.max_batch_size),
    ]
    for side, described, tensors in (("input", config.input, graph.inputs), ("output", config.output, graph.outputs)):
        found = {each.name: each for each in described}
        wanted.append((f"{side} names", sorted(found), sorted(spec.name for spec in tensors)))
        for spec in tensors:
            if spec.name in found:
                each, wants = found[spec.name], tensor_message(spec, "input")
                kinds = type(each).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
                types = kinds[each.data_type].name, kinds[wants.data_type].name
                wanted.append((f"{side} {spec.name} type", *types))
                wanted.append((f"{side} {spec.name} dims", list(each.dims), list(wants.dims)))
    for field, got, expected in wanted:
        if got != expected:
            raise invalid(f"{model.name} config.pbtxt: {field}", got, f"{expected}, as the graph has it")


def check_repository(pack: ModelPack, folder: Path) -> tuple[ModelRef, ...]:
    """Hold a repository on disk to the graphs of `pack` and return its models.

    Raises INVALID_ARGUMENT naming the model and the field that does not fit, or what is missing.
    """
    for name, graph in pack.graphs.items():
        model = pack.model(name)
        try:
            text = (folder / model.name / CONFIG_FILE).read_text(encoding="utf-8")
        except OSError as error:
            raise invalid(f"{model.name} config.pbtxt", error.strerror, "a file in the repository") from error
        check_config(text, model, graph)
        version = folder / model.name / str(model.version)
        files = sorted(path.name for path in version.iterdir()) if version.is_dir() else []
        if not {MODEL_FILE, PLAN_FILE} & set(files):
            raise invalid(f"{model.name} version {model.version}", files, f"{MODEL_FILE} or {PLAN_FILE} in it")
    return tuple(pack.models)
