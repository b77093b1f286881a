"""Reports decoded over a model runner: side by side, held to the rules, stopped at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest

from radserve.decoding import DecodeJob, DecodingOptions, DecodingStrategy
from radserve.errors import ErrorCode, RadserveError
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import ModelPack, load_pack
from radserve.models.tokenizer import PackTokenizer
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.decoders import StepDecoder
from radserve.pipelines.report import text_rules
from radserve.tensors import InferenceRequest, InferenceResponse, ModelRef
from tests.support.packs import REPORT, make_tiny_pack
from tests.support.pipeline import RecordingRunner

GREEDY = DecodingOptions()
STRATEGIES = (
    GREEDY,
    DecodingOptions(DecodingStrategy.BEAM, beams=3),
    DecodingOptions(DecodingStrategy.SAMPLE, temperature=2.0, seed=5),
)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny"))


@pytest.fixture(scope="module")
def tokenizer(pack: ModelPack) -> PackTokenizer:
    return PackTokenizer(pack.tokenizer_path, sections=pack.decoder.sections)


def job(
    pack: ModelPack, tokenizer: PackTokenizer, options: DecodingOptions, seed: int = 0, phrases: Sequence[str] = ()
) -> DecodeJob:
    shape = pack.graphs["decoder_step"].tensor("image_tokens").shape[1:]
    image_tokens = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) * 50
    return DecodeJob(image_tokens, text_rules(pack, tokenizer, "en", options, phrases), options)


async def texts(decoder: StepDecoder, tokenizer: PackTokenizer, jobs: Sequence[DecodeJob]) -> list[str]:
    tokens: list[list[int]] = [[] for _ in jobs]
    async with aclosing(decoder.decode(jobs, Deadline())) as steps:
        async for step in steps:
            tokens[step.job] += step.token_ids
    return [" ".join(tokenizer.words[each] for each in report) for report in tokens]


async def test_greedy_writes_what_the_model_wants_where_it_keeps_the_rules(
    pack: ModelPack, tokenizer: PackTokenizer
) -> None:
    decoder = StepDecoder(pack, tokenizer.words, OnnxRunner([pack]))
    assert await texts(decoder, tokenizer, [job(pack, tokenizer, GREEDY)]) == [REPORT]


@pytest.mark.parametrize("options", STRATEGIES, ids=lambda each: each.strategy.value)
async def test_a_planted_claim_is_kept_out(pack: ModelPack, tokenizer: PackTokenizer, options: DecodingOptions) -> None:
    decoder = StepDecoder(pack, tokenizer.words, OnnxRunner([pack]))
    (text,) = await texts(decoder, tokenizer, [job(pack, tokenizer, options, phrases=["no pneumonia", "are clear"])])
    assert "no pneumonia" not in text
    assert "are clear" not in text
    assert text.startswith("findings :")


async def test_reports_of_all_strategies_in_one_batch_are_those_written_alone(
    pack: ModelPack, tokenizer: PackTokenizer
) -> None:
    runner = RecordingRunner(OnnxRunner([pack]))
    decoder = StepDecoder(pack, tokenizer.words, runner)
    jobs = [job(pack, tokenizer, options, seed) for seed, options in enumerate(STRATEGIES * 2)]
    alone = [(await texts(decoder, tokenizer, [each]))[0] for each in jobs]
    runs = runner.runs("decoder_step")
    assert await texts(decoder, tokenizer, jobs) == alone
    assert runner.runs("decoder_step") - runs < runs / 2
    assert len(set(alone)) > 1


@pytest.mark.parametrize("options", STRATEGIES, ids=lambda each: each.strategy.value)
async def test_a_consumer_that_stops_ends_the_step_that_runs(
    pack: ModelPack, tokenizer: PackTokenizer, options: DecodingOptions
) -> None:
    """The third step never comes back by itself: only its cancellation can end the test."""
    runner = _StuckRunner(OnnxRunner([pack]), after=2)
    decoder = StepDecoder(pack, tokenizer.words, runner)

    async def consume() -> None:
        async with aclosing(decoder.decode([job(pack, tokenizer, options)], Deadline())) as steps:
            async for _ in steps:
                pass

    task = asyncio.create_task(consume())
    await asyncio.wait_for(runner.stuck.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runner.cancelled
    assert runner.runs == 3


async def test_a_deadline_ends_the_text_and_reaches_every_step(pack: ModelPack, tokenizer: PackTokenizer) -> None:
    runner = RecordingRunner(OnnxRunner([pack]))
    decoder = StepDecoder(pack, tokenizer.words, runner)
    for deadline, refused in ((Deadline.after(60.0), False), (Deadline(at_s=0.0), True)):
        try:
            async for _ in decoder.decode([job(pack, tokenizer, GREEDY)], deadline):
                pass
            assert not refused
        except RadserveError as error:
            assert error.code is ErrorCode.DEADLINE_EXCEEDED
            assert refused
    assert all(request.timeout_s is not None for request in runner.requests)


async def test_more_beams_than_rows_are_refused_naming_both(pack: ModelPack, tokenizer: PackTokenizer) -> None:
    graph = replace(pack.graphs["decoder_step"], max_batch_size=4)
    small = replace(pack, graphs={**pack.graphs, "decoder_step": graph})
    decoder = StepDecoder(small, tokenizer.words, OnnxRunner([small]))
    options = DecodingOptions(DecodingStrategy.BEAM, beams=5)
    with pytest.raises(RadserveError, match="beams: got 5, expected at most 4"):
        await texts(decoder, tokenizer, [job(small, tokenizer, options)])


def test_a_language_that_the_pack_does_not_write_is_refused_by_name(pack: ModelPack, tokenizer: PackTokenizer) -> None:
    with pytest.raises(RadserveError, match=r"got 'zh', expected one of \['en'\]") as caught:
        text_rules(pack, tokenizer, "zh", GREEDY, ())
    assert caught.value.code is ErrorCode.LANGUAGE_NOT_AVAILABLE


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"beams": 0}, "decoding beams: got 0, expected 1 to 16"),
        ({"beams": 17}, "decoding beams: got 17"),
        ({"length_penalty": float("nan")}, "decoding length_penalty: got nan"),
        ({"temperature": 0.0}, "decoding temperature: got 0.0, expected above 0"),
        ({"top_k": -1}, "decoding top_k: got -1"),
        ({"top_p": 0.0}, "decoding top_p: got 0.0"),
        ({"seed": -1}, "decoding seed: got -1"),
        ({"max_tokens": -1}, "decoding max_tokens: got -1"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name_and_value(fields: dict, message: str) -> None:
    with pytest.raises(RadserveError) as caught:
        DecodingOptions(**fields)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert message in caught.value.client_message


class _StuckRunner:
    """Answers `after` times and then hangs until it is cancelled."""

    def __init__(self, runner: OnnxRunner, after: int) -> None:
        self._runner, self._after = runner, after
        self.runs, self.cancelled, self.stuck = 0, False, asyncio.Event()

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        self.runs += 1
        if self.runs <= self._after:
            return await self._runner.infer(request)
        self.stuck.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        raise AssertionError("never set")

    async def is_ready(self, model: ModelRef) -> bool:
        return True
