"""Searches choose what plain recomputation of every prefix chooses."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radserve.models.decoding.search import Frame, make_search
from tests.models.decoding.models import END, LENGTH, START, VOCABULARY, PrefixModel, decoded, run

FRAME = Frame(START, END, LENGTH)
seeds = st.integers(0, 2**32)


def reference_greedy(model: PrefixModel) -> list[int]:
    prefix = [START]
    while len(prefix) <= LENGTH:
        token = int(torch.tensor(model.logits(prefix)).argmax())
        if token == END:
            break
        prefix.append(token)
    return prefix[1:]


def reference_beam(model: PrefixModel, beams: int, penalty: float) -> list[int]:
    """Beam search with full recomputation in PyTorch: no cache, no rows, no early end."""
    live = [(0.0, [START])]
    ended = []
    for _ in range(LENGTH):
        scored = []
        for score, prefix in live:
            row = torch.log_softmax(torch.tensor(model.logits(prefix)).double(), dim=-1)
            scored += [(score + float(each), [*prefix, token]) for token, each in enumerate(row)]
        scored.sort(key=lambda pair: -pair[0])
        live = []
        for score, prefix in scored[: 2 * beams]:
            if len(live) == beams:
                break
            if prefix[-1] == END:
                ended.append((score / (len(prefix) - 1) ** penalty, prefix[1:-1]))
            else:
                live.append((score, prefix))
    return max(ended, key=lambda pair: pair[0])[1] if ended else live[0][1][1:]


@given(seeds, st.floats(0.2, 4))
@settings(max_examples=60, deadline=None)
def test_greedy_is_the_likeliest_token_each_time(seed: int, spread: float) -> None:
    model = PrefixModel(seed, spread)
    assert decoded(model, make_search(FRAME)) == reference_greedy(model)


@given(seeds, st.floats(0.2, 4), st.integers(1, 5), st.sampled_from([0.0, 0.6, 1.0, 2.0]))
@settings(max_examples=120, deadline=None)
def test_beams_with_the_cache_are_those_of_full_recomputation(
    seed: int, spread: float, beams: int, penalty: float
) -> None:
    model = PrefixModel(seed, spread)
    search = make_search(FRAME, "beam", beams=beams, length_penalty=penalty)
    assert decoded(model, search) == reference_beam(model, beams, penalty)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_one_beam_and_greedy_agree_on_what_they_share(seed: int) -> None:
    """One beam may stop at an end that greedy passes by; up to there both are the same."""
    model = PrefixModel(seed)
    one = decoded(model, make_search(FRAME, "beam", beams=1, length_penalty=0.0))
    assert reference_greedy(model)[: len(one)] == one


@given(seeds, st.lists(st.sampled_from(["greedy", "beam", "sample"]), min_size=2, max_size=6), st.integers(4, 9))
@settings(max_examples=40, deadline=None)
def test_reports_decoded_side_by_side_are_those_decoded_alone(seed: int, strategies: list[str], rows: int) -> None:
    model = PrefixModel(seed)

    def searches() -> dict:
        return {
            f"{number}": make_search(FRAME, strategy, beams=3, seed=number)
            for number, strategy in enumerate(strategies)
        }

    together: dict[str, list[int]] = {name: [] for name in searches()}
    for name, token in run(model, searches(), max_rows=rows):
        together[name].append(token)
    assert together == {name: decoded(model, search) for name, search in searches().items()}


def test_reports_share_the_runs_of_the_graph() -> None:
    model = PrefixModel(3, spread=0.1)
    for _ in run(model, {str(number): make_search(FRAME) for number in range(8)}):
        pass
    assert model.runs <= LENGTH


def test_the_same_seed_draws_the_same_text_and_another_seed_others() -> None:
    model = PrefixModel(5, spread=0.3)
    texts = [tuple(decoded(model, make_search(FRAME, "sample", seed=seed))) for seed in (1, 1, *range(2, 12))]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 5


def test_samples_follow_the_softmax_at_the_temperature() -> None:
    """The first token of 4000 texts against PyTorch's softmax: chi-square, 6 degrees, far above the 99.99 % point."""
    model, count = PrefixModel(9, spread=1.0), 4000
    frame = Frame(START, END, 1)
    drawn = Counter(
        next(iter(decoded(model, make_search(frame, "sample", temperature=0.7, seed=seed))), END)
        for seed in range(count)
    )
    expected = torch.softmax(torch.tensor(model.logits([START])).double() / 0.7, dim=-1).numpy() * count
    statistic = sum((drawn[token] - expected[token]) ** 2 / expected[token] for token in range(VOCABULARY))
    assert statistic < 40


def test_top_k_and_top_p_leave_the_likeliest_tokens_alone() -> None:
    model = PrefixModel(11, spread=0.5)
    frame = Frame(START, END, 1)
    order = np.argsort(-model.logits([START]))
    softmax = torch.softmax(torch.tensor(model.logits([START])).double(), dim=-1).numpy()[order]
    nucleus = order[: int(np.searchsorted(np.cumsum(softmax), 0.6)) + 1]
    for options, allowed in (({"top_k": 2}, order[:2]), ({"top_p": 0.6}, nucleus), ({"top_k": 1}, order[:1])):
        drawn = {
            next(iter(decoded(model, make_search(frame, "sample", seed=seed, **options))), END) for seed in range(300)
        }
        assert drawn == set(allowed.tolist())


def test_what_a_beam_search_hands_out_is_never_taken_back() -> None:
    """Tokens come before the end where all beams agree, and add up to the best text."""
    early = 0
    for seed in range(40):
        model = PrefixModel(seed, spread=4.0)
        search = make_search(FRAME, "beam", beams=3)
        tokens: list[int] = []
        for _, token in run(model, {"only": search}):
            early += not search.finished
            tokens.append(token)
        assert tokens == reference_beam(model, 3, 1.0)
    assert early > 10


def test_an_unknown_strategy_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="got 'magic', expected greedy, beam or sample"):
        make_search(FRAME, "magic")


def test_logits_that_are_not_numbers_are_refused() -> None:
    class Broken(PrefixModel):
        def logits(self, prefix: object) -> np.ndarray:
            return np.full(VOCABULARY, np.nan, dtype=np.float32)

    with pytest.raises(ValueError, match="not numbers"):
        decoded(Broken(1), make_search(FRAME))
