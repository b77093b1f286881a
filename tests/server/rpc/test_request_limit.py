"""A server with as much to do as it takes says so to others, and still tells how it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from radserve.errors import ErrorCode
from radserve.server.app import health_before_the_watch
from radserve.server.rpc.errors import radserve_error
from radserve.server.rpc.port import grpc_server
from radserve.server.settings import Settings
from radserve.v1 import inference_pb2, inference_pb2_grpc, study_pb2, study_pb2_grpc

SECONDS = 60


class Studies(study_pb2_grpc.StudyServiceServicer):
    async def GetStudy(self, request: study_pb2.GetStudyRequest, context: Any) -> study_pb2.GetStudyResponse:
        return study_pb2.GetStudyResponse()

    async def ImportInstances(
        self, request_iterator: AsyncIterator[study_pb2.ImportInstancesRequest], context: Any
    ) -> study_pb2.ImportInstancesResponse:
        return study_pb2.ImportInstancesResponse(
            outcomes=[study_pb2.InstanceOutcome(reference=each.start.reference) async for each in request_iterator]
        )


class Inference(inference_pb2_grpc.InferenceServiceServicer):
    """Writes one piece of a report and then waits for ever."""

    async def GenerateReport(
        self, request: inference_pb2.GenerateReportRequest, context: Any
    ) -> AsyncIterator[inference_pb2.GenerateReportResponse]:
        yield inference_pb2.GenerateReportResponse()
        await asyncio.Event().wait()


@asynccontextmanager
async def serving(most: int) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc_server(Settings(max_concurrent_requests=most))
    study_pb2_grpc.add_StudyServiceServicer_to_server(Studies(), server)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(Inference(), server)
    health_pb2_grpc.add_HealthServicer_to_server(await health_before_the_watch(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def get_study(channel: grpc.aio.Channel) -> None:
    await study_pb2_grpc.StudyServiceStub(channel).GetStudy(study_pb2.GetStudyRequest(), timeout=SECONDS)


async def test_more_requests_than_the_site_takes_are_told_to_come_back() -> None:
    async with serving(most=2) as channel:
        reports = [
            inference_pb2_grpc.InferenceServiceStub(channel).GenerateReport(inference_pb2.GenerateReportRequest())
            for _ in range(2)
        ]
        for report in reports:
            await report.read()  # it is in work
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get_study(channel)
        error = radserve_error(caught.value)
        assert (caught.value.code(), error.code) == (grpc.StatusCode.RESOURCE_EXHAUSTED, ErrorCode.SERVER_BUSY)
        assert error.client_message.startswith("2 requests are in work")
        health = health_pb2_grpc.HealthStub(channel)
        assert await health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        reports[0].cancel()
        while True:  # the server hears of it in its own time
            try:
                await get_study(channel)
                break
            except grpc.aio.AioRpcError as still:
                assert still.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                await asyncio.sleep(0.05)


async def test_a_stream_of_requests_is_passed_on() -> None:
    async with serving(most=1) as channel:
        sent = [study_pb2.ImportInstancesRequest(start=study_pb2.InstanceStart(reference=name)) for name in "ab"]
        answer = await study_pb2_grpc.StudyServiceStub(channel).ImportInstances(iter(sent), timeout=SECONDS)
        assert [each.reference for each in answer.outcomes] == ["a", "b"]


async def test_a_method_that_is_not_there_is_said_to_be_so() -> None:
    async with serving(most=1) as channel:
        call = channel.unary_unary("/radserve.v1.StudyService/NoSuchMethod")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
