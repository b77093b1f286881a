"""What the key-value cache, decoding side by side and the loop inside Triton are worth, on the default pack.

    python benchmarks/decoder.py [--rounds 7]

Cache: a greedy report of 40 tokens (and of other lengths) with the cache in place, as the loop inside Triton runs it,
with the step graph whose cache goes in and out of every run, and by full recomputation: before every token the whole
text goes through the decoder again, in ONNX Runtime (same options, built of the same parts, attention as its quickest
operators for many rows) and in PyTorch; only the last token gets logits. Batch: 8 reports side by side against one
after the other. Loop: whole reports through the embedded Triton, a request for each token against one stream. The ways
take turns in every round, five reports in a turn; medians of the rounds. One thread everywhere. What runs in this
process is told in CPU time, what goes through Triton in wall time. On a machine with other work raise the priority
(nice -n -18): a step reads all weights, so it suffers most from lost caches.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper

from radserve.decoding import DecodeJob, DecodingOptions
from radserve.models.catalogue import PackCatalogue
from radserve.models.decoding.batch import GraphBatch
from radserve.models.decoding.in_place import InPlaceBatch
from radserve.models.decoding.search import Frame, make_search
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import ModelPack
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.scoring import load_model
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.config import ServingOptions
from radserve.models.triton.decoder_graph import RUNTIME, DecoderGraph
from radserve.models.triton.loop_graphs import loop_graphs
from radserve.models.triton.repository import loop_of
from radserve.models.triton.server import EmbeddedTriton
from radserve.models.triton.step_weights import Norm, StepWeights, step_weights
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.decoders import ReportDecoder, StepDecoder, StreamDecoder
from radserve.pipelines.report import text_rules

TOKENS, LENGTHS = 40, (10, 20, 40, 60)
REPORTS = 5  # that a way writes in its turn: what others left in the caches weighs less
Way = Callable[[], Awaitable[object]]
Batch = GraphBatch | InPlaceBatch


def image_tokens_of(pack: ModelPack, seed: int) -> np.ndarray:
    """Image tokens (P, C) of a smooth random image, through the pack's own encoder."""
    rng = np.random.default_rng(seed)
    pixels = np.kron(rng.standard_normal((1, 1, 7, 7)), np.ones((1, 1, 4, 4))).astype(np.float32)
    encoder = OnnxGraph(pack.read("image_encoder"))
    return encoder.run({"pixels": pixels})["image_tokens"][0]


