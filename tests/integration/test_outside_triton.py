"""A Triton of the site, a process of its own with explicit model control: promoted on, rolled back on, started anew."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from radserve.errors import ModelError
from radserve.models.catalogue import PackCatalogue
from radserve.models.pack import ModelPack
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.server import EmbeddedTriton
from radserve.server.cli import app
from radserve.v1 import model_pb2
from tests.support.dicoms import cr, part10
from tests.support.operation import evaluation_record, make_versions
from tests.support.server import CALL_SECONDS, LiveServer, live_server
from tests.support.triton import eventually

REQUESTS, AT_ONCE = 200, 4
VERSIONS = ("1.0.0", "1.1.0")
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 48)).astype(np.uint8)
IMAGE = part10(cr(PIXELS, study="outside", PatientAge="003Y", BodyPartExamined="CHEST", ViewPosition="PA"))


@pytest.fixture
def packs(tmp_path: Path) -> dict[str, ModelPack]:
    make_versions(tmp_path / "packs", *VERSIONS)
    catalogue = PackCatalogue([tmp_path / "packs"], built_in=False)
    return {version: catalogue.get(f"tiny@{version}") for version in VERSIONS}


def write_repository(pack: str, folder: Path, pack_dir: Path) -> None:
    """As the site does: `radserve models repository`, in the form that the Triton here can run."""
    arguments = ["models", "repository", pack, "--out", str(folder), "--backend", "python", "--pack-dir", str(pack_dir)]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 0, run.output


def test_no_request_fails_while_versions_are_switched_on_a_triton_of_the_site(
    packs: dict[str, ModelPack], tmp_path: Path
) -> None:
    async def answers(url: str) -> bool:
        runner = TritonRunner(url)
        try:
            return bool((await runner.server_metadata()).version)
        except ModelError:
            return False
        finally:
            await runner.close()

    async def ready_versions(url: str) -> dict[str, bool]:
        runner = TritonRunner(url)
        try:
            return {
                version: all([await runner.is_ready(model) for model in pack.models]) for version, pack in packs.items()
            }
        finally:
            await runner.close()

    async def main() -> None:
        async with EmbeddedTriton(
            [], log_folder=tmp_path / "triton"
        ) as triton:  # radserve below knows its address only
            repository = Path(triton.url.removeprefix("unix:")).with_name("models")
            for version in VERSIONS:
                write_repository(f"tiny@{version}", repository, tmp_path / "packs")
            await eventually(lambda: answers(triton.url))
            assert await ready_versions(triton.url) == {"1.0.0": False, "1.1.0": False}
            settings = {"pack_dirs": (tmp_path / "packs",), "default_pack": "tiny", "triton_url": triton.url}
            await asyncio.to_thread(operate, settings, triton)
            assert await ready_versions(triton.url) == {"1.0.0": True, "1.1.0": False}

    def operate(settings: dict[str, object], triton: EmbeddedTriton) -> None:
        with live_server(tmp_path / "data", **settings) as live:
            assert live.server.triton is None
            study = str(live.send(IMAGE)[0].study_instance_uid)
            switched_under_load(live, packs, study)
            loaded_again_after_a_restart(live, packs["1.0.0"], study, triton)

    asyncio.run(main())


def loaded_again_after_a_restart(live: LiveServer, active: ModelPack, study: str, triton: EmbeddedTriton) -> None:
    """It starts with nothing loaded, as before radserve came."""
    assert triton.pid
    os.kill(triton.pid, signal.SIGKILL)

    async def is_served_again() -> bool:
        return triton.restarts == 1 and all([await live.server.runner.is_ready(model) for model in active.models])

    live.wait_for(eventually(is_served_again))
    assert live.classify(study).pack.version == active.version


def switched_under_load(live: LiveServer, packs: dict[str, ModelPack], study: str) -> None:
    record = evaluation_record(packs["1.1.0"].digest)
    done = threading.Event()

    def switch() -> int:
        for switches in itertools.count(1):
            promotion = model_pb2.PromoteModelRequest(pack="tiny@1.1.0", evaluation_record=record)
            assert live.models.PromoteModel(promotion, timeout=CALL_SECONDS).model.pack.version == "1.1.0"
            assert live.classify(study).pack.version == "1.1.0"
            back = model_pb2.RollbackModelRequest(pack="tiny")
            assert live.models.RollbackModel(back, timeout=CALL_SECONDS).model.pack.version == "1.0.0"
            if done.is_set() and switches >= 2:
                return switches
        raise AssertionError

    with ThreadPoolExecutor(AT_ONCE) as clients, ThreadPoolExecutor(1) as operators:
        switching = operators.submit(switch)
        answers = list(clients.map(lambda _: live.classify(study), range(REQUESTS)))  # raises what a request raised
        done.set()
        assert switching.result() >= 2
    served = Counter(answer.pack.version for answer in answers)
    assert served.keys() <= packs.keys()
    assert served.total() == REQUESTS
    for version in served:  # each version gave its own answer, always
        assert len({answer.findings[0].score for answer in answers if answer.pack.version == version}) == 1

    async def only_the_active_one_is_loaded() -> bool:
        runner = live.server.runner
        return not any([await runner.is_ready(model) for model in packs["1.1.0"].models])

    live.wait_for(eventually(only_the_active_one_is_loaded))
