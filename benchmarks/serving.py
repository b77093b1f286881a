"""What the server costs: one radiograph classified through gRPC and Triton, against the same work in this process.

    python benchmarks/serving.py [--rounds 7] [--requests 12] [--json FILE]

Two peers, both with ONNX Runtime in this process and neither gRPC nor Triton: "in process" uses the same sandboxed
decode and preprocess workers as the server; "bare" calls decode, preprocessing and the model as plain functions in
threads, unprotected.
The three take turns in every round, at concurrency 1 and 4; medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

import grpc
import numpy as np
from pydicom.data import get_testdata_file

from radserve.dicom_io.decode import DecodeLimits, decode_image
from radserve.dicom_io.store import StudyStore
from radserve.models.catalogue import PackCatalogue
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.tokenizer import PackTokenizer
from radserve.pipelines.authoring import ReportAuthor
from radserve.pipelines.claims import built_in_claims
from radserve.pipelines.classify import encode_frames, find_label
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.decoders import StepDecoder
from radserve.pipelines.intended_use import IntendedUsePolicy
from radserve.pipelines.preprocess.adapter import PRELOAD, MonaiPreprocessor, prepare_now
from radserve.pipelines.preprocess.chain import input_chain
from radserve.pipelines.prompts import embed_prompts
from radserve.pipelines.study import AnalysisRequest, StudyAnalyser
from radserve.references import StudyRef
from radserve.v1 import inference_pb2, inference_pb2_grpc, study_pb2, study_pb2_grpc
from radserve.workers import WorkerLimits, WorkerPool

Call = Callable[[], Awaitable[float]]
CORES = os.cpu_count() or 1


@asynccontextmanager
async def served(data: bytes) -> AsyncIterator[Call]:
    """A server in a process of its own, and a call that classifies the study there; it returns the score."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / "radserve"), "serve", "--port", "0", "--data-dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert process.stdout is not None
            address = (await asyncio.to_thread(process.stdout.readline)).split()[-1]
            async with grpc.aio.insecure_channel(address) as channel:
                yield await _calls(channel, data)
        finally:
            process.terminate()
            process.wait(300)  # on a busy machine it takes its time


async def _calls(channel: grpc.aio.Channel, data: bytes) -> Call:
    studies = study_pb2_grpc.StudyServiceStub(channel)
    start = study_pb2.ImportInstancesRequest(start=study_pb2.InstanceStart(reference="radiograph"))
    chunks = [study_pb2.ImportInstancesRequest(chunk=data[at : at + (1 << 20)]) for at in range(0, len(data), 1 << 20)]
    outcome = (await studies.ImportInstances(iter([start, *chunks]))).outcomes[0]
    inference = inference_pb2_grpc.InferenceServiceStub(channel)
    request = inference_pb2.ClassifyLesionsRequest(
        input=inference_pb2.AnalysisInput(study_instance_uid=outcome.study_instance_uid)
    )

    async def call() -> float:
        return float((await inference.ClassifyLesions(request)).result.findings[0].score)

    return call


