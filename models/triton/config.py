"""config.pbtxt of a pack's graph, built as Triton's own ModelConfig message and printed as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf import text_format

from radserve._checks import check_one_of, invalid
from radserve.models.pack import GraphSpec
from radserve.tensors import ModelRef, TensorSpec

Backend = Literal["python", "onnxruntime", "tensorrt"]
BACKENDS: tuple[Backend, ...] = ("python", "onnxruntime", "tensorrt")
Device = Literal["cpu", "gpu"]
Precision = Literal["fp32", "fp16"]
PLAN_FILE = "model.plan"


@dataclass(frozen=True, slots=True)
class TensorRtOptions:
    """How TensorRT builds engines: for `tensorrt` plans, and as the accelerator inside the onnxruntime backend.

    `cache_path` is the folder on the GPU node where the onnxruntime backend keeps the engines it built; without one it
    builds them anew at every load.
    """

    precision: Precision = "fp32"
    workspace_mib: int = 1024
    cache_path: str = ""

    def __post_init__(self) -> None:
        check_one_of("TensorRtOptions.precision", self.precision, ("fp32", "fp16"))
        if self.workspace_mib < 1:
            raise invalid("TensorRtOptions.workspace_mib", self.workspace_mib, "at least 1")


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """How Triton runs the graphs.

    `instances` per graph, each with `threads` intra-op threads. `queue_delay_us` is how long a request may wait for
    others to share a batch: 0 batches what has queued up meanwhile and costs a lone request nothing. Above
    `queue_size` waiting requests a graph refuses more. With `decoder_loop` a pack that writes gets a further model
    that writes whole reports (backend "python" only). The onnxruntime backend runs on `device`, with TensorRT as its
    accelerator where `tensorrt` is given; plans run on a GPU, the Python backend on the CPU.
    """

    backend: Backend = "python"
    device: Device = "cpu"
    tensorrt: TensorRtOptions | None = None
    instances: int = 1
    threads: int = 1
    queue_delay_us: int = 0
    queue_size: int = 1024
    decoder_loop: bool = False

    def __post_init__(self) -> None:
        check_one_of("ServingOptions.backend", self.backend, BACKENDS)
        if min(self.instances, self.threads, self.queue_size) < 1 or self.queue_delay_us < 0:
            raise invalid("ServingOptions", self, "instances, threads and queue_size of at least 1, no negative delay")
        if self.decoder_loop and self.backend != "python":
            raise invalid("ServingOptions.decoder_loop with backend", self.backend, "python")
        check_one_of("ServingOptions.device", self.device, ("cpu", "gpu"))
        needed = {"python": "cpu", "tensorrt": "gpu"}.get(self.backend, self.device)
        if self.device != needed:
            raise invalid("ServingOptions.device", self.device, f"{needed!r} with the {self.backend} backend")
        if self.tensorrt and self.device != "gpu":
            raise invalid("ServingOptions.tensorrt", self.tensorrt, "none without a GPU")


def model_config(model: ModelRef, graph: GraphSpec, options: ServingOptions) -> Any:
    """The `inference.ModelConfig` message of a graph."""
    # Imported at use: the protobuf module registers Triton's messages in the process-wide pool.
    from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

    config = ModelConfig(name=model.name, backend=options.backend, max_batch_size=graph.max_batch_size)
    config.input.extend(tensor_message(spec, "input") for spec in graph.inputs)
    config.output.extend(tensor_message(spec, "output") for spec in graph.outputs)
    kind = ModelInstanceGroup.KIND_GPU if options.device == "gpu" else ModelInstanceGroup.KIND_CPU
    group = config.instance_group.add(kind=kind, count=options.instances)
    if options.backend == "tensorrt":
        config.default_model_filename = PLAN_FILE
        group.profile.extend(str(index) for index in range(len(batch_profiles(graph))))
    elif options.tensorrt:
        accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
        for name, value in _accelerator(options.tensorrt).items():
            accelerator.parameters[name] = value
    batching = config.dynamic_batching
    batching.preferred_batch_size.extend(graph.preferred_batch_sizes)
    batching.max_queue_delay_microseconds = options.queue_delay_us
    # Without this policy Triton ignores the timeout that a request carries.
    batching.default_queue_policy.allow_timeout_override = True
    batching.default_queue_policy.max_queue_size = options.queue_size
    config.version_policy.specific.versions.append(model.version)
    for name, value in _parameters(options).items():
        config.parameters[name].string_value = value
    return config


def config_text(model: ModelRef, graph: GraphSpec, options: ServingOptions) -> str:
    """The content of config.pbtxt."""
    return text_format.MessageToString(model_config(model, graph, options))


def loop_config_text(model: ModelRef, graph: GraphSpec, options: ServingOptions) -> str:
    """The content of config.pbtxt of the loop over the step graph `graph`: a decoupled model, one instance of it.

    One instance decodes the reports of all requests side by side, so more would only share less.
    """
    from tritonclient.grpc import model_config_pb2 as messages

    config = messages.ModelConfig(name=model.name, backend="python")
    dims = graph.tensor("image_tokens").shape[1:]
    config.input.add(name="image_tokens", data_type=messages.TYPE_FP32, dims=dims)
    config.input.add(name="job", data_type=messages.TYPE_UINT8, dims=[-1])
    config.output.add(name="tokens", data_type=messages.TYPE_INT64, dims=[-1])
    config.output.add(name="finished", data_type=messages.TYPE_INT64, dims=[1])
    config.model_transaction_policy.decoupled = True
    config.instance_group.add(kind=messages.ModelInstanceGroup.KIND_CPU, count=1)
    config.version_policy.specific.versions.append(model.version)
    for name, value in {**_parameters(options), "max_rows": str(graph.max_batch_size)}.items():
        config.parameters[name].string_value = value
    return text_format.MessageToString(config)


def batch_profiles(graph: GraphSpec) -> tuple[tuple[int, int, int], ...]:
    """The optimisation profiles of a plan as (least, best, greatest) batch: one for a lone request, one for batches."""
    if graph.max_batch_size == 1:
        return ((1, 1, 1),)
    best = max(graph.preferred_batch_sizes, default=graph.max_batch_size)
    return (1, 1, 1), (1, best, graph.max_batch_size)


def _accelerator(options: TensorRtOptions) -> dict[str, str]:
    # Names of Triton's onnxruntime backend.
    parameters = {
        "precision_mode": options.precision.upper(),
        "max_workspace_size_bytes": str(options.workspace_mib << 20),
    }
    if options.cache_path:
        parameters |= {"trt_engine_cache_enable": "true", "trt_engine_cache_path": options.cache_path}
    return parameters


def _parameters(options: ServingOptions) -> dict[str, str]:
    threads = str(options.threads)
    if options.backend == "python":
        return {"intra_op_threads": threads}
    if options.backend == "tensorrt":
        return {}
    # Names of Triton's onnxruntime backend.
    return {"intra_op_thread_count": threads, "inter_op_thread_count": "1"}


def tensor_message(spec: TensorSpec, side: Literal["input", "output"]) -> Any:
    """A tensor as Triton's ModelInput or ModelOutput."""
    from tritonclient.grpc import model_config_pb2 as messages

    kind = {"float32": messages.TYPE_FP32, "int64": messages.TYPE_INT64}[spec.dtype]
    message = messages.ModelInput if side == "input" else messages.ModelOutput
    return message(name=spec.name, data_type=kind, dims=spec.shape[1:])
