"""The script that builds TensorRT plans: run with a trtexec and an nvidia-smi that write down what they are asked."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as messages

from radserve.errors import RadserveError
from radserve.models.pack import GRAPH_NAMES, ModelPack, load_pack
from radserve.models.triton.config import ServingOptions, TensorRtOptions, batch_profiles
from radserve.models.triton.config_check import check_repository
from radserve.models.triton.plans import write_plan_sources
from tests.support.packs import make_tiny_pack

GPU = ServingOptions(backend="tensorrt", device="gpu", tensorrt=TensorRtOptions("fp16", workspace_mib=256))
TRTEXEC = """#!/bin/sh
echo "&&&& RUNNING TensorRT.trtexec [TensorRT v${TRT:-100300}] # trtexec $*"
for argument; do case "$argument" in
  --help) exit 0 ;;
  --saveEngine=*) echo plan > "${argument#--saveEngine=}" ;;
esac; done
echo "$*" >> "$CALLS"
case "$*" in *--loadEngine*) [ -z "$BROKEN" ] ;; esac
"""
NVIDIA_SMI = """#!/bin/sh
case "$*" in
  *query-gpu*) echo "${GPU:-NVIDIA L4}, 8.9" ;;
  *) echo "| NVIDIA-SMI 550.1   Driver Version: 550.1   CUDA Version: 12.4 |" ;;
esac
"""


class Node:
    """A folder that plays a GPU node: its tools, its cache, and what trtexec was asked."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder, self.out, self.calls = folder, out, folder / "calls"
        (folder / "bin").mkdir(parents=True)
        for name, text in (("trtexec", TRTEXEC), ("nvidia-smi", NVIDIA_SMI)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        given = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(self.calls),
            "PLAN_CACHE": str(self.folder / "cache"),
            **environment,
        }
        script = str(self.out / "build_plans.sh")
        return subprocess.run([script], env=given, capture_output=True, text=True, timeout=60, check=False)

    def asked(self, what: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if what in line]


@pytest.fixture
def pack(tmp_path: Path) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path / "tiny"))


@pytest.fixture
def node(pack: ModelPack, tmp_path: Path) -> Node:
    write_plan_sources(pack, tmp_path / "out", GPU)
    return Node(tmp_path / "node", tmp_path / "out")


def config_of(node: Node, model: str) -> Any:
    return text_format.Parse((node.out / "models" / model / "config.pbtxt").read_text(), messages.ModelConfig())


def test_the_script_is_a_bash_script(node: Node) -> None:
    subprocess.run(["bash", "-n", str(node.out / "build_plans.sh")], check=True)


def test_every_graph_becomes_a_plan_and_the_repository_then_fits_the_pack(node: Node, pack: ModelPack) -> None:
    with pytest.raises(RadserveError, match=r"model\.plan"):  # before the script has run
        check_repository(pack, node.out / "models")
    run = node.run()
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(node.asked("--saveEngine")) == len(GRAPH_NAMES)
    assert check_repository(pack, node.out / "models") == tuple(pack.models)
    for model in pack.models:
        assert (node.out / "models" / model.name / "1" / "model.plan").read_text() == "plan\n"


def test_trtexec_gets_precision_memory_and_a_profile_for_one_and_for_many(node: Node, pack: ModelPack) -> None:
    node.run()
    (call,) = [line for line in node.asked("--saveEngine") if "--image_encoder.onnx" in line]
    assert "--fp16" in call and "--memPoolSize=workspace:256M" in call and "--timingCacheFile=" in call
    assert (
        "--profile=0 --minShapes=pixels:1x1x28x28 --optShapes=pixels:1x1x28x28 --maxShapes=pixels:1x1x28x28 "
        "--profile=1 --minShapes=pixels:1x1x28x28 --optShapes=pixels:16x1x28x28 --maxShapes=pixels:64x1x28x28"
    ) in call
    (decoder,) = [line for line in node.asked("--saveEngine") if "--decoder_step.onnx" in line]
    assert "token:16x1,position:16x1,image_tokens:16x49x6,cache:16x2x24x4" in decoder
    assert batch_profiles(pack.graphs["image_encoder"]) == ((1, 1, 1), (1, 16, 64))
    config = config_of(node, "tiny--1.0.0--image_encoder")
    assert [list(group.profile) for group in config.instance_group] == [["0", "1"]]
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")


def test_each_profile_of_a_plan_is_tried_before_it_is_put_in_place(node: Node) -> None:
    node.run()
    tried = [re.search(r"--useProfile=(\d) --shapes=tokens:(\d+)x", line) for line in node.asked("--shapes=tokens")]
    assert [found.groups() for found in tried if found] == [("0", "1"), ("1", "64")]
    again = Node(node.folder / "another", node.out)
    failed = again.run(BROKEN="1")
    assert failed.returncode == 1
    assert "does not run with" in failed.stderr
    assert not list((again.folder / "cache").glob("*.plan"))


def test_the_same_gpu_versions_and_graph_build_once(node: Node) -> None:
    node.run()
    assert "from the cache" in node.run().stdout
    assert node.calls.read_text() == ""


@pytest.mark.parametrize("changed", [{"GPU": "NVIDIA H100"}, {"TRT": "100800"}])
def test_another_gpu_or_version_builds_anew_with_its_own_timing_cache(node: Node, changed: dict[str, str]) -> None:
    def timing_caches() -> set[str]:
        return set(re.findall(r"--timingCacheFile=(\S+)", node.calls.read_text()))

    node.run()
    first = timing_caches()
    node.run(**changed)
    assert len(node.asked("--saveEngine")) == len(GRAPH_NAMES)
    assert len(first) == 1 and not first & timing_caches()


def test_another_graph_than_the_packs_is_not_built(node: Node) -> None:
    graph = node.out / "graphs" / "tiny--1.0.0--image_encoder.onnx"
    graph.write_bytes(graph.read_bytes() + b" ")
    run = node.run()
    assert run.returncode == 1
    assert "is not the graph of the pack" in run.stderr


def test_what_is_missing_on_the_node_is_named(node: Node) -> None:
    old = node.run(TRT="8601")
    assert old.returncode == 1 and "older than 10" in old.stderr
    (node.folder / "bin" / "trtexec").unlink()
    run = node.run()
    assert run.returncode == 1
    assert "trtexec is not on PATH" in run.stderr
