"""The real server, with the embedded Triton, in a thread of the test process; and ways to call it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from radserve.server.app import RunningServer, running
from radserve.server.settings import Settings
from radserve.v1 import common_pb2, inference_pb2, inference_pb2_grpc, model_pb2_grpc, study_pb2, study_pb2_grpc

T = TypeVar("T")
START_SECONDS = 180
CALL_SECONDS = 120


class LiveServer:
    """A started server, its event loop, and stubs over one channel."""

    def __init__(self, server: RunningServer, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self.server = server
        self.address = server.address
        self.settings = settings
        self._loop = loop
        self.channel = grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", 1 << 28)])
        self.studies = study_pb2_grpc.StudyServiceStub(self.channel)
        self.inference = inference_pb2_grpc.InferenceServiceStub(self.channel)
        self.models = model_pb2_grpc.ModelServiceStub(self.channel)

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's loop."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(CALL_SECONDS)

    def send(self, *instances: bytes, chunk: int = 1 << 20) -> Sequence[study_pb2.InstanceOutcome]:
        """Import whole instances; their references are their places, from 0."""

        def requests() -> Iterator[study_pb2.ImportInstancesRequest]:
            for number, data in enumerate(instances):
                yield study_pb2.ImportInstancesRequest(start=study_pb2.InstanceStart(reference=str(number)))
                for at in range(0, len(data), chunk):
                    yield study_pb2.ImportInstancesRequest(chunk=data[at : at + chunk])

        return list(self.studies.ImportInstances(requests(), timeout=CALL_SECONDS).outcomes)

    def classify(self, study: str, **fields: Any) -> common_pb2.StudyResult:
        request = inference_pb2.ClassifyLesionsRequest(
            input=inference_pb2.AnalysisInput(study_instance_uid=study, **fields)
        )
        return self.inference.ClassifyLesions(request, timeout=CALL_SECONDS).result

    def report(self, study: str, **fields: Any) -> Any:
        """The stream of GenerateReport, to be iterated or cancelled."""
        request = inference_pb2.GenerateReportRequest(
            input=inference_pb2.AnalysisInput(study_instance_uid=study, **fields)
        )
        return self.inference.GenerateReport(request, timeout=CALL_SECONDS)


def reason_of(error: grpc.RpcError) -> str:
    """The ErrorCode that a failed call carries."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.domain == "radserve"
    return str(info.reason)


@contextmanager
def live_server(data_dir: Path, **given: Any) -> Iterator[LiveServer]:
    """Start a server on a free port, stop it at the end, and raise what its start or its end raised.

    It has one process for each task where nothing else is given: what is started for one test is to start fast.
    """
    settings = Settings(port=0, data_dir=data_dir, **{"decode_workers": 1, "triton_instances": 1, **given})
    started: Future[tuple[RunningServer, asyncio.AbstractEventLoop]] = Future()
    stop = threading.Event()
    ended: Future[None] = Future()

    async def serve() -> None:
        async with running(settings) as server:
            started.set_result((server, asyncio.get_running_loop()))
            await asyncio.to_thread(stop.wait)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            (ended if started.done() else started).set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=run, name="radserve")
    thread.start()
    try:
        server, loop = started.result(START_SECONDS)
        live = LiveServer(server, loop, settings)
        with live.channel:
            yield live
    finally:
        stop.set()
        thread.join(60)
    ended.result(0)