class WholeText(torch.nn.Module):
    """The decoder without a cache: `tokens` (1, T), `image_tokens` (1, P, C) -> the logits (1, V) after the last."""

    def __init__(self, model: RadCoCa) -> None:
        super().__init__()
        self.text, self.decoder = model.word_tower, model.text_decoder
        self.register_buffer("mask", model.word_tower.attn_mask.clone())

    def forward(self, tokens: torch.Tensor, image_tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        x = self.text.token_embedding(tokens) + self.text.positional_embedding[:length]
        x = self.text.ln_final(self.text.transformer(x, attn_mask=self.mask[:length, :length]))
        for block, cross in zip(self.decoder.resblocks, self.decoder.cross_attn, strict=True):
            x = block(x, attn_mask=self.mask[:length, :length])
            x = cross(x, k_x=image_tokens, v_x=image_tokens)
        return self.decoder.ln_final(x[:, -1]) @ self.decoder.text_projection


def without_cache(weights: StepWeights, image_shape: tuple[int, int]) -> ort.InferenceSession:
    """The decoder without a cache in ONNX Runtime, as `WholeText`: `tokens` (T,), `length` (1,), `image_tokens`.

    Built of what the served graphs are built of, attention as ONNX Runtime's quickest operators for many rows.
    """
    graph, heads = DecoderGraph(), weights.heads
    graph.taken("image_tokens", image_shape)
    width = weights.words.shape[1]
    positions = graph.node("Slice", graph.constant(weights.positions), graph.constant([0]), "length")
    rows = graph.node("Add", graph.node("Gather", graph.constant(weights.words), "tokens"), positions)
    for layer in weights.layers:
        if isinstance(layer, Norm):
            rows = graph.norm(rows, layer)
            continue
        normed = graph.norm(rows, layer.attention_norm)
        if layer.image_norm:
            queries, *others = layer.projections.parts(3)
            image = graph.norm("image_tokens", layer.image_norm)
            seen = [
                graph.node("Add", graph.node("MatMul", image, graph.constant(each.weight)), graph.constant(each.bias))
                for each in others
            ]
            asked = graph.reshaped(graph.linear(normed, queries), 1, -1, width)
            found = graph.node("MultiHeadAttention", asked, *seen, domain=RUNTIME, num_heads=heads, scale=1.0)
        else:
            projections = [graph.constant(each) for each in (layer.projections.weight, layer.projections.bias)]
            told = {"domain": RUNTIME, "num_heads": heads, "unidirectional": 1, "scale": 1.0}
            found = graph.node("Attention", graph.reshaped(normed, 1, -1, width), *projections, **told)
        rows = graph.rest_of_block(rows, graph.reshaped(found, -1, width), layer)
    last = graph.norm(graph.node("Gather", rows, graph.constant([-1])), weights.last)
    logits = graph.given("logits", weights.to_logits.shape[1:])
    graph.node("MatMul", last, graph.constant(weights.to_logits), outputs=[logits])
    model = onnx.load_from_string(graph.finished())
    for name, size in (("tokens", "length"), ("length", 1)):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, [size]))
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def recomputed(logits: Callable[[list[int]], np.ndarray], start: int, tokens: int) -> list[int]:
    """Greedy decoding that keeps nothing: before each token the whole text goes through the decoder again."""
    text = [start]
    for _ in range(tokens):
        text.append(int(logits(text).argmax()))
    return text[1:]


def cut(job: DecodeJob, tokens: int) -> DecodeJob:
    """The job with another length."""
    return replace(job, rules=replace(job.rules, max_tokens=tokens))


def cached(batch: Batch, jobs: Sequence[DecodeJob]) -> list[list[int]]:
    """Greedy decoding of jobs side by side with the cache."""
    tokens: list[list[int]] = [[] for _ in jobs]
    for number, job in enumerate(jobs):
        frame = Frame(job.rules.start_id, job.rules.end_id, job.rules.max_tokens)
        batch.add(number, make_search(frame), job.image_tokens)
    while len(batch):
        for step in batch.step():
            tokens[step.key] += step.tokens
    return tokens


async def report(decoder: ReportDecoder, jobs: Sequence[DecodeJob]) -> list[list[int]]:
    """Decode jobs to their ends."""
    tokens: list[list[int]] = [[] for _ in jobs]
    async with aclosing(decoder.decode(jobs, Deadline())) as steps:
        async for step in steps:
            tokens[step.job] += step.token_ids
    return tokens


