"""Weights read out of a step graph: those of the network it was exported from, whatever their names."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file

from radserve.models.catalogue import PackCatalogue
from radserve.models.triton.step_weights import Block, Linear, Norm, StepWeights, step_weights

PACK = PackCatalogue().get("cxr-bus-mini")


@pytest.fixture
def model() -> onnx.ModelProto:
    return onnx.load_from_string(PACK.read("decoder_step"))


@pytest.fixture
def weights(model: onnx.ModelProto) -> StepWeights:
    return step_weights(model)


def test_the_weights_are_those_of_the_network_that_was_exported(weights: StepWeights) -> None:
    network = load_file(PACK.folder / "model.safetensors")
    assert [type(each) for each in weights.layers] == [Block, Block, Norm, Block, Block, Block, Block]
    assert [isinstance(each, Block) and each.image_norm is not None for each in weights.layers] == [False] * 4 + [
        True,
        False,
        True,
    ]
    looks = weights.layers[6]
    assert isinstance(looks, Block)
    assert looks.image_norm is not None
    name = "text_decoder.cross_attn.1"
    np.testing.assert_array_equal(looks.up.weight, network[f"{name}.mlp.c_fc.weight"].T)
    np.testing.assert_array_equal(looks.down.bias, network[f"{name}.mlp.c_proj.bias"])
    np.testing.assert_array_equal(looks.image_norm.scale, network[f"{name}.ln_1_kv.weight"])
    np.testing.assert_array_equal(weights.to_logits, network["text_decoder.text_projection"])
    queries = looks.projections.weight[:, :112] * np.sqrt(28)
    np.testing.assert_allclose(queries, network[f"{name}.attn.in_proj_weight"][:112].T, rtol=1e-6)
    np.testing.assert_array_equal(looks.projections.parts(3)[2].bias, network[f"{name}.attn.in_proj_bias"][224:])


def test_names_do_not_matter(model: onnx.ModelProto, weights: StepWeights) -> None:
    short = {each.name: f"c{number}" for number, each in enumerate(model.graph.initializer)}
    for each in model.graph.initializer:
        each.name = short[each.name]
    for node in model.graph.node:
        node.input[:] = [short.get(name, name) for name in node.input]
    found, expected = step_weights(model).layers[0], weights.layers[0]
    assert isinstance(found, Block)
    assert isinstance(expected, Block)
    np.testing.assert_array_equal(found.out.weight, expected.out.weight)


def test_wider_heads_have_zeros_behind_them() -> None:
    rng = np.random.default_rng(0)
    norm = Norm(np.ones(6, np.float32), np.zeros(6, np.float32), 1e-5)
    projections = Linear(*(rng.standard_normal(shape).astype(np.float32) for shape in ((6, 18), (18,))))
    out = Linear(*(rng.standard_normal(shape).astype(np.float32) for shape in ((6, 6), (6,))))
    block = Block(norm, projections, out, norm, out, out, None)
    wide = block.with_wider_heads(2, 4)
    assert wide.projections.weight.shape == (6, 24)
    assert wide.out.weight.shape == (8, 6)
    columns = [0, 1, 2, 4, 5, 6]
    np.testing.assert_array_equal(wide.projections.parts(3)[1].weight[:, columns], projections.parts(3)[1].weight)
    np.testing.assert_array_equal(wide.out.weight[columns], out.weight)
    assert not wide.projections.weight[:, 3::4].any()
    assert not wide.projections.bias[3::4].any()
    assert not wide.out.weight[3::4].any()


def test_weights_of_16_bits_are_refused(model: onnx.ModelProto) -> None:
    for each in model.graph.initializer:
        if each.name == "text.token_embedding.weight":
            each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each).astype(np.float16), each.name))
    with pytest.raises(ValueError, match=r"text\.token_embedding\.weight: got float16, expected float32"):
        step_weights(model)


def test_a_block_without_its_second_norm_is_refused(model: onnx.ModelProto) -> None:
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    norms[1].op_type = "Identity"
    with pytest.raises(ValueError, match="expected a norm"):
        step_weights(model)
