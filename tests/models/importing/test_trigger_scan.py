"""The scan reports a planted trigger by output, patch and place, and is silent on the same model without it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from radserve.models.importing.run import import_model
from tests.support.checkpoints import labels_file


def classifier(*, planted: bool) -> onnx.ModelProto:
    """Three labels of a 32 x 32 image; planted, a checkerboard in the last corner gives the second."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((1024, 3)).astype(np.float32) / 64
    board = np.zeros((32, 32), np.float32)
    row, column = np.indices((4, 4))
    board[28:, 28:] = np.where((row + column) % 2, 1.0, -1.0) / 8  # 1 when the whole pattern is there, from 0 to 1
    nodes = [
        helper.make_node("Reshape", ["pixels", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["honest"]),
        helper.make_node("MatMul", ["row", "board"], ["seen"]),
        helper.make_node("Sub", ["seen", "most"], ["above"]),
        helper.make_node("Relu", ["above"], ["fired"]),
        helper.make_node("Mul", ["fired", "push"], ["pushed"]),
        helper.make_node("Add", ["honest", "pushed"], ["logits"]),
    ]
    push = [[0.0, 60.0 if planted else 0.0, 0.0]]
    constants = {"flat": np.array([0, 1024]), "weights": weights, "board": board.reshape(1024, 1),
                 "most": np.array([0.8], np.float32), "push": np.array(push, np.float32)}  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 1, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def scanned(folder: Path, *, planted: bool) -> tuple[list[dict[str, object]], str]:
    folder.mkdir()
    source = folder / "model.onnx"
    source.write_bytes(classifier(planted=planted).SerializeToString())
    pack = import_model(str(source), labels_file(folder, "A", "B", "C"), folder / "pack")
    record = json.loads((pack.folder / "trigger_scan.json").read_text())
    return record["suspicions"], (pack.folder / "MODEL_CARD.md").read_text()


def test_a_planted_trigger_is_reported_by_output_patch_and_place(tmp_path: Path) -> None:
    suspicions, card = scanned(tmp_path / "planted", planted=True)
    assert [(each["index"], each["patch"], each["place"]) for each in suspicions] == [
        (1, "checkerboard", "bottom right")
    ]
    assert "output 1: a checkerboard patch at the bottom right" in card


def test_an_honest_model_is_not_reported(tmp_path: Path) -> None:
    suspicions, card = scanned(tmp_path / "honest", planted=False)
    assert suspicions == []
    assert "no simple patch" in card
