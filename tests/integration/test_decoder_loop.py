"""The loop inside Triton writes what the loop outside writes, streams it, and stops when nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np
import pytest
import pytest_asyncio

from radserve.decoding import DecodeJob, DecodeProgress, DecodingOptions, DecodingStrategy
from radserve.errors import ErrorCode, RadserveError
from radserve.models.catalogue import PackCatalogue
from radserve.models.pack import ModelPack
from radserve.models.tokenizer import PackTokenizer
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.config import ServingOptions
from radserve.models.triton.repository import loop_of
from radserve.models.triton.server import EmbeddedTriton
from radserve.pipelines.claims import built_in_claims
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.decoders import ReportDecoder, StepDecoder, StreamDecoder
from radserve.pipelines.report import text_rules
from radserve.tensors import InferenceRequest

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]
STRATEGIES = (
    DecodingOptions(),
    DecodingOptions(DecodingStrategy.BEAM, beams=3, length_penalty=0.7),
    DecodingOptions(DecodingStrategy.SAMPLE, temperature=1.3, top_k=20, top_p=0.95, seed=11),
)


@dataclass
class Setting:
    pack: ModelPack
    tokenizer: PackTokenizer
    runner: TritonRunner
    steps: StepDecoder
    stream: StreamDecoder

    def job(self, options: DecodingOptions, seed: int = 0, **rules: object) -> DecodeJob:
        shape = self.pack.graphs["decoder_step"].tensor("image_tokens").shape[1:]
        image_tokens = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        held = text_rules(self.pack, self.tokenizer, "en", options, built_in_claims().phrases())
        return DecodeJob(image_tokens, replace(held, **rules), options)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setting]:
    pack = PackCatalogue().get("cxr-bus-mini")
    tokenizer = PackTokenizer(pack.tokenizer_path, sections=pack.decoder.sections)
    options = ServingOptions(decoder_loop=True)
    async with EmbeddedTriton([pack], log_folder=tmp_path_factory.mktemp("logs"), options=options) as server:
        runner = TritonRunner(server.url, [pack])
        stream = StreamDecoder(pack, loop_of(pack), runner)
        yield Setting(pack, tokenizer, runner, StepDecoder(pack, tokenizer.words, runner), stream)
        await runner.close()


async def tokens(decoder: ReportDecoder, jobs: Sequence[DecodeJob]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in jobs]
    async with aclosing(decoder.decode(jobs, Deadline.after(120))) as steps:
        async for step in steps:
            found[step.job] += step.token_ids
    return found


@pytest.mark.parametrize("options", STRATEGIES, ids=lambda each: each.strategy.value)
async def test_both_loops_choose_the_same_tokens(setting: Setting, options: DecodingOptions) -> None:
    for seed in range(3):
        job = setting.job(options, seed)
        (one,), (other,) = await tokens(setting.steps, [job]), await tokens(setting.stream, [job])
        assert one == other
        assert len(one) > 10


async def test_reports_in_work_at_once_are_those_written_alone(setting: Setting) -> None:
    jobs = [setting.job(options, seed) for seed, options in enumerate(STRATEGIES * 3)]
    alone = [(await tokens(setting.stream, [job]))[0] for job in jobs]
    assert await tokens(setting.stream, jobs) == alone
    assert await tokens(setting.steps, jobs) == alone


async def test_tokens_come_while_they_are_written_and_in_bursts_where_they_were_guessed(setting: Setting) -> None:
    job = setting.job(DecodingOptions(), 77)
    for _ in range(2):
        steps = [step async for step in setting.stream.decode([job], Deadline())]
        bursts = [step.token_ids for step in steps if step.token_ids]
        assert len(bursts) > 2
        assert [step.finished for step in steps].index(True) == len(steps) - 1
        assert [[token for burst in bursts for token in burst]] == await tokens(setting.steps, [job])
    assert max(map(len, bursts)) > 1


async def test_a_reader_that_leaves_does_not_disturb_the_others(setting: Setting) -> None:
    endless = setting.job(DecodingOptions(), 1, end_id=setting.tokenizer.pad_id, heads=(), max_tokens=60)
    other = asyncio.create_task(tokens(setting.stream, [setting.job(DecodingOptions(), 2)]))
    async with aclosing(setting.stream.decode([endless], Deadline())) as steps:
        first: DecodeProgress = await anext(steps)
    assert first.token_ids
    assert await other == await tokens(setting.steps, [setting.job(DecodingOptions(), 2)])


async def test_a_deadline_ends_the_stream(setting: Setting) -> None:
    with pytest.raises(RadserveError) as caught:
        async for _ in setting.stream.decode([setting.job(DecodingOptions())], Deadline.after(0.001)):
            pass
    assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED


async def test_a_job_that_cannot_be_is_refused_and_the_loop_lives_on(setting: Setting) -> None:
    job = setting.job(DecodingOptions())
    nonsense = np.frombuffer(b"{}", dtype=np.uint8)
    request = InferenceRequest(loop_of(setting.pack), {"image_tokens": job.image_tokens, "job": nonsense}, 30.0)
    with pytest.raises(RadserveError) as caught:
        async for _ in setting.runner.stream(request):
            pass
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert (await tokens(setting.stream, [job]))[0]
