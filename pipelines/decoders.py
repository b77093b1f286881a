"""The report decoder of a pack: step by step from here, or as one stream from a loop inside the model server.

Both choose the same tokens: they run the same searches (models/decoding) over the same step graph.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from functools import lru_cache
from typing import Protocol

import numpy as np

from radserve._checks import invalid
from radserve.decoding import DecodeJob, DecodeProgress, DecodingStrategy, TextRules
from radserve.errors import ErrorCode, ModelError
from radserve.models.decoding.batch import DecodeBatch
from radserve.models.decoding.constraint import ReportConstraint
from radserve.models.decoding.search import Frame, Search, make_search
from radserve.models.pack import DECODER_STEP, GraphSpec, ModelPack
from radserve.pipelines.deadline import Deadline
from radserve.ports import ModelRunner, ModelStreamer
from radserve.tensors import InferenceRequest, ModelRef

_RULES_KEPT = 32


class ReportDecoder(Protocol):
    """Writes reports side by side."""

    def decode(self, jobs: Sequence[DecodeJob], deadline: Deadline) -> AsyncGenerator[DecodeProgress, None]:
        """Tokens of all jobs as they become certain. Closing it stops the decoder, also in the middle of a step.

        Raises INVALID_ARGUMENT for more beams than the graph takes rows, ModelError, RequestError DEADLINE_EXCEEDED.
        """
        ...


class StepDecoder:
    """Runs the loop here: a request to the model server for each token, the rows of all jobs in it.

    Works with every ModelRunner. Nothing runs ahead of the consumer.
    """

    def __init__(self, pack: ModelPack, words: Sequence[str], runner: ModelRunner) -> None:
        self._graph, self._model, self._runner = pack.graphs[DECODER_STEP], pack.model(DECODER_STEP), runner
        self._constraint = lru_cache(_RULES_KEPT)(lambda rules: constraint_of(words, rules))

    async def decode(self, jobs: Sequence[DecodeJob], deadline: Deadline) -> AsyncGenerator[DecodeProgress, None]:
        """As the protocol says."""
        batch = DecodeBatch(self._graph.max_batch_size)
        cache_shape = self._graph.tensor("cache").shape[1:]
        for number, job in enumerate(jobs):
            check_job(job, self._graph)
            batch.add(number, self._search(job), job.image_tokens, cache_shape)
        while len(batch):
            request = InferenceRequest(self._model, batch.next_inputs(), deadline.remaining_s())
            response = await self._runner.infer(request)
            try:
                steps = batch.accept(response.outputs)
            except ValueError as error:
                raise ModelError(ErrorCode.MODEL_OUTPUT_INVALID, str(error)) from error
            for step in steps:
                yield DecodeProgress(step.key, step.tokens, step.finished)

    def _search(self, job: DecodeJob) -> Search:
        rules = job.rules
        frame = Frame(rules.start_id, rules.end_id, rules.max_tokens, self._constraint(rules))
        return make_search(frame, job.options.strategy.value, **job.options.parameters)  # type: ignore[arg-type]


class StreamDecoder:
    """Leaves the loop to `loop`, a model beside the step graph: one request and one stream for each report."""

    def __init__(self, pack: ModelPack, loop: ModelRef, streamer: ModelStreamer) -> None:
        self._graph, self._loop, self._streamer = pack.graphs[DECODER_STEP], loop, streamer

    async def decode(self, jobs: Sequence[DecodeJob], deadline: Deadline) -> AsyncGenerator[DecodeProgress, None]:
        """As the protocol says."""
        for job in jobs:
            check_job(job, self._graph)
        arrived: asyncio.Queue[DecodeProgress | BaseException] = asyncio.Queue()
        tasks = [asyncio.create_task(self._follow(number, job, deadline, arrived)) for number, job in enumerate(jobs)]
        left = len(tasks)
        try:
            while left:
                event = await arrived.get()
                if isinstance(event, BaseException):
                    raise event
                left -= event.finished
                yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(
        self, number: int, job: DecodeJob, deadline: Deadline, arrived: asyncio.Queue[DecodeProgress | BaseException]
    ) -> None:
        try:
            request = InferenceRequest(
                self._loop, {"image_tokens": job.image_tokens, "job": encoded_job(job)}, deadline.remaining_s()
            )
            async with aclosing(self._streamer.stream(request)) as responses:
                async for response in responses:
                    tokens = tuple(response.outputs["tokens"].tolist())
                    arrived.put_nowait(DecodeProgress(number, tokens, finished=False))
            arrived.put_nowait(DecodeProgress(number, (), finished=True))
        except Exception as error:
            arrived.put_nowait(error)


def check_job(job: DecodeJob, graph: GraphSpec) -> None:
    """Raise INVALID_ARGUMENT where the beams of a job are more rows than the graph takes."""
    if job.options.strategy is DecodingStrategy.BEAM and job.options.beams > graph.max_batch_size:
        raise invalid("decoding beams", job.options.beams, f"at most {graph.max_batch_size}, the rows the pack takes")


def constraint_of(words: Sequence[str], rules: TextRules) -> ReportConstraint:
    """The rules over a vocabulary, ready to be asked."""
    return ReportConstraint(words, rules.end_id, rules.silent_ids, rules.heads, rules.phrases)


def encoded_job(job: DecodeJob) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """What the loop in the model server is told: JSON as bytes (n,) uint8."""
    told = {"strategy": job.options.strategy.value, "parameters": job.options.parameters, "rules": asdict(job.rules)}
    return np.frombuffer(json.dumps(told, sort_keys=True).encode(), dtype=np.uint8)
