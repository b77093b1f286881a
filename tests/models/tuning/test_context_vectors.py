"""Context vectors: open_clip's own text embedding where they are words, and a gain where one can be learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from radserve.errors import PackError
from radserve.models.adapt.manifest import ContextTable, TaskTable
from radserve.models.adapt.protocol import learn
from radserve.models.pack import TEXT_ENCODER, ModelPack
from radserve.models.pack_types import PromptScoring
from radserve.models.tokenizer import PackTokenizer, pack_tokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.tuning.context_vectors import ContextLearner, LearnedContext, TextSides
from radserve.models.tuning.torch_graph import read_torch_graph
from tests.support.planted import planted_embeddings

SCORING = PromptScoring(kind="prompts", logit_scale=10.0)
TABLE = ContextTable(length=3, steps=60, rate=0.5)
EACH = replace(TABLE, variant="class-specific")
TEXTS = ("pneumonia", "normal")


def tokenizer_of(pack: ModelPack) -> PackTokenizer:
    found = pack_tokenizer(pack)
    assert found
    return found


def unit(embeddings: np.ndarray) -> np.ndarray:
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def planted(separation: float, width: int) -> tuple[Any, np.ndarray]:
    data, embeddings = planted_embeddings(separation)
    return data, unit(embeddings[:, :width])


def learner(pack: ModelPack, data: Any, embeddings: np.ndarray, table: ContextTable = TABLE) -> ContextLearner:
    graph = read_torch_graph(pack, TEXT_ENCODER)
    return ContextLearner(graph, tokenizer_of(pack), TEXTS, SCORING, table, embeddings, data.positive)


def test_where_the_vectors_are_those_of_words_the_text_is_the_text_with_these_words(
    coca: tuple[RadCoCa, ModelPack],
) -> None:
    model, pack = coca
    tokenizer = tokenizer_of(pack)
    words = tokenizer.encode_words("chest radiograph consistent with")
    sides = TextSides(read_torch_graph(pack, TEXT_ENCODER), tokenizer, ("pneumonia .", "malignancy"), len(words))
    with torch.inference_mode():
        ours = sides.encode(sides.words(words)[None])
        whole = [
            tokenizer.encode_prompt(f"chest radiograph consistent with {text}")
            for text in ("pneumonia .", "malignancy")
        ]
        theirs = functional.normalize(model.encode_text(torch.from_numpy(np.stack(whole))), dim=-1)
        other = sides.encode(torch.zeros(1, len(words), sum(sides.widths)))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert (other - theirs).abs().max() > 1e-2


def test_a_gain_that_is_there_passes_the_gate_and_none_is_seen_where_there_is_none(tiny: ModelPack) -> None:
    task = TaskTable(label="Planted", input="any", method="context-vectors", shots=16, curve=(4,))
    for separation, passes in ((4.0, True), (0.0, False)):
        data, embeddings = planted(separation, 8)
        guess = np.random.default_rng(1).standard_normal(len(embeddings))
        learned = learn(task, data, embeddings, guess, learner=learner(tiny, data, embeddings, EACH))
        assert learned.passed is passes
        points = [point for point in learned.curve if point.method == "context-vectors"]
        assert [point.shots for point in points] == [4, 16]
        assert all(len(point.auroc) == 3 for point in points)
        assert isinstance(learned.model, LearnedContext)


def test_a_variant_has_vectors_for_both_sides_or_for_each(tiny: ModelPack) -> None:
    data, embeddings = planted(4.0, 8)
    rows = np.arange(40)
    for variant, shape in (("unified", (1, 3, 8)), ("class-specific", (2, 3, 8))):
        table = replace(TABLE, variant=variant)  # type: ignore[arg-type]
        learned = learner(tiny, data, embeddings, table).learn(rows, rows, 0)
        assert learned.context.shape == shape
        assert learned.sides.shape == (2, 8)
        np.testing.assert_allclose(np.linalg.norm(learned.sides, axis=1), 1, atol=1e-5)


def test_the_same_seed_gives_the_same_vectors_and_the_encoder_stays_as_it_is(tiny: ModelPack) -> None:
    data, embeddings = planted(4.0, 8)
    rows = np.arange(40)
    learns = learner(tiny, data, embeddings)
    before = {name: each.clone() for name, each in learns.graph.weights.items()}
    one, two, other = (learns.learn(rows, rows, seed) for seed in (0, 0, 1))
    assert one.context.tobytes() == two.context.tobytes()
    assert one.context.tobytes() != other.context.tobytes()
    for name, each in learns.graph.weights.items():
        assert torch.equal(each, before[name])


def test_vectors_may_begin_as_words(tiny: ModelPack) -> None:
    data, embeddings = planted(4.0, 8)
    table = replace(TABLE, start="chest radiograph of", steps=1, rate=1e-9)
    learned = learner(tiny, data, embeddings, table).learn(np.arange(40), np.arange(40), 0)
    sides = TextSides(read_torch_graph(tiny, TEXT_ENCODER), tokenizer_of(tiny), TEXTS, 3)
    expected = sides.words(tokenizer_of(tiny).encode_words("chest radiograph of"))
    np.testing.assert_allclose(learned.context[0], expected.numpy(), atol=1e-6)


def test_too_long_a_side_and_one_without_a_word_are_refused(tiny: ModelPack) -> None:
    graph, tokenizer = read_torch_graph(tiny, TEXT_ENCODER), tokenizer_of(tiny)
    with pytest.raises(
        PackError, match=r"22 vectors and 1 tokens, expected at least one token and at most 22 together"
    ):
        TextSides(graph, tokenizer, TEXTS, 22)
    with pytest.raises(PackError, match="3 vectors and 0 tokens"):
        TextSides(graph, tokenizer, ("pneumonia", ""), 3)
