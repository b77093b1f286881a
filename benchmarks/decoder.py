"""What the key-value cache, guessing, decoding side by side and the loop inside Triton are worth, on the default pack.

    python benchmarks/decoder.py --data FOLDER [--rounds 9]

Cache: greedy reports of 40 tokens (of other lengths, and to their own ends) with the cache in place, as the loop inside
Triton runs it, with the step graph whose cache goes in and out of every run, and by full recomputation: before every
token the whole text goes through the decoder again, in ONNX Runtime (same options, built of the same parts, attention
as its quickest operators for many rows) and in PyTorch; only the last token gets logits. Guesses: the same with several
guessed tokens checked in a run, with the cache and without one; what is guessed was learnt from the reports on the
validation split and stays as it is, the reports that are timed are of the test split, each image once. Batch: 8 reports
side by side against one after the other. Loop: whole reports through the embedded Triton, a request for each token
against one stream. The ways take turns in every round, five reports in a turn, English and Chinese; medians of the
rounds. One thread everywhere. What runs in this process is told in CPU time, what goes through Triton in wall time. On
a machine with other work raise the priority (nice -n -18): a step reads all weights, so it suffers most from lost
caches.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
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
from radserve.models.compress.default_samples import read_samples
from radserve.models.decoding.batch import GraphBatch
from radserve.models.decoding.guesses import Guesses, leaps_as_steps
from radserve.models.decoding.in_place import InPlaceBatch
from radserve.models.decoding.search import Frame, make_search
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import ModelPack
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.data import Split
from radserve.models.train.scoring import load_model
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.config import ServingOptions
from radserve.models.triton.decoder_graph import RUNTIME, DecoderGraph
from radserve.models.triton.loop_graphs import LEAP, loop_graphs
from radserve.models.triton.repository import loop_of
from radserve.models.triton.server import EmbeddedTriton
from radserve.models.triton.step_weights import Norm, StepWeights, step_weights
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.decoders import ReportDecoder, StepDecoder, StreamDecoder
from radserve.pipelines.report import text_rules

TOKENS, LENGTHS = 40, (10, 20, 40, 60)
REPORTS = 5  # that a way writes in its turn: what others left in the caches weighs less
LEARNT, TIMED = 150, 200  # reports on the validation split, and on the test split
SIDES = 8  # reports side by side
Way = Callable[[Sequence[DecodeJob]], Awaitable[object]]
Logits = Callable[[DecodeJob, list[int], int], np.ndarray]  # after the last so many tokens of a text
Batch = GraphBatch | InPlaceBatch


def jobs_of(pack: ModelPack, data: Path, split: Split, number: int) -> list[DecodeJob]:
    """Reports to be written: images of all labels of a split in turns, drawn from a seed, each next one in English."""
    rng, options = np.random.default_rng(0), DecodingOptions()
    tokenizer = PackTokenizer(pack.tokenizer_path, sections=pack.decoder.sections)
    rules = [text_rules(pack, tokenizer, language, options, ()) for language in ("en", "zh")]
    samples = read_samples(pack, data, split)
    drawn = [rng.permutation(len(each.pixels))[: -(-number // len(samples))] for each in samples]
    tokens = []
    for each, places in zip(samples, drawn, strict=True):
        encoder = OnnxGraph(pack.read(each.use.image_encoder))
        tokens += [encoder.run({"pixels": image[np.newaxis]})["image_tokens"][0] for image in each.pixels[places]]
    return [
        DecodeJob(tokens[place], rules[number % 2], options) for number, place in enumerate(rng.permutation(number))
    ]


class Known(Guesses):
    """Guesses that have learnt enough: they know how these texts go on and take in no other."""

    def __init__(self, texts: Iterable[Sequence[int]]) -> None:
        super().__init__()
        for text in texts:
            for end in range(2, len(text) + 1):
                super().learn(text[:end])

    def learn(self, text: Sequence[int]) -> None:
        """Nothing: what is timed is no help to itself."""


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
    """The decoder without a cache in ONNX Runtime: `tokens` (T,), `length` (1,), `read` (R,), `image_tokens`.

    Gives the logits (R, V) after the tokens at `read`. Built of what the served graphs are built of, attention as ONNX
    Runtime's quickest operators for many rows.
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
    read = graph.norm(graph.node("Gather", rows, "read"), weights.last)
    logits = graph.given("logits", weights.to_logits.shape[1:])
    graph.node("MatMul", read, graph.constant(weights.to_logits), outputs=[logits])
    model = onnx.load_from_string(graph.finished())
    for name, size in (("tokens", "length"), ("length", 1), ("read", "read")):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, [size]))
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def recomputed(logits: Logits, job: DecodeJob) -> list[int]:
    """Greedy decoding that keeps nothing: before each token the whole text goes through the decoder again."""
    text, rules = [job.rules.start_id], job.rules
    while len(text) <= rules.max_tokens and (token := int(logits(job, text, 1).argmax())) != rules.end_id:
        text.append(token)
    return text[1:]


