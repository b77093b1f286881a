"""What happens when Triton dies under a server that is in use."""

from __future__ import annotations

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from radserve.models import catalogue
from radserve.server import app
from tests.support.dicoms import cr, part10
from tests.support.server import CALL_SECONDS, live_server, reason_of

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_killed_triton_makes_the_server_unready_then_it_recovers_and_no_answer_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HEALTH_SECONDS", 0.1)  # however fast Triton is back, the watch has seen it away
    with live_server(tmp_path) as server:
        pixels = np.random.default_rng(1).integers(0, 256, (64, 64)).astype(np.uint8)
        (outcome,) = server.send(part10(cr(pixels, study="survivor")))
        right = server.classify(outcome.study_instance_uid).findings
        health = health_pb2_grpc.HealthStub(server.channel)
        changes = health.Watch(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS)

        def call(_: int) -> str:
            try:
                found = server.classify(outcome.study_instance_uid).findings
            except grpc.RpcError as error:
                return reason_of(error)
            return "right" if found == right else "wrong"

        triton = server.server.triton
        assert triton is not None
        assert triton.pid is not None
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(call, number) for number in range(200)]
            answers[20].result(CALL_SECONDS)  # the others are still to come
            os.kill(triton.pid, signal.SIGKILL)
            told = (int(each.status) for each in changes)
            assert [next(told), next(told), next(told)] == [SERVING, NOT_SERVING, SERVING]
            outcomes = {each.result(CALL_SECONDS) for each in answers}
        assert outcomes <= {"right", "MODEL_UNAVAILABLE"}
        assert call(0) == "right"
        assert triton.restarts == 1


def test_a_server_whose_pack_is_altered_still_takes_studies_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(catalogue.built_in_folder() / "cxr-bus-mini", tmp_path / "packs" / "cxr-bus-mini")
    (tmp_path / "packs" / "cxr-bus-mini" / "prompts.toml").write_text("altered")
    monkeypatch.setattr(catalogue, "built_in_folder", lambda: tmp_path / "packs")
    with live_server(tmp_path / "data") as server:
        (outcome,) = server.send(part10(cr(np.arange(64, dtype=np.uint8).reshape(8, 8), study="altered pack")))
        with pytest.raises(grpc.RpcError, match=r"prompts\.toml") as caught:
            server.classify(outcome.study_instance_uid)
        assert reason_of(caught.value) == "PACK_HASH_MISMATCH"
        health = health_pb2_grpc.HealthStub(server.channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS).status == NOT_SERVING


def test_concurrent_requests_share_batches(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64)).astype(np.uint8)
    with live_server(tmp_path / "data", report_decoder="steps") as server:  # each step a request of its own
        (outcome,) = server.send(part10(cr(pixels, study="batches")))
        triton = server.server.triton
        assert triton is not None
        (decoder,) = [model for model in triton.models if model.name.endswith("--decoder_step")]
        before = server.wait_for(server.server.runner.statistics(decoder))
        with ThreadPoolExecutor(16) as pool:
            reports = list(pool.map(lambda _: list(server.report(outcome.study_instance_uid)), range(32)))
        after = server.wait_for(server.server.runner.statistics(decoder))
    assert len({answers[-1].result.report.text for answers in reports}) == 1
    inferences = after.inference_count - before.inference_count
    executions = after.execution_count - before.execution_count
    assert inferences > 32 * 5
    assert executions < inferences
