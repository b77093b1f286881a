"""PyTorch to ONNX: writes the graphs of a pack, weights inside the files."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from radserve.models.export.graphs import ImageEncoder, TextEncoder
from radserve.models.pack_graphs import IMAGE_ENCODER
from radserve.models.train.architecture import IMAGE_CHANNELS, RadCoCa
from radserve.models.train.decoder_step import DecoderStep

OPSET = 18


@dataclass(frozen=True)
class GraphPlan:
    """A module, example inputs whose first axis is the batch, and the names of the graph's ends."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: Sequence[str]

    @property
    def file_name(self) -> str:
        return f"{self.name}.onnx"


def encoder_name(input_name: str, own: Container[str]) -> str:
    """The graph that sees the images of an input."""
    return f"{IMAGE_ENCODER}_{input_name}" if input_name in own else IMAGE_ENCODER


def plans(model: RadCoCa) -> tuple[GraphPlan, ...]:
    """The graphs; the batch of two keeps the exporter from fixing the batch size."""
    config, batch = model.config, 2
    length = config.context_length
    encoders = (
        GraphPlan(
            encoder_name(name, config.own_towers),
            ImageEncoder(model, name),
            {"pixels": torch.zeros(batch, 1, 28, 28)},
            ("embedding", "image_tokens", "patch_embeddings"),
        )
        for name in ("", *config.own_towers)
    )
    return (
        *encoders,
        GraphPlan(
            "text_encoder",
            TextEncoder(model),
            {"tokens": torch.full((batch, length), config.end_id, dtype=torch.int64)},
            ("embedding",),
        ),
        GraphPlan(
            "decoder_step",
            DecoderStep(model),
            {
                "token": torch.ones(batch, 1, dtype=torch.int64),
                "position": torch.zeros(batch, 1, dtype=torch.int64),
                "image_tokens": torch.zeros(batch, config.patches, IMAGE_CHANNELS),
                "cache": torch.zeros(batch, 2 * config.cached_layers, length, config.text_width),
            },
            ("logits", "cache_out"),
        ),
    )


def write_graphs(model: RadCoCa, folder: Path) -> None:
    """Export every graph of `model` into `folder` and check each file with the ONNX checker."""
    for plan in plans(model):
        write_graph(plan, folder / plan.file_name)


def write_graph(plan: GraphPlan, path: Path) -> None:
    """Export one graph, weights inside the file, first axes free, and check it with the ONNX checker."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.onnx.export(
        plan.module.eval(),
        tuple(plan.inputs.values()),
        input_names=list(plan.inputs),
        output_names=list(plan.outputs),
        dynamic_shapes=tuple({0: batch} for _ in plan.inputs),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError(f"the exporter returned nothing for {plan.name}")
    _keep_names_single(program, plan.outputs)
    program.save(str(path), external_data=False)
    onnx.save(_without_metadata(onnx.load(path)), path)
    onnx.checker.check_model(str(path), full_check=True)


def _without_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the exporter's stack traces: they are a tenth of the file and name folders of this machine."""
    graph = model.graph
    parts: tuple[Any, ...] = (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output)
    for part in (*parts, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def _keep_names_single(program: torch.onnx.ONNXProgram, outputs: Sequence[str]) -> None:
    # The exporter names values after their operator and then outputs after us: two values may end up as `embedding`.
    for node in program.model.graph:
        for value in node.outputs:
            if value.name in outputs and not value.is_graph_output():
                value.name = f"{value.name}_inner"
