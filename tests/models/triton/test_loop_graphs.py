"""The cache in place: the same texts as with the cache that goes in and out of every run, whatever is in work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from radserve.models.catalogue import PackCatalogue
from radserve.models.decoding.batch import GraphBatch
from radserve.models.decoding.constraint import ReportConstraint
from radserve.models.decoding.guesses import Guesses, leaps_as_steps
from radserve.models.decoding.in_place import InPlaceBatch
from radserve.models.decoding.search import Frame, make_search
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import ModelPack
from radserve.models.tokenizer import PackTokenizer
from radserve.models.triton import loop_graphs as module
from radserve.models.triton.loop_graphs import LoopGraphs, loop_graphs
from tests.support.packs import decoder_step

END, MAX_TOKENS, MAX_ROWS = 2, 30, 8
BEAMS = {"strategy": "beam", "beams": 3}
SAMPLE = {"strategy": "sample", "temperature": 2.0, "seed": 3}


@cache
def pack() -> ModelPack:
    return PackCatalogue().get("cxr-bus-mini")


@pytest.fixture(scope="module")
def step_graph() -> bytes:
    return pack().read("decoder_step")


@pytest.fixture(scope="module")
def graphs(step_graph: bytes) -> LoopGraphs:
    found = loop_graphs(step_graph)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def opened(graphs: LoopGraphs) -> tuple[OnnxGraph, OnnxGraph]:
    return OnnxGraph(graphs.start), OnnxGraph(graphs.step)


@pytest.fixture(scope="module")
def leap(graphs: LoopGraphs) -> OnnxGraph:
    return OnnxGraph(graphs.leap)


@pytest.fixture(scope="module")
def copied(step_graph: bytes) -> OnnxGraph:
    return OnnxGraph(step_graph)


@pytest.fixture(scope="module")
def learnt() -> Guesses:
    return Guesses()  # knows more with every test


@pytest.fixture(params=["steps", "leaps"])
def in_place(
    request: pytest.FixtureRequest, opened: tuple[OnnxGraph, OnnxGraph], leap: OnnxGraph, learnt: Guesses
) -> Iterator[InPlaceBatch]:
    leaps = (leap, learnt) if request.param == "leaps" else ()
    batch = InPlaceBatch(*opened, MAX_ROWS, *leaps)
    yield batch
    assert len(batch) == 0


def image(seed: int) -> np.ndarray:
    shape = pack().graphs["decoder_step"].tensor("image_tokens").shape[1:]
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def search(told: Mapping[str, Any]) -> Any:
    return make_search(Frame(1, END, MAX_TOKENS), **{"strategy": "greedy", **told})


def add(batch: InPlaceBatch | GraphBatch, key: int, told: Mapping[str, Any]) -> None:
    batch.add(key, search(told), image(key), told.get("beams", 1))


def ended(batch: InPlaceBatch | GraphBatch, texts: dict[int, list[int]] | None = None) -> dict[int, list[int]]:
    texts = {} if texts is None else texts
    while len(batch):
        for step in batch.step():
            texts.setdefault(step.key, []).extend(step.tokens)
    return texts


def alone(graph: OnnxGraph, key: int, told: Mapping[str, Any]) -> list[int]:
    batch = GraphBatch(graph, MAX_ROWS)
    add(batch, key, told)
    return ended(batch)[key]


@pytest.mark.parametrize("told", [{}, BEAMS, SAMPLE], ids=["greedy", "beam", "sample"])
def test_a_text_is_that_of_the_step_graph(in_place: InPlaceBatch, copied: OnnxGraph, told: dict) -> None:
    add(in_place, 5, told)
    assert ended(in_place)[5] == alone(copied, 5, told)


def test_texts_side_by_side_are_those_written_alone_whenever_they_come(
    in_place: InPlaceBatch, copied: OnnxGraph
) -> None:
    wanted: dict[int, dict] = {0: {}, 1: BEAMS, 2: SAMPLE, 3: {}, 4: BEAMS}
    texts: dict[int, list[int]] = {}
    for key, told in wanted.items():
        add(in_place, key, told)
        for _ in range(3):
            for step in in_place.step():
                texts.setdefault(step.key, []).extend(step.tokens)
    assert ended(in_place, texts) == {key: alone(copied, key, told) for key, told in wanted.items()}


def test_more_texts_than_rows_wait_for_their_turn(in_place: InPlaceBatch, copied: OnnxGraph) -> None:
    for key in range(4):
        add(in_place, key, BEAMS)
    assert {step.key for step in in_place.step()} == {0, 1}
    assert set(ended(in_place)) == {0, 1, 2, 3}


def test_a_text_that_is_dropped_leaves_the_others_as_they_were(in_place: InPlaceBatch, copied: OnnxGraph) -> None:
    texts: dict[int, list[int]] = {}
    for key, told in enumerate([BEAMS, {}, SAMPLE]):
        add(in_place, key, told)
    for _ in range(2):
        for step in in_place.step():
            texts.setdefault(step.key, []).extend(step.tokens)
    in_place.remove(0)
    add(in_place, 7, {})
    in_place.remove(7)  # waits still
    in_place.remove(99)
    ended(in_place, texts)
    assert texts[1] == alone(copied, 1, {})
    assert texts[2] == alone(copied, 2, SAMPLE)
    assert 7 not in texts


class Knowing(Guesses):
    """Guesses that know the texts to come, and are wrong with the given frequency; every third stops short."""

    def __init__(self, texts: Sequence[Sequence[int]], wrong: float, words: int) -> None:
        super().__init__()
        self._texts, self._wrong, self._words, self._random = texts, wrong, words, np.random.default_rng(0)
        self.given = 0

    def after(self, text: Sequence[int], most: int) -> list[int]:
        whole = next((each for each in self._texts if each[: len(text)] == list(text)), [])
        known = [*whole[len(text) :], *self._random.integers(0, self._words, most).tolist()][:most]
        guess = [
            each if self._random.random() >= self._wrong else int(self._random.integers(self._words)) for each in known
        ]
        self.given += 1
        return guess[: self._random.integers(most)] if self.given % 3 == 0 else guess


@pytest.mark.parametrize("wrong", [0.0, 0.3, 1.0], ids=["known", "in part", "random"])
@pytest.mark.parametrize("held", [False, True], ids=["free", "held to rules"])
def test_no_guess_changes_a_text(
    opened: tuple[OnnxGraph, OnnxGraph], leap: OnnxGraph, wrong: float, held: bool
) -> None:
    words = PackTokenizer(pack().tokenizer_path, sections=pack().decoder.sections).words
    heads = [[words.index("findings"), words.index(":")], [words.index("impression"), words.index(":")]]
    rules = ReportConstraint(words, END, [0, 1, 3], heads, ["radiograph of", "is assessed"]) if held else None
    longest = opened[1].inputs["slot_0"][1][1]  # to the last place of a slot
    ways: list[Mapping[str, Any]] = [{}, {}, {}, SAMPLE]
    found, given = [], Knowing([], wrong, len(words))
    for batch in (InPlaceBatch(*opened, MAX_ROWS), InPlaceBatch(*opened, MAX_ROWS, leap, given)):
        runs, texts = 0, {}
        for first in range(0, 24, 2):
            for key in range(first, first + 2):
                frame = Frame(1, END if held else len(words), longest, rules)
                batch.add(key, make_search(frame, **{"strategy": "greedy", **ways[key % 4]}), image(key))
            while len(batch):
                runs += 1
                for step in batch.step():
                    texts.setdefault(step.key, []).extend(step.tokens)
        found.append((texts, runs))
        given._texts = [[1, *text] for text in texts.values()]
    (expected, steps), (leapt, leaps) = found
    assert leapt == expected
    assert given.given > 10
    assert leaps <= steps
    assert wrong > 0 or leaps < steps / 3


def test_leaps_give_the_bits_of_steps(opened: tuple[OnnxGraph, OnnxGraph], leap: OnnxGraph) -> None:
    assert leaps_as_steps(opened[1], leap)


def test_a_text_that_is_written_again_takes_fewer_runs(opened: tuple[OnnxGraph, OnnxGraph], leap: OnnxGraph) -> None:
    batch, runs = InPlaceBatch(*opened, MAX_ROWS, leap, Guesses()), []
    for _ in range(2):
        add(batch, 3, {})
        runs.append(0)
        while len(batch):
            batch.step()
            runs[-1] += 1
    assert runs[1] < runs[0] / 3


def test_values_that_are_no_numbers_are_an_error_and_do_not_outlive_their_report(
    in_place: InPlaceBatch, copied: OnnxGraph
) -> None:
    in_place.add(0, search({}), np.full_like(image(0), np.inf))
    with pytest.raises(ValueError, match="values that are not numbers"):
        in_place.step()
    in_place.remove(0)
    add(in_place, 1, {})
    assert ended(in_place)[1] == alone(copied, 1, {})


def test_rows_run_alone_where_a_batch_gives_other_last_bits(graphs: LoopGraphs, copied: OnnxGraph) -> None:
    step = OnnxGraph(graphs.step)
    leap = OnnxGraph(graphs.leap)
    step.joint = leap.joint = False
    batch = InPlaceBatch(OnnxGraph(graphs.start), step, MAX_ROWS, leap, Guesses())
    for _ in range(2):
        add(batch, 0, {})
        add(batch, 1, BEAMS)
        assert ended(batch) == {0: alone(copied, 0, {}), 1: alone(copied, 1, BEAMS)}


def test_what_the_image_alone_decides_is_not_in_the_step(graphs: LoopGraphs) -> None:
    step = onnx.load_from_string(graphs.step)
    onnx.checker.check_model(step, full_check=True)
    for other in (graphs.start, graphs.leap):
        onnx.checker.check_model(onnx.load_from_string(other), full_check=True)
    assert "image_tokens" not in {each.name for each in step.graph.input}
    assert not {"Where", "Concat"} & {node.op_type for node in step.graph.node if "slot" in "".join(node.input)}


def test_a_step_graph_that_is_built_in_another_way_is_left_alone() -> None:
    assert loop_graphs(decoder_step(np.random.default_rng(0)).SerializeToString()) is None
    assert loop_graphs(b"no graph") is None


def test_graphs_that_give_something_else_are_not_used(step_graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load_from_string(step_graph)
    bias = next(each for each in model.graph.initializer if each.name.endswith("mlp.c_proj.bias"))
    other = np.random.default_rng(0).standard_normal(tuple(bias.dims))
    bias.CopyFrom(numpy_helper.from_array(other.astype(np.float32), bias.name))
    rebuilt = module._rebuilt
    monkeypatch.setattr(module, "_rebuilt", lambda _: rebuilt(model.SerializeToString()))
    assert loop_graphs(step_graph) is None
