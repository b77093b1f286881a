"""What grpc.health.v1 says before the models answer."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from radserve.server.app import health_before_the_watch


@pytest.mark.parametrize("service", ["", "radserve.v1.InferenceService", "radserve.v1.StudyService"])
def test_a_server_that_starts_does_not_say_that_it_serves(service: str) -> None:
    async def asked() -> health_pb2.HealthCheckResponse:
        server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(await health_before_the_watch(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                return await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        finally:
            await server.stop(None)

    assert asyncio.run(asked()).status == health_pb2.HealthCheckResponse.NOT_SERVING
