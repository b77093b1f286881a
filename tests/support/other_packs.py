"""Packs of the other kinds, as small as can be: a classifier of images, a segmenter of volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.packs import seal

HEAD = """\
schema = 2
name = "{name}"
version = "1.0.0"
model_version = 1
licence = "Apache-2.0"
description = "Made for tests."
initialised_from = "nothing"
risk_tier = "I"

[graphs.{graph}]
file = "{graph}.onnx"
max_batch_size = 4
"""
CLASSIFIER = """
[[inputs]]
name = "chest radiograph"
modalities = ["CR", "DX"]
body_parts = ["CHEST"]
labels = ["Bright left", "Bright right"]
preprocess = [{transform = "Resize", spatial_size = [28, 28], mode = "area"}]
""" + "".join(
    f"""
[[labels]]
name = "{name}"
code = {{value = "{code}", scheme = "SCT", meaning = "{name}"}}
site = {{value = "39607008", scheme = "SCT", meaning = "Lung"}}
threshold = 0.5
[labels.scoring]
kind = "output"
graph = "classifier"
output = "logits"
index = {index}
activation = "sigmoid"
map = "maps"
"""
    for index, (name, code) in enumerate((("Bright left", "1"), ("Bright right", "2")))
)
SEGMENTER = """
[[inputs]]
name = "chest CT"
kind = "volume"
modalities = ["CT"]
body_parts = []
labels = ["Bone", "Air"]
preprocess = [{preprocess}]

[[labels]]
name = "Bone"
code = {{value = "272673000", scheme = "SCT", meaning = "Bone structure"}}
site = {{value = "51185008", scheme = "SCT", meaning = "Thorax"}}
threshold = 0.5
[labels.scoring]
kind = "mask"
graph = "segmenter"
output = "mask"
channel = 0
activation = "sigmoid"
least_voxels = 20

[[labels]]
name = "Air"
code = {{value = "15158005", scheme = "SCT", meaning = "Air"}}
site = {{value = "51185008", scheme = "SCT", meaning = "Thorax"}}
threshold = 0.5
[labels.scoring]
kind = "mask"
graph = "segmenter"
output = "mask"
channel = 1
activation = "sigmoid"
least_voxels = 20
"""


def make_classifier_pack(folder: Path, name: str = "halves") -> Path:
    """Two labels: how bright the left and the right half of the (28, 28) image are; maps that add up to the logits."""
    halves = np.zeros((2, 1, 28, 28), np.float32)
    halves[0, 0, :, :14] = halves[1, 0, :, 14:] = 4 / (28 * 14)
    nodes = [
        helper.make_node("Mul", ["image", "halves"], ["parts"]),
        helper.make_node("AveragePool", ["parts"], ["means"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Mul", ["means", "cell"], ["maps"]),
        helper.make_node("ReduceSum", ["maps", "places"], ["sums"], keepdims=0),
        helper.make_node("Add", ["sums", "bias"], ["logits"]),
    ]
    weights = {
        "halves": halves.reshape(1, 2, 28, 28),
        "cell": np.array([16.0], np.float32),
        "places": np.array([2, 3]),
        "bias": np.array([-2.0, -2.0], np.float32),
    }
    outputs = {"logits": (2,), "maps": (2, 7, 7)}
    return _write(folder, HEAD.format(name=name, graph="classifier") + CLASSIFIER, "classifier",
                  _model(nodes, {"image": (1, 28, 28)}, outputs, weights))  # fmt: skip


def make_segmenter_pack(
    folder: Path, shape: tuple[int, int, int], preprocess: str, name: str = "densities", bone: float = 300.0
) -> Path:
    """Bone above `bone` HU and air below -500, each a channel of logits, on volumes prepared to `shape`."""
    nodes = [
        helper.make_node("Mul", ["volume", "slopes"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offsets"], ["mask"]),
    ]
    per_channel = (1, 2, 1, 1, 1)
    weights = {
        "slopes": np.array([0.1, -0.1], np.float32).reshape(per_channel),
        "offsets": np.array([-0.1 * bone, -50.0], np.float32).reshape(per_channel),
    }
    model = _model(nodes, {"volume": (1, *shape)}, {"mask": (2, *shape)}, weights)
    toml = HEAD.format(name=name, graph="segmenter") + SEGMENTER.format(preprocess=preprocess)
    return _write(folder, toml, "segmenter", model)


def _write(folder: Path, toml: str, graph: str, model: onnx.ModelProto) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pack.toml").write_text(toml)
    (folder / f"{graph}.onnx").write_bytes(model.SerializeToString())
    (folder / "MODEL_CARD.md").write_text("# Made for tests\n")
    return seal(folder)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    outputs: dict[str, tuple[int, ...]],
    weights: dict[str, np.ndarray],
) -> onnx.ModelProto:
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in side.items()]
        for side in (inputs, outputs)
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "small", *ends, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
