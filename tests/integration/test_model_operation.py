"""Versions of a pack are promoted, rolled back and shadowed on the real server, while it answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from radserve.models.catalogue import PackCatalogue
from radserve.server.cli import app
from radserve.v1 import model_pb2
from tests.support.dicoms import cr, part10
from tests.support.operation import evaluation_record, make_versions
from tests.support.server import CALL_SECONDS, LiveServer, live_server, reason_of
from tests.support.triton import eventually

REQUESTS, AT_ONCE = 500, 8
STATES = model_pb2.ModelState


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    make_versions(folder / "packs", "1.0.0", "1.1.0", "1.2.0")
    return folder


def started(site: Path) -> Any:
    return live_server(site / "data", pack_dirs=(site / "packs",), default_pack="tiny", triton_instances=1)


@pytest.fixture(scope="module")
def live(site: Path) -> Iterator[LiveServer]:
    with started(site) as server:
        yield server


@pytest.fixture(scope="module")
def study(live: LiveServer) -> str:
    return stored(live, "operation")


def stored(live: LiveServer, name: str) -> str:
    pixels = np.random.default_rng(len(name)).integers(0, 256, (64, 48)).astype(np.uint8)
    data = part10(cr(pixels, study=name, PatientAge="003Y", BodyPartExamined="CHEST", ViewPosition="PA"))
    (outcome,) = live.send(data)
    return str(outcome.study_instance_uid)


def record_of(site: Path, version: str, **given: Any) -> bytes:
    return evaluation_record(PackCatalogue([site / "packs"], built_in=False).get(f"tiny@{version}").digest, **given)


def promote(live: LiveServer, site: Path, version: str, **given: Any) -> model_pb2.Model:
    request = model_pb2.PromoteModelRequest(pack=f"tiny@{version}", evaluation_record=record_of(site, version), **given)
    return live.models.PromoteModel(request, timeout=CALL_SECONDS).model


def roll_back(live: LiveServer) -> model_pb2.Model:
    return live.models.RollbackModel(model_pb2.RollbackModelRequest(pack="tiny"), timeout=CALL_SECONDS).model


def states(live: LiveServer) -> dict[str, int]:
    models = live.models.ListModels(model_pb2.ListModelsRequest(), timeout=CALL_SECONDS).models
    return {model.pack.version: model.state for model in models if model.pack.name == "tiny"}


def test_no_request_of_500_fails_while_versions_are_promoted_and_rolled_back(
    live: LiveServer, site: Path, study: str
) -> None:
    switches: list[str] = []
    done = threading.Event()

    def operate() -> None:
        for version in itertools.cycle(("1.1.0", "1.2.0")):
            if done.is_set() and len(switches) >= 4:
                return
            switches.append(promote(live, site, version).pack.version)
            assert live.classify(study).pack.version == version  # a request after the switch gets the new one
            switches.append(roll_back(live).pack.version)

    with ThreadPoolExecutor(AT_ONCE) as clients, ThreadPoolExecutor(1) as operators:
        operating = operators.submit(operate)
        answers = list(clients.map(lambda _: live.classify(study), range(REQUESTS)))  # raises what a request raised
        done.set()
        operating.result()
    served = Counter(answer.pack.version for answer in answers)
    assert sum(served.values()) == REQUESTS
    assert set(served) <= {"1.0.0", "1.1.0", "1.2.0"}
    assert len(served) >= 2
    assert switches[:2] == ["1.1.0", "1.0.0"]
    of_version: dict[str, set[float]] = {}
    for answer in answers:
        of_version.setdefault(answer.pack.version, set()).add(answer.findings[0].score)
    assert all(len(scores) == 1 for scores in of_version.values())  # each version gave its own answer, always
    assert len(set.union(*of_version.values())) == len(of_version)
    assert all(len(answer.pack.digest) == 64 for answer in answers)


def test_a_withdrawn_version_is_unloaded_from_triton(live: LiveServer, site: Path) -> None:
    promote(live, site, "1.1.0")
    assert states(live)["1.1.0"] == STATES.MODEL_STATE_ACTIVE
    roll_back(live)
    pack = PackCatalogue([site / "packs"], built_in=False).get("tiny@1.1.0")
    runner = live.server.runner

    async def gone() -> bool:
        return not any([await runner.is_ready(model) for model in pack.models])

    live.wait_for(eventually(gone))
    assert states(live)["1.1.0"] == STATES.MODEL_STATE_AVAILABLE


@pytest.mark.parametrize("call", ["LoadModel", "UnloadModel", "PromoteModel", "ShadowModel", "DeprecateModel"])
def test_an_unknown_version_is_not_found(live: LiveServer, call: str) -> None:
    request = getattr(model_pb2, f"{call}Request")(pack="tiny@7.7.7")
    with pytest.raises(grpc.RpcError) as caught:
        getattr(live.models, call)(request, timeout=CALL_SECONDS)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(caught.value) == "UNKNOWN_PACK"


def test_a_request_for_an_unknown_or_unloaded_version_is_told_so(live: LiveServer, study: str) -> None:
    for version, code in (("7.7.7", grpc.StatusCode.NOT_FOUND), ("1.2.0", grpc.StatusCode.FAILED_PRECONDITION)):
        with pytest.raises(grpc.RpcError) as caught:
            live.classify(study, pack=f"tiny@{version}")
        assert caught.value.code() is code


def test_a_failed_record_is_refused_and_two_persons_can_override_it_on_record(live: LiveServer, site: Path) -> None:
    request = model_pb2.PromoteModelRequest(pack="tiny@1.1.0", evaluation_record=record_of(site, "1.1.0", auroc=0.6))
    with pytest.raises(grpc.RpcError) as caught:
        live.models.PromoteModel(request, timeout=CALL_SECONDS)
    assert reason_of(caught.value) == "PROMOTION_REFUSED"
    request.override.MergeFrom(model_pb2.PromotionOverride(persons=["Dr A", "Dr B"], reason="drill"))
    assert live.models.PromoteModel(request, timeout=CALL_SECONDS).model.state == STATES.MODEL_STATE_ACTIVE
    roll_back(live)
    lines = (site / "data" / "models-audit.jsonl").read_text().splitlines()
    overridden = [json.loads(line) for line in lines if json.loads(line).get("override")]
    assert [entry["override"] for entry in overridden] == [{"persons": ["Dr A", "Dr B"], "reason": "drill"}]
    assert overridden[0]["failed_gates"] == ["Pneumonia auroc"]


def test_a_shadow_sees_the_studies_and_its_results_are_compared_and_not_delivered(live: LiveServer, site: Path) -> None:
    live.models.ShadowModel(model_pb2.ShadowModelRequest(pack="tiny@1.2.0"), timeout=CALL_SECONDS)
    studies = [stored(live, f"shadow {'x' * number}") for number in range(3)]
    delivered = [live.classify(study) for study in studies]
    assert {result.pack.version for result in delivered} == {"1.0.0"}

    def summary() -> model_pb2.ShadowSummary:
        models = live.models.ListModels(model_pb2.ListModelsRequest(), timeout=CALL_SECONDS).models
        return next(model.shadow for model in models if model.pack.version == "1.2.0")

    asyncio.run(eventually(lambda: summary().studies == 3))
    (label,) = summary().labels
    assert label.compared == 3
    shadowed = [live.classify(study, pack="tiny@1.2.0") for study in studies]
    differences = [
        new.findings[0].probability - old.findings[0].probability for new, old in zip(shadowed, delivered, strict=True)
    ]
    assert label.mean_difference == pytest.approx(np.mean(differences), abs=1e-9)
    assert {warning.code for warning in shadowed[0].warnings} >= {"PACK_NOT_PROMOTED"}
    assert (site / "data" / "shadow" / studies[0]).is_dir()
    live.models.ShadowModel(model_pb2.ShadowModelRequest(pack="tiny@1.2.0", off=True), timeout=CALL_SECONDS)


def test_the_command_line_operates_the_server(live: LiveServer, site: Path, study: str, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes(record_of(site, "1.1.0"))

    def radserve(*arguments: str) -> str:
        run = CliRunner().invoke(app, ["models", *arguments])
        assert run.exit_code == 0, run.output
        return run.stdout

    server = ("--server", live.address)
    assert "is loaded" in radserve("load", "tiny@1.1.0", *server)
    record = str(tmp_path / "record.json")
    assert "tiny@1.1.0" in radserve("promote", "tiny@1.1.0", "--record", record, *server)
    assert "deprecated" not in radserve("status", *server)
    radserve("deprecate", "tiny@1.1.0", "--reason", "old", *server)
    assert "PACK_DEPRECATED" in {warning.code for warning in live.classify(study).warnings}
    assert "1.0.0" in radserve("rollback", "tiny", *server)
    assert "each follows the one before" in radserve("audit", "--data-dir", str(site / "data"))


@pytest.mark.slow
def test_the_active_version_is_the_same_after_a_restart(site: Path, live: LiveServer) -> None:
    promote(live, site, "1.2.0")
    again = site / "again"
    again.mkdir()
    (again / "models.json").write_bytes((site / "data" / "models.json").read_bytes())
    with live_server(again, pack_dirs=(site / "packs",), default_pack="tiny", triton_instances=1) as restarted:
        assert states(restarted)["1.2.0"] == STATES.MODEL_STATE_ACTIVE
        assert states(restarted)["1.0.0"] == STATES.MODEL_STATE_PREVIOUS
        assert restarted.classify(stored(restarted, "restart")).pack.version == "1.2.0"