@asynccontextmanager
async def in_process(data: bytes) -> AsyncIterator[Call]:
    """The same analysis by the same code with ONNX Runtime here."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        limits = WorkerLimits(memory_bytes=2 << 30, cpu_seconds=30, wall_seconds=60)
        preload = ("radserve.dicom_io.decode",)
        decoders = WorkerPool(name="dicom", size=2, limits=limits, preload=preload)
        unlimited = WorkerLimits(memory_bytes=None, cpu_seconds=None, wall_seconds=120)
        preprocessors = WorkerPool(name="preprocess", size=1, limits=unlimited, preload=(PRELOAD,))
        for pool in (decoders, preprocessors):
            await stack.enter_async_context(pool)
            await pool.warm()
        store = StudyStore(folder, decoders)
        await store.open()
        stack.push_async_callback(store.close)
        async with store.receive() as incoming:
            incoming.write(data)
            study = (await incoming.commit()).header.instance.study_instance_uid
        pack = PackCatalogue().get("cxr-bus-mini")
        runner = OnnxRunner([pack], workers=CORES)
        tokenizer = PackTokenizer(pack.tokenizer_path)
        chains = {use.name: input_chain(pack, use) for use in pack.inputs}
        analyser = StudyAnalyser(
            pack,
            ReportAuthor.of(pack, tokenizer, StepDecoder(pack, tokenizer.words, runner), built_in_claims()),
            await embed_prompts(pack, tokenizer, runner),
            store,
            MonaiPreprocessor(chains, preprocessors),
            runner,
            IntendedUsePolicy(),
        )

        async def call() -> float:
            request = AnalysisRequest(StudyRef(study), report=False)
            (analysis,) = [event async for event in analyser.analyse(request, Deadline())]
            return float(analysis.result.findings[0].score)

        yield call


@asynccontextmanager
async def bare(data: bytes) -> AsyncIterator[Call]:
    """Plain functions in threads: no sandbox, no server."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.dcm"
        path.write_bytes(data)
        pack = PackCatalogue().get("cxr-bus-mini")
        runner = OnnxRunner([pack], workers=CORES)
        tokenizer = PackTokenizer(pack.tokenizer_path)
        prompts = await embed_prompts(pack, tokenizer, runner)
        use, label = pack.inputs[0], pack.labels[0]
        chain = input_chain(pack, use)

        async def call() -> float:
            image = await asyncio.to_thread(decode_image, path, DecodeLimits())
            prepared = await asyncio.to_thread(prepare_now, chain, image, [0])
            frames = encode_frames(pack, runner, use, image.instance, [0], prepared, Deadline())
            encoded = [frame async for frame in frames]
            return float(find_label(pack, label, prompts.directions[label.name], encoded)[0].score)

        yield call


async def per_request_ms(call: Call, requests: int, concurrency: int) -> tuple[float, float]:
    """(wall ms of the whole divided by its requests, median latency in ms)."""
    latencies: list[float] = []
    left = iter(range(requests))

    async def worker() -> None:
        for _ in left:
            started = time.perf_counter()
            await call()
            latencies.append((time.perf_counter() - started) * 1e3)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return (time.perf_counter() - started) * 1e3 / len(latencies), median(latencies)


async def run(rounds: int, requests: int) -> dict[str, object]:
    source = get_testdata_file("RG1_UNCR.dcm")
    assert source is not None, "RG1_UNCR.dcm is missing: install pydicom-data"
    data = Path(source).read_bytes()
    async with served(data) as server, in_process(data) as peer, bare(data) as plain:
        calls = {"served": server, "in process": peer, "bare": plain}
        scores = {name: await call() for name, call in calls.items()}
        assert np.ptp(list(scores.values())) < 1e-5, scores
        results: dict[str, object] = {}
        for concurrency in (1, 4):
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
            for _ in range(rounds):
                for name, call in calls.items():
                    times[name].append(await per_request_ms(call, requests, concurrency))
            row: dict[str, float] = {}
            for name in calls:
                row[f"{name}: ms per request"] = round(median(wall for wall, _ in times[name]), 2)
                row[f"{name}: median latency ms"] = round(median(each for _, each in times[name]), 2)
            for name in ("in process", "bare"):
                ratios = [a[0] / b[0] for a, b in zip(times["served"], times[name], strict=True)]
                row[f"overhead over {name}, %"] = round((median(ratios) - 1) * 100, 1)
            results[f"concurrency {concurrency}"] = row
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=12)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    started = os.getloadavg()[0]
    report = {
        "machine": f"{platform.machine()}, {CORES} cores",
        "load at the start": round(started, 2),
        "rounds": given.rounds,
        "requests a round": given.requests,
        **asyncio.run(run(given.rounds, given.requests)),
    }
    print(json.dumps(report, indent=2))
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