def recomputed_by_guesses(logits: Logits, guesses: Guesses, job: DecodeJob) -> list[int]:
    """The same with as many guessed tokens checked in a run as a leap takes."""
    text, rules = [job.rules.start_id], job.rules
    while len(text) <= rules.max_tokens:
        guess = guesses.after(text, min(LEAP - 1, rules.max_tokens - len(text)))
        found = logits(job, [*text, *guess], len(guess) + 1).argmax(axis=1)
        for token, guessed in zip(found.tolist(), [*guess, None], strict=True):
            if token == rules.end_id:
                return text[1:]
            text.append(token)
            if token != guessed:
                break
    return text[1:]


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


def runs_of(batch: Batch, jobs: Sequence[DecodeJob]) -> float:
    """Mean runs of a report on its own."""
    runs = 0
    for job in jobs:
        batch.add(0, make_search(Frame(job.rules.start_id, job.rules.end_id, job.rules.max_tokens)), job.image_tokens)
        while len(batch):
            batch.step()
            runs += 1
    return runs / len(jobs)


async def report(decoder: ReportDecoder, jobs: Sequence[DecodeJob]) -> list[list[int]]:
    """Decode jobs to their ends."""
    tokens: list[list[int]] = [[] for _ in jobs]
    async with aclosing(decoder.decode(jobs, Deadline())) as steps:
        async for step in steps:
            tokens[step.job] += step.token_ids
    return tokens


