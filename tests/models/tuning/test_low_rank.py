"""Low-rank changes: merged weights give what the changed network gives, and what is planted is learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional

from radserve.errors import PackError
from radserve.models.adapt.low_rank import as_tensors, from_tensors, merged, targets
from radserve.models.adapt.manifest import LowRankTable
from radserve.models.log_odds import logits_of
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import IMAGE_ENCODER, TEXT_ENCODER, ModelPack
from radserve.models.pack_types import OutputScoring, PromptScoring
from radserve.models.train.architecture import RadCoCa
from radserve.models.tuning import low_rank
from radserve.models.tuning.low_rank import LowRankChange, LowRankLearner, Sides, Tower, output_logits
from radserve.models.tuning.torch_graph import TorchGraph, largest_difference, read_torch_graph

TABLE = LowRankTable(rank=2, scale=4.0, steps=40, batch=16, rate=0.02)
SCORING = PromptScoring(kind="prompts", logit_scale=10.0)


def proto(pack: ModelPack, name: str = IMAGE_ENCODER) -> onnx.ModelProto:
    return onnx.load_model_from_string(pack.read(name))


def drawn(model: onnx.ModelProto, table: LowRankTable = TABLE) -> LowRankChange:
    """A change whose B is not zero any more."""
    generator = torch.Generator().manual_seed(5)
    change = LowRankChange(model, table, generator)
    with torch.no_grad():
        for _, b in change.pairs.values():
            b.copy_(torch.randn(b.shape, generator=generator) * 0.1)
    return change


@pytest.mark.parametrize("graph", [IMAGE_ENCODER, TEXT_ENCODER])
def test_the_merged_graph_gives_what_the_unmerged_one_gives(coca: tuple[RadCoCa, ModelPack], graph: str) -> None:
    _, pack = coca
    model = proto(pack, graph)
    change = drawn(model)
    assert len(change.pairs) >= 8  # 1 x 1 convolutions; attention in and out, both products of a block
    content = merged(model, change.arrays(), change.factor)
    read = TorchGraph(model)
    assert largest_difference(read, content.SerializeToString(), change.edits()) < 1e-4
    assert largest_difference(read, content.SerializeToString()) > 1e-2
    assert [node.SerializeToString() for node in content.graph.node] == [
        node.SerializeToString() for node in model.graph.node
    ]
    one, other = ([list(each.dims) for each in whole.graph.initializer] for whole in (model, content))
    assert one == other


def test_the_merged_graph_is_open_clip_with_the_same_change_in_its_own_weight(
    coca: tuple[RadCoCa, ModelPack],
) -> None:
    model, pack = coca
    tower = proto(pack, TEXT_ENCODER)
    name = next(each for each in targets(tower) if each.endswith("attn.out_proj.weight"))
    a, b = (each.detach().numpy() for each in drawn(tower).pairs[name])
    content = merged(tower, {name: (a, b)}, 2.0).SerializeToString()
    tokens = torch.randint(4, 40, (2, pack.graphs[TEXT_ENCODER].inputs[0].shape[1]))
    tokens[:, 9] = model.config.end_id
    weight = dict(model.text.named_parameters())[name.removeprefix("tower.")]
    before = weight.detach().clone()
    with torch.no_grad():
        weight += torch.from_numpy(2.0 * (b @ a))
        theirs = functional.normalize(model.encode_text(tokens), dim=-1)
        weight.copy_(before)
    ours = OnnxGraph(content).run({"tokens": tokens.numpy()})["embedding"]
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)
    unchanged = OnnxGraph(pack.read(TEXT_ENCODER)).run({"tokens": tokens.numpy()})["embedding"]
    assert np.abs(ours - unchanged).max() > 1e-3


def test_convolutions_of_one_pixel_are_targets_and_wider_or_grouped_ones_are_not() -> None:
    weights = {"wide": (4, 2, 3, 3), "point": (6, 4, 1, 1), "depth": (6, 1, 1, 1)}
    nodes = [
        onnx.helper.make_node("Conv", ["x", "wide"], ["a"]),
        onnx.helper.make_node("Conv", ["a", "point"], ["b"]),
        onnx.helper.make_node("Conv", ["b", "depth"], ["y"], group=6),
    ]
    rng = np.random.default_rng(0)
    initializers = [
        onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    ends = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in (("x", ["batch", 2, 5, 5]), ("y", ["batch", 6, 3, 3])))  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "convolutions", [next(ends)], [next(ends)], initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    assert targets(model) == {"point": (6, 4)}
    change = drawn(model)
    content = merged(model, change.arrays(), change.factor).SerializeToString()
    assert largest_difference(TorchGraph(model), content, change.edits()) < 1e-6


def planted(pack: ModelPack, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """120 images, every second one with stripes that the patches of the tiny pack see."""
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((120, 1, 28, 28)).astype(np.float32)
    pixels[1::2, :, ::4] += strength
    return pixels, np.arange(120) % 2 == 1


def learner(pack: ModelPack, pixels: np.ndarray, positive: np.ndarray, table: LowRankTable) -> LowRankLearner:
    direction = np.random.default_rng(3).standard_normal(8)
    tokens = tuple(np.random.default_rng(side).integers(4, 12, (2, 24)) for side in (0, 1))
    text = Tower(TEXT_ENCODER, proto(pack, TEXT_ENCODER), read_torch_graph(pack, TEXT_ENCODER))
    sides = Sides(text if "text" in table.towers else None, tokens, direction / np.linalg.norm(direction))
    tower = Tower(IMAGE_ENCODER, proto(pack), read_torch_graph(pack, IMAGE_ENCODER))
    return LowRankLearner(tower, SCORING, sides, table, lambda rows: pixels[rows], positive)


def separation(logits: np.ndarray, positive: np.ndarray) -> float:
    """The area under the curve, by counting pairs."""
    return float((logits[positive][:, None] > logits[~positive]).mean())


def test_what_is_planted_is_learned_and_noise_is_not(tiny: ModelPack) -> None:
    rows, unseen = np.arange(60), np.arange(60, 120)
    for strength, least, most in ((3.0, 0.9, 1.0), (0.0, 0.3, 0.7)):
        pixels, positive = planted(tiny, strength)
        learned = learner(tiny, pixels, positive, TABLE).learn(rows, rows, 0)
        assert least <= separation(learned.logits(unseen), positive[unseen]) <= most
    assert learned.parity < 1e-4


def test_the_logits_are_those_of_the_merged_graph_behind_the_direction(tiny: ModelPack) -> None:
    pixels, positive = planted(tiny, 1.0)
    learned = learner(tiny, pixels, positive, TABLE).learn(np.arange(60), np.arange(60), 0)
    tensors = learned.tensors()
    changes = from_tensors(tensors, "image")
    content = merged(proto(tiny), changes, learned.details()["factor"]).SerializeToString()
    embedding = OnnxGraph(content).run({"pixels": pixels[:5]})["embedding"]
    expected = embedding @ tensors["weight"] + tensors["bias"]
    np.testing.assert_allclose(learned.logits(np.arange(5)), expected, rtol=1e-4, atol=1e-4)
    assert sum(each.nbytes for each in tensors.values()) < 1000


def test_the_text_tower_learns_only_where_it_is_named(tiny: ModelPack) -> None:
    pixels, positive = planted(tiny, 1.0)
    rows = np.arange(60)
    # The tiny text tower has no product with a matrix: a pack that asks for it is told so.
    with pytest.raises(PackError, match="no matrix product"):
        learner(tiny, pixels, positive, replace(TABLE, towers=("text",))).learn(rows, rows, 0)
    learned = learner(tiny, pixels, positive, TABLE).learn(rows, rows, 0)
    assert not [name for name in learned.tensors() if name.startswith("text/")]


def test_a_text_tower_can_learn(tiny: ModelPack) -> None:
    pixels, positive = planted(tiny, 3.0)
    words = proto(tiny, TEXT_ENCODER).graph.initializer[0]
    nodes = [
        onnx.helper.make_node("Gather", ["words", "tokens"], ["vectors"]),
        onnx.helper.make_node("ReduceMean", ["vectors", "axis"], ["mean"], keepdims=0),
        onnx.helper.make_node("MatMul", ["mean", "product"], ["embedding"]),
    ]
    more = {"axis": np.array([1]), "product": np.eye(8, dtype=np.float32)}
    given = [words, *(onnx.numpy_helper.from_array(array, name) for name, array in more.items())]
    ends = [onnx.ValueInfoProto(name=name) for name in ("tokens", "embedding")]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "text", ends[:1], ends[1:], given))
    text = Tower(TEXT_ENCODER, model, TorchGraph(model))
    rng = np.random.default_rng(0)
    sides = Sides(text, tuple(rng.integers(4, 12, (2, 24)) for _ in range(2)), np.zeros(8))
    tower = Tower(IMAGE_ENCODER, proto(tiny), read_torch_graph(tiny, IMAGE_ENCODER))
    table = replace(TABLE, towers=("text",))
    learned = LowRankLearner(tower, SCORING, sides, table, lambda rows: pixels[rows], positive).learn(
        np.arange(60), np.arange(60), 0
    )
    with torch.inference_mode():
        before = sides.learned({}).numpy()
    assert learned.changes == {}
    assert sorted(learned.tensors()) == ["bias", "text/product/A", "text/product/B", "weight"]
    assert learned.direction is not None
    embeddings = OnnxGraph(tiny.read(IMAGE_ENCODER)).run({"pixels": pixels[60:]})["embedding"]
    areas = [separation(embeddings @ each, positive[60:]) for each in (before, learned.direction)]
    assert areas[1] > areas[0]
    assert areas[1] > 0.9


def output(activation: Any) -> OutputScoring:
    return OutputScoring(kind="output", graph="classifier", output="logits", index=1, activation=activation)


def classifier() -> onnx.ModelProto:
    """The tiny pack's convolution, its mean over the places, and two outputs."""
    rng = np.random.default_rng(2)
    weights = {"kernel": rng.standard_normal((6, 1, 4, 4)), "head": 0.1 * rng.standard_normal((6, 2))}
    nodes = [
        onnx.helper.make_node("Conv", ["pixels", "kernel"], ["map"], strides=[4, 4]),
        onnx.helper.make_node("Relu", ["map"], ["active"]),
        onnx.helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        onnx.helper.make_node("Flatten", ["pooled"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "head"], ["logits"]),
    ]
    given = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    ends = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in (("pixels", ["batch", 1, 28, 28]), ("logits", ["batch", 2])))  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "classifier", [next(ends)], [next(ends)], given)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_an_output_of_a_classifier_learns_too(tiny: ModelPack, activation: Any) -> None:
    pixels, positive = planted(tiny, 3.0)
    model = classifier()
    scoring = output(activation)
    tower = Tower("classifier", model, TorchGraph(model))
    learns = LowRankLearner(tower, scoring, None, TABLE, lambda rows: pixels[rows], positive)
    learned = learns.learn(np.arange(60), np.arange(60), 0)
    values = OnnxGraph(merged(model, learned.changes, learned.factor).SerializeToString()).run({"pixels": pixels[60:]})
    served = [logits_of(row, 1, activation) for row in values["logits"]]
    np.testing.assert_allclose(learned.logits(np.arange(60, 120)), served, rtol=1e-3, atol=1e-4)
    assert separation(np.array(served), positive[60:]) > 0.9


