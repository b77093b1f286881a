"""A pack's graphs in PyTorch: the numbers that are served, and the gradients of the network they came from."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import helper

from radserve.errors import ErrorCode, PackError
from radserve.models.export.graphs import ImageEncoder
from radserve.models.pack import ModelPack
from radserve.models.train.architecture import RadCoCa
from radserve.models.tuning import torch_graph
from radserve.models.tuning.operators import OPERATORS
from radserve.models.tuning.torch_graph import TorchGraph, read_torch_graph


@pytest.mark.parametrize("number", [0, 1])
def test_a_gradient_through_the_graph_is_that_of_the_network_it_was_exported_from(
    coca: tuple[RadCoCa, ModelPack], number: int
) -> None:
    model, pack = coca
    pixels = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(4))
    ours, theirs = pixels.clone().requires_grad_(True), pixels.clone().requires_grad_(True)
    use = pack.inputs[number]
    graph = read_torch_graph(pack, use.image_encoder)
    found = graph.run({"pixels": ours}, ["embedding"])["embedding"]
    expected = ImageEncoder(model, use.name)(theirs)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found[:, 3].sum().backward()
    expected[:, 3].sum().backward()
    assert ours.grad is not None and theirs.grad is not None
    assert ours.grad.abs().max() > 1e-4
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def test_values_and_weights_can_be_edited_and_what_is_not_wanted_is_not_computed(tiny: ModelPack) -> None:
    graph = read_torch_graph(tiny, "image_encoder")
    pixels = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    calls = []

    def zeroed(value: torch.Tensor) -> torch.Tensor:
        calls.append(value.shape)
        return torch.zeros_like(value)

    tokens = graph.run({"pixels": pixels}, ["image_tokens"], {"active": zeroed})["image_tokens"]
    assert not tokens.any()
    changed = graph.run({"pixels": pixels}, ["image_tokens"], {"kernel": zeroed, "patches": zeroed})["image_tokens"]
    assert not changed.any()
    assert calls == [torch.Size([1, 6, 7, 7]), torch.Size([6, 1, 4, 4])]  # "patches" come after the tokens


def test_an_unknown_operator_is_named() -> None:
    node = helper.make_node("Bernoulli", ["x"], ["y"])
    graph = helper.make_graph([node], "one", [onnx.ValueInfoProto(name="x")], [onnx.ValueInfoProto(name="y")])
    with pytest.raises(PackError, match=r"operators \['Bernoulli'\]"):
        TorchGraph(helper.make_model(graph))


def test_an_operator_that_is_misread_is_found_before_anything_learns(
    tiny: ModelPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_graph, "OPERATORS", {**OPERATORS, "Relu": lambda _, data: data.abs()})
    with pytest.raises(PackError, match="differs from ONNX Runtime") as caught:
        read_torch_graph(tiny, "image_encoder")
    assert caught.value.code is ErrorCode.PACK_INVALID
    monkeypatch.setattr(torch_graph, "OPERATORS", {**OPERATORS, "Relu": lambda _, data: data * float("nan")})
    with pytest.raises(PackError, match="by nan"):
        read_torch_graph(tiny, "image_encoder")


def test_a_form_of_an_operator_that_is_not_known_is_named() -> None:
    node = helper.make_node("ArgMax", ["x"], ["y"], select_last_index=1)
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [1, 3])
    graph = TorchGraph(helper.make_model(helper.make_graph([node], "g", [x], [y])))
    with pytest.raises(PackError, match="ArgMax: ArgMax with select_last_index") as caught:
        graph.run({"x": torch.zeros(1, 3)})
    assert caught.value.code is ErrorCode.PACK_INVALID
