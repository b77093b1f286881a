"""One graph in ONNX Runtime: a row's answer is the same bits in every batch."""

from __future__ import annotations

import numpy as np
import pytest

from radserve.models.onnx_graph import OnnxGraph, OutputError, check_output
from tests.support.packs import text_encoder


def graph() -> OnnxGraph:
    return OnnxGraph(text_encoder(np.random.default_rng(1)).SerializeToString())


def test_rows_are_run_alone_where_the_kernels_depend_on_the_batch() -> None:
    tested = graph()
    tokens = np.random.default_rng(2).integers(0, 20, (9, tested.inputs["tokens"][1][0]))
    tested.joint = False
    apart = tested.run({"tokens": tokens})["embedding"]
    for row in range(9):
        np.testing.assert_array_equal(tested.run({"tokens": tokens[row : row + 1]})["embedding"][0], apart[row])
    tested.joint = True
    np.testing.assert_allclose(tested.run({"tokens": tokens})["embedding"], apart, atol=1e-6)


def test_a_batch_that_differs_from_its_rows_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = OnnxGraph._run

    def depends_on_batch(
        self: OnnxGraph, inputs: dict[str, np.ndarray], options: object = None
    ) -> dict[str, np.ndarray]:
        outputs = run(self, inputs, None)
        last_bit = np.float32(1e-7) if len(inputs["tokens"]) == 1 else np.float32(0)
        return {name: array + last_bit for name, array in outputs.items()}

    monkeypatch.setattr(OnnxGraph, "_run", depends_on_batch)
    assert not graph().joint


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3), np.float64), np.zeros((2, 4), np.float32), np.zeros((0, 3), np.float32)]
)
def test_an_output_of_another_dtype_or_size_is_refused(array: np.ndarray) -> None:
    check_output("embedding", np.zeros((2, 3), np.float32), (2, 3), "float32")
    with pytest.raises(OutputError, match="expected float32"):
        check_output("embedding", array, (2, 3), "float32")