async def in_turns(
    ways: Mapping[str, Way],
    jobs: Sequence[DecodeJob],
    rounds: int,
    number: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Median ms of each way on the clock, of the next `number` jobs in every round; one round to warm up.

    Stops where the ways write different tokens.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        some, written = [jobs[(turn * number + each) % len(jobs)] for each in range(number)], []
        for name, way in ways.items():
            started = clock()
            written.append(await way(some))
            if turn:
                times[name].append((clock() - started) * 1e3)
        if any(each != written[0] for each in written):
            raise SystemExit(f"the ways write different tokens: {written}")
    return {name: statistics.median(each) for name, each in times.items()}


def shown(title: str, medians: Mapping[str, float]) -> None:
    """Print medians with their ratio to the first."""
    print(title)
    first = next(iter(medians.values()))
    for name, value in medians.items():
        print(f"  {name:<52} {value:9.1f} ms   {value / first:6.2f} x the first")


async def measure(data: Path, rounds: int) -> None:
    """Run all comparisons and print them."""
    pack = PackCatalogue().get("cxr-bus-mini")
    tokenizer = PackTokenizer(pack.tokenizer_path, sections=pack.decoder.sections)
    known, jobs = jobs_of(pack, data, "val", LEARNT), jobs_of(pack, data, "test", TIMED)
    module = WholeText(load_model(pack.folder))
    step = pack.read("decoder_step")
    weights = step_weights(onnx.load_from_string(step))
    session = without_cache(weights, jobs[0].image_tokens.shape)
    graphs = loop_graphs(step)
    if graphs is None:
        raise SystemExit("the pack's step graph is not built for a cache in place")
    start, single, leap = OnnxGraph(graphs.start), OnnxGraph(graphs.step), OnnxGraph(graphs.leap)
    if not leaps_as_steps(single, leap):
        raise SystemExit("leaps do not give the bits of steps on this machine")
    fast, slow = InPlaceBatch(start, single, 32), GraphBatch(OnnxGraph(step), 32)

    def by_onnx(job: DecodeJob, text: list[int], last: int) -> np.ndarray:
        told = {"tokens": text, "length": [len(text)], "read": range(len(text) - last, len(text))}
        arrays = {name: np.array(each, dtype=np.int64) for name, each in told.items()}
        return session.run(None, {**arrays, "image_tokens": job.image_tokens[np.newaxis]})[0]

    def by_torch(job: DecodeJob, text: list[int], last: int) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.tensor([text]), torch.from_numpy(job.image_tokens.copy())[None]).numpy()

    async def singly(write: Callable[[DecodeJob], list[int]], some: Sequence[DecodeJob]) -> list[list[int]]:
        return [write(job) for job in some]

    async def together(batch: Batch, some: Sequence[DecodeJob]) -> list[list[int]]:
        return cached(batch, some)

    def alone(batch: Batch) -> Way:
        return partial(singly, lambda job: cached(batch, [job])[0])

    def with_length(some: Sequence[DecodeJob], tokens: int) -> list[DecodeJob]:
        if not tokens:
            return list(some)
        return [replace(job, rules=replace(job.rules, end_id=tokenizer.pad_id, max_tokens=tokens)) for job in some]

    for tokens in (*LENGTHS, 0):
        texts = [[job.rules.start_id, *text] for job in known for text in cached(fast, with_length([job], tokens))]
        guesses = Known(texts)
        leaping = InPlaceBatch(start, single, 32, leap, guesses)
        ways = {
            "with the cache in place, ONNX": alone(fast),
            "with the cache in place, guessing, ONNX": alone(leaping),
            "with the cache copied, ONNX": alone(slow),
            "recomputed, a graph without a cache, ONNX": partial(singly, partial(recomputed, by_onnx)),
            "recomputed, guessing, a graph without a cache, ONNX": partial(
                singly, partial(recomputed_by_guesses, by_onnx, guesses)
            ),
            "recomputed, PyTorch": partial(singly, partial(recomputed, by_torch)),
        }
        title = f"{REPORTS} greedy reports " + (f"of {tokens} tokens" if tokens else "to their own ends")
        wanted = with_length(jobs, tokens)
        shown(title, await in_turns(ways, wanted, rounds, REPORTS))
        print(f"  runs a report: {runs_of(fast, wanted):.1f}, guessing {runs_of(leaping, wanted):.1f}")
        if tokens == TOKENS:
            sides = {
                f"{SIDES} side by side, the cache in place": partial(together, fast),
                f"{SIDES} one after the other, the cache in place": ways["with the cache in place, ONNX"],
                f"{SIDES} one after the other, guessing": ways["with the cache in place, guessing, ONNX"],
                f"{SIDES} side by side, the cache copied": partial(together, slow),
                f"{SIDES} one after the other, recomputed, ONNX": ways["recomputed, a graph without a cache, ONNX"],
            }
            title = f"{SIDES} greedy reports of {TOKENS} tokens"
            shown(title, await in_turns(sides, with_length(jobs, tokens), rounds, SIDES))

    with tempfile.TemporaryDirectory() as folder:
        serving = ServingOptions(decoder_loop=True)
        async with EmbeddedTriton([pack], log_folder=Path(folder), options=serving) as server:
            runner = TritonRunner(server.url, [pack])
            served, stream = StepDecoder(pack, tokenizer.words, runner), StreamDecoder(pack, loop_of(pack), runner)
            for job in known:  # so that the loop can guess
                await report(stream, [job])
            for number, title in ((1, "One report"), (SIDES, f"{SIDES} reports")):
                loops = {
                    "streams": partial(report, stream),
                    "a request for each step": partial(report, served),
                }
                medians = await in_turns(loops, jobs, rounds, number, time.perf_counter)
                shown(f"{title} through the embedded Triton", medians)
            await runner.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz and breastmnist.npz")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    asyncio.run(measure(given.data, given.rounds))
