"""What the key-value cache, decoding side by side and the loop inside Triton are worth, on the default pack.

    python benchmarks/decoder.py [--rounds 7]

Cache: a greedy report of 40 tokens with the step graph and its cache, as the loop inside Triton runs it, against full
recomputation: before every token the whole text goes through the decoder again, as an exported graph without a cache
and in PyTorch. Batch: 8 reports side by side against one after the other. Loop: whole reports through the embedded
Triton, a request for each token against one stream. The ways take turns in every round; medians of the rounds. One
thread everywhere. What runs in this process is told in CPU time, which other work on the machine does not change; what
goes through Triton in wall time.
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
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from radserve.decoding import DecodeJob, DecodingOptions
from radserve.models.catalogue import PackCatalogue
from radserve.models.decoding.batch import DecodeBatch
from radserve.models.decoding.search import Frame, make_search
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import ModelPack
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.scoring import load_model
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.config import ServingOptions
from radserve.models.triton.repository import loop_of
from radserve.models.triton.server import EmbeddedTriton
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.decoders import ReportDecoder, StepDecoder, StreamDecoder
from radserve.pipelines.report import text_rules

TOKENS = 40
Way = Callable[[], Awaitable[object]]


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
        self.text, self.decoder = model.text, model.text_decoder
        self.register_buffer("mask", model.text.attn_mask.clone())

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
        opset_version=18,
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


def cached(graph: OnnxGraph, jobs: Sequence[DecodeJob]) -> list[list[int]]:
    """Greedy decoding of jobs side by side with the cache."""
    batch, tokens = DecodeBatch(32), [[] for _ in jobs]
    for number, job in enumerate(jobs):
        frame = Frame(job.rules.start_id, job.rules.end_id, job.rules.max_tokens)
        batch.add(number, make_search(frame), job.image_tokens, graph.inputs["cache"][1])
    while len(batch):
        for step in batch.accept(graph.run(batch.next_inputs())):
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
    graph = OnnxGraph(pack.read("decoder_step"))
    seen, start = jobs[0].image_tokens, rules.start_id

    def by_onnx(text: list[int]) -> np.ndarray:
        return session.run(None, {"tokens": np.array([text]), "image_tokens": seen[np.newaxis]})[0]

    def by_torch(text: list[int]) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.tensor([text]), torch.from_numpy(seen.copy())[None]).numpy()

    async def without(logits: Callable[[list[int]], np.ndarray]) -> list[int]:
        return recomputed(logits, start, TOKENS)

    async def with_cache(wanted: Sequence[DecodeJob]) -> list[list[int]]:
        return cached(graph, wanted)

    expected = cached(graph, jobs[:1])[0]
    assert len(expected) == TOKENS
    for way in (by_onnx, by_torch):
        written = await without(way)
        if written != expected:
            raise SystemExit(f"the ways write different tokens: {expected} and {written}")
    cache = {
        "with the cache, ONNX": lambda: with_cache(jobs[:1]),
        "recomputed, a graph without a cache, ONNX": lambda: without(by_onnx),
        "recomputed, PyTorch": lambda: without(by_torch),
    }
    shown(f"One greedy report of {TOKENS} tokens", await in_turns(cache, rounds))

    async def singly() -> list[list[int]]:
        return [cached(graph, [job])[0] for job in jobs]

    if cached(graph, jobs) != await singly():
        raise SystemExit("reports side by side are not those written alone")
    sides = {"8 side by side": lambda: with_cache(jobs), "8 one after the other": singly}
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