def test_the_activations_are_those_that_are_served() -> None:
    values = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1]])
    for activation in ("sigmoid", "softmax", "none"):
        found = output_logits(values, output(activation))
        expected = [logits_of(row, 1, activation) for row in values.numpy()]  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_graph_that_differs_after_merging_is_refused(tiny: ModelPack, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, positive = planted(tiny, 1.0)
    learns = learner(tiny, pixels, positive, TABLE)
    monkeypatch.setattr(low_rank, "merged", lambda model, changes, factor: merged(model, changes, 2 * factor))
    with pytest.raises(PackError, match="the merged graph differs"):
        learns.learn(np.arange(60), np.arange(60), 0)


def test_factors_of_the_wrong_shape_or_of_no_weight_are_refused_by_name(tiny: ModelPack) -> None:
    model = proto(tiny)
    pairs = drawn(model).arrays()
    (name,) = pairs
    a, b = pairs[name]
    with pytest.raises(PackError, match=rf"'{name}': got A \(2, 7\) and B \(6, 2\), expected \(rank, 8\), \(6, rank\)"):
        merged(model, {name: (a[:, :7], b)}, 1.0)
    with pytest.raises(PackError, match="no weight 'other'"):
        merged(model, {"other": (a, b)}, 1.0)
    tensors = as_tensors(pairs, "image")
    assert from_tensors(tensors, "image").keys() == pairs.keys()
    with pytest.raises(PackError, match=r"projection/B"):
        from_tensors({f"image/{name}/A": a}, "image")
    with pytest.raises(PackError, match="not finite"):
        from_tensors(as_tensors({name: (a * np.float32("nan"), b)}, "image"), "image")
