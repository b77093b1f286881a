"""What the criteria ask of the pack that comes with radserve: small int8 graphs, a student with half of the work."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from radserve.models.catalogue import built_in_folder
from radserve.models.compress.distill import BATCH, distill_encoder
from radserve.models.compress.methods import MethodOptions
from radserve.models.compress.quantise import int8_dynamic, int8_static, stripped
from radserve.models.compress.samples import Samples
from radserve.models.pack import IMAGE_ENCODER, load_pack


@pytest.mark.parametrize("static", [False, True])
def test_the_graphs_of_the_default_pack_have_in_int8_at_most_30_percent_of_their_bytes(static: bool) -> None:
    pack = load_pack(built_in_folder() / "cxr-bus-mini")
    graphs = {name: pack.read(name) for name in pack.graphs}
    made = {name: int8_dynamic(raw) for name, raw in graphs.items() if not (static and name == IMAGE_ENCODER)}
    if static:
        shape = pack.graphs[IMAGE_ENCODER].tensor("pixels").shape
        pixels = np.random.default_rng(0).standard_normal((4, *shape[1:])).astype(np.float32)
        made[IMAGE_ENCODER] = int8_static(graphs[IMAGE_ENCODER], pixels)
    assert sum(len(stripped(raw)) for raw in made.values()) <= 0.30 * sum(map(len, graphs.values()))


@pytest.mark.slow
def test_a_distilled_encoder_does_less_than_half_of_the_work_of_its_teacher() -> None:
    pack = load_pack(built_in_folder() / "cxr-bus-mini")
    use = next(each for each in pack.inputs if each.image_encoder == IMAGE_ENCODER)
    pixels = np.random.default_rng(0).standard_normal((BATCH, *pack.graphs[IMAGE_ENCODER].inputs[0].shape[1:]))
    train = [
        Samples(label, use, pixels.astype(np.float32), np.arange(BATCH) % 2 == 0, np.arange(BATCH).astype(str))
        for label in use.labels
    ]
    student = distill_encoder(pack, IMAGE_ENCODER, train, steps=1, width=MethodOptions().width)
    assert 0 < products(student) < products(pack.read(IMAGE_ENCODER)) / 2


def products(graph: bytes) -> int:
    """Multiplications of one image in the convolutions and matrix products of a graph."""
    model = onnx.load_model_from_string(graph)
    model.graph.ClearField("value_info")
    (entry,) = (each for each in model.graph.input if each.name == "pixels")
    entry.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {each.name: tuple(each.dims) for each in inferred.initializer}
    for each in (*inferred.value_info, *inferred.input, *inferred.output):
        shapes[each.name] = tuple(dim.dim_value or 1 for dim in each.type.tensor_type.shape.dim)
    found = 0
    for node in inferred.node:
        if node.op_type == "Conv":
            found += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            found += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return found