async def in_turns(
    ways: Mapping[str, Way], rounds: int, repeats: int = 1, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Median ms of each way on the clock, of `repeats` in a row; one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = clock()
            for _ in range(repeats):
                await way()
            if number:
                times[name].append((clock() - started) * 1e3 / repeats)
    return {name: statistics.median(each) for name, each in times.items()}


def shown(title: str, medians: Mapping[str, float]) -> None:
    """Print medians with their ratio to the first."""
    print(title)
    first = next(iter(medians.values()))
    for name, value in medians.items():
        print(f"  {name:<44} {value:9.1f} ms   {value / first:6.2f} x the first")


async def measure(rounds: int) -> None:
    """Run all three comparisons and print them."""
    pack = PackCatalogue().get("cxr-bus-mini")
    tokenizer = PackTokenizer(pack.tokenizer_path, sections=pack.decoder.sections)
    options = DecodingOptions()
    rules = text_rules(pack, tokenizer, "en", options, ())
    endless = replace(rules, end_id=tokenizer.pad_id, silent_ids=(), heads=(), max_tokens=TOKENS)  # no end before 40
    jobs = [DecodeJob(image_tokens_of(pack, seed), endless, options) for seed in range(8)]
    whole = [replace(job, rules=rules) for job in jobs]
    module = WholeText(load_model(pack.folder))
    step = pack.read("decoder_step")
    session = without_cache(step_weights(onnx.load_from_string(step)), jobs[0].image_tokens.shape)
    graphs = loop_graphs(step)
    if graphs is None:
        raise SystemExit("the pack's step graph is not built for a cache in place")
    fast, slow = InPlaceBatch(OnnxGraph(graphs.start), OnnxGraph(graphs.step), 32), GraphBatch(OnnxGraph(step), 32)
    seen, start = jobs[0].image_tokens, rules.start_id

    def by_onnx(text: list[int]) -> np.ndarray:
        told = {"tokens": np.array(text), "length": np.array([len(text)]), "image_tokens": seen[np.newaxis]}
        return session.run(None, told)[0]

    def by_torch(text: list[int]) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.tensor([text]), torch.from_numpy(seen.copy())[None]).numpy()

    async def without(logits: Callable[[list[int]], np.ndarray], tokens: int) -> list[int]:
        return recomputed(logits, start, tokens)

    async def with_cache(batch: Batch, wanted: Sequence[DecodeJob], tokens: int = TOKENS) -> list[list[int]]:
        return cached(batch, [cut(job, tokens) for job in wanted])

    async def singly() -> list[list[int]]:
        return [cached(fast, [job])[0] for job in jobs]

    async def recomputed_singly() -> list[list[int]]:
        return [recomputed(by_onnx, start, TOKENS) for _ in jobs]  # the work is the same whatever the image

    expected = cached(fast, jobs[:1])
    for way in (with_cache(slow, jobs[:1]), without(by_onnx, TOKENS), without(by_torch, TOKENS)):
        if (written := await way) not in (expected, expected[0]):
            raise SystemExit(f"the ways write different tokens: {expected} and {written}")
    for tokens in LENGTHS:
        ways = {
            "with the cache in place, ONNX": partial(with_cache, fast, jobs[:1], tokens),
            "with the cache copied, ONNX": partial(with_cache, slow, jobs[:1], tokens),
            "recomputed, a graph without a cache, ONNX": partial(without, by_onnx, tokens),
            "recomputed, PyTorch": partial(without, by_torch, tokens),
        }
        shown(f"One greedy report of {tokens} tokens", await in_turns(ways, rounds, REPORTS))
    if cached(fast, jobs) != await singly():
        raise SystemExit("reports side by side are not those written alone")
    sides = {
        "8 side by side, the cache in place": partial(with_cache, fast, jobs),
        "8 one after the other, the cache in place": singly,
        "8 side by side, the cache copied": partial(with_cache, slow, jobs),
        "8 one after the other, recomputed, ONNX": recomputed_singly,
    }
    shown(f"Eight greedy reports of {TOKENS} tokens", await in_turns(sides, rounds))

    with tempfile.TemporaryDirectory() as folder:
        serving = ServingOptions(decoder_loop=True)
        async with EmbeddedTriton([pack], log_folder=Path(folder), options=serving) as server:
            runner = TritonRunner(server.url, [pack])
            served, stream = StepDecoder(pack, tokenizer.words, runner), StreamDecoder(pack, loop_of(pack), runner)
            assert await report(served, whole) == await report(stream, whole)
            loops = {
                "one report, stream": lambda: report(stream, whole[:1]),
                "one report, a request for each token": lambda: report(served, whole[:1]),
                "eight reports, streams": lambda: report(stream, whole),
                "eight reports, a request for each step": lambda: report(served, whole),
            }
            shown("Whole reports through the embedded Triton", await in_turns(loops, rounds, clock=time.perf_counter))
            await runner.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    torch.set_num_threads(1)
    asyncio.run(measure(parser.parse_args().rounds))
