"""What the key-value cache, decoding side by side and the loop inside Triton are worth, on the default pack.

    python benchmarks/decoder.py [--rounds 7]

Cache: a greedy report of 40 tokens (and of other lengths) with the cache in place, as the loop inside Triton runs it,
with the step graph whose cache goes in and out of every run, and by full recomputation: before every token the whole
text goes through the decoder again, as a graph without a cache (in the same runtime with the same options and fused
operators) and in PyTorch. Batch: 8 reports side by side against one after the other. Loop: whole reports through the
embedded Triton, a request for each token against one stream. The ways take turns in every round; medians of the rounds.
One thread everywhere. What runs in this process is told in CPU time, what goes through Triton in wall time. On a
machine with other work raise the priority (nice -n -18): a step reads all weights, so it suffers most from lost caches.
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
import onnxruntime as ort
import torch

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
from radserve.models.triton.loop_graphs import loop_graphs
from radserve.models.triton.repository import loop_of
from radserve.models.triton.server import EmbeddedTriton
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.decoders import ReportDecoder, StepDecoder, StreamDecoder
from radserve.pipelines.report import text_rules

OPSET = 24  # Gelu and attention are one operator each: the recomputed graph is no worse than it has to be
TOKENS, LENGTHS = 40, (10, 20, 40, 60)
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
        return self.decoder(image_tokens, x)[:, -1]


def without_cache(module: WholeText, image_tokens: np.ndarray) -> ort.InferenceSession:
    """The module as an ONNX graph for a text of any length, run as the served graphs are."""
    length = torch.export.Dim("length", min=1, max=64)
    program = torch.onnx.export(
        module.eval(),
        (torch.ones(1, 5, dtype=torch.int64), torch.from_numpy(image_tokens.copy())[None]),
        input_names=["tokens", "image_tokens"],
        output_names=["logits"],
        dynamic_shapes=({1: length}, {}),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    data = program.model_proto.SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


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
    ways: Mapping[str, Way], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Median ms of each way on the clock; one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = clock()
            await way()
            if number:
                times[name].append((clock() - started) * 1e3)
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
    session = without_cache(module, jobs[0].image_tokens)
    step = pack.read("decoder_step")
    graphs = loop_graphs(step)
    if graphs is None:
        raise SystemExit("the pack's step graph is not built for a cache in place")
    fast, slow = InPlaceBatch(OnnxGraph(graphs.start), OnnxGraph(graphs.step), 32), GraphBatch(OnnxGraph(step), 32)
    seen, start = jobs[0].image_tokens, rules.start_id

    def by_onnx(text: list[int]) -> np.ndarray:
        return session.run(None, {"tokens": np.array([text]), "image_tokens": seen[np.newaxis]})[0]

    def by_torch(text: list[int]) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.tensor([text]), torch.from_numpy(seen.copy())[None]).numpy()

    async def without(logits: Callable[[list[int]], np.ndarray], tokens: int) -> list[int]:
        return recomputed(logits, start, tokens)

    async def with_cache(batch: Batch, wanted: Sequence[DecodeJob], tokens: int = TOKENS) -> list[list[int]]:
        return cached(batch, [cut(job, tokens) for job in wanted])

    async def singly() -> list[list[int]]:
        return [cached(fast, [job])[0] for job in jobs]

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
        shown(f"One greedy report of {tokens} tokens", await in_turns(ways, rounds))
    if cached(fast, jobs) != await singly():
        raise SystemExit("reports side by side are not those written alone")
    sides = {
        "8 side by side, the cache in place": partial(with_cache, fast, jobs),
        "8 one after the other, the cache in place": singly,
        "8 side by side, the cache copied": partial(with_cache, slow, jobs),
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
            shown("Whole reports through the embedded Triton", await in_turns(loops, rounds, time.perf_counter))
            await runner.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    torch.set_num_threads(1)
    asyncio.run(measure(parser.parse_args().rounds))
