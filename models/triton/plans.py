"""What turns a pack into TensorRT plans on a GPU node: its graphs, a repository without plans, and the script.

OUT/models is the repository; OUT/graphs/MODEL.onnx are the sources; OUT/build_plans.sh runs trtexec for each of them.
A plan fits one kind of GPU and one TensorRT: the script keeps plans in a cache by GPU name, compute capability,
versions, graph and options, with a timing cache beside, and tries every profile of a plan before it is put in place.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from string import Template

from radserve.models.pack import GraphSpec, ModelPack
from radserve.models.triton.config import PLAN_FILE, ServingOptions, TensorRtOptions, batch_profiles
from radserve.models.triton.repository import write_repository
from radserve.tensors import ModelRef

SCRIPT, REPOSITORY, GRAPHS = "build_plans.sh", "models", "graphs"

_SCRIPT = Template(r"""#!/usr/bin/env bash
# Builds the TensorRT plans of $pack on this GPU node, into the model repository beside this script.
# Needs trtexec (TensorRT 10 or later: the graphs take 64-bit integers), nvidia-smi and sha256sum.
# PLAN_CACHE: where plans and timing caches are kept; the same GPU, versions, graph and options build once.
set -euo pipefail
here=$$(cd "$$(dirname "$${BASH_SOURCE[0]}")" && pwd)
cache=$${PLAN_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/radserve-plans}

fail() { echo "build_plans: $$1" >&2; exit 1; }
for tool in trtexec nvidia-smi sha256sum; do
  command -v "$$tool" >/dev/null || fail "$$tool is not on PATH"
done
gpu=$$(nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader | head -n 1)
[ -n "$$gpu" ] || fail "nvidia-smi found no GPU"
tensorrt=$$({ trtexec --help 2>&1 || true; } | sed -n 's/.*TensorRT v\([0-9]*\).*/\1/p' | head -n 1)
[ -n "$$tensorrt" ] || fail "trtexec does not say its version"
[ "$$tensorrt" -ge 100000 ] || fail "TensorRT $$tensorrt is older than 10.0"
cuda=$$(nvidia-smi | sed -n 's/.*CUDA Version: *\([0-9.]*\).*/\1/p' | head -n 1)
node="$$gpu|TensorRT $$tensorrt|CUDA $$cuda"
timing="$$cache/timing-$$(printf %s "$$node" | sha256sum | cut -c1-16).cache"
mkdir -p "$$cache"

# build MODEL VERSION GRAPH_SHA256 "BATCH:SHAPES ..." OPTION...
build() {
  local model=$$1 version=$$2 graph_hash=$$3 tries=$$4; shift 4
  local graph="$$here/$graphs/$$model.onnx" plan="$$here/$repository/$$model/$$version/$plan"
  [ "$$(sha256sum "$$graph" | cut -d' ' -f1)" = "$$graph_hash" ] || fail "$$graph is not the graph of the pack"
  local key; key=$$(printf '%s\n' "$$node" "$$graph_hash" "$$@" | sha256sum | cut -c1-32)
  local kept="$$cache/$$key.plan"
  if [ ! -s "$$kept" ]; then
    echo "building $$model for $$node"
    trtexec --onnx="$$graph" --saveEngine="$$kept.new" --timingCacheFile="$$timing" --skipInference "$$@" \
      >"$$cache/$$key.log" 2>&1 || fail "trtexec failed for $$model, see $$cache/$$key.log"
    [ -s "$$kept.new" ] || fail "trtexec wrote no plan for $$model, see $$cache/$$key.log"
    local try profile=0
    for try in $$tries; do
      trtexec --loadEngine="$$kept.new" --useProfile="$$profile" --shapes="$$try" \
        --iterations=1 --duration=0 --warmUp=0 \
        >>"$$cache/$$key.log" 2>&1 || fail "the plan of $$model does not run with $$try, see $$cache/$$key.log"
      profile=$$((profile + 1))
    done
    mv "$$kept.new" "$$kept"
  else
    echo "taking $$model from the cache"
  fi
  mkdir -p "$$(dirname "$$plan")"
  cp "$$kept" "$$plan.new" && mv "$$plan.new" "$$plan"
}

$builds
echo "plans are in $$here/$repository; then hold them to the graphs:"
echo "  radserve models parity $name --triton HOST:PORT"
""")


def write_plan_sources(pack: ModelPack, folder: Path, options: ServingOptions) -> tuple[ModelRef, ...]:
    """Write all that a GPU node needs into `folder` and return the models. Raises PACK_HASH_MISMATCH."""
    tensorrt = options.tensorrt or TensorRtOptions()
    options = replace(options, backend="tensorrt", device="gpu", tensorrt=tensorrt)
    models = write_repository([pack], folder / REPOSITORY, options)
    (folder / GRAPHS).mkdir(parents=True, exist_ok=True)
    for name in pack.graphs:
        (folder / GRAPHS / f"{pack.model(name).name}.onnx").write_bytes(pack.read(name))
    builds = "\n".join(_build(pack.model(name), graph, tensorrt) for name, graph in pack.graphs.items())
    script = folder / SCRIPT
    script.write_text(
        _SCRIPT.substitute(
            pack=f"{pack.name} {pack.version} ({pack.digest[:12]})",
            name=f"{pack.name}@{pack.version}",
            graphs=GRAPHS,
            repository=REPOSITORY,
            plan=PLAN_FILE,
            builds=builds,
        )
    )
    script.chmod(0o755)
    return models


def _build(model: ModelRef, graph: GraphSpec, options: TensorRtOptions) -> str:
    tries = " ".join(_shapes(graph, best) for _, best, _ in batch_profiles(graph))
    given = [f"--memPoolSize=workspace:{options.workspace_mib}M", *(["--fp16"] if options.precision == "fp16" else [])]
    arguments = [model.name, str(model.version), graph.sha256, tries, *given, *_profiles(graph)]
    return "build " + " ".join(map(shlex.quote, arguments))


def _profiles(graph: GraphSpec) -> Iterator[str]:
    for index, sizes in enumerate(batch_profiles(graph)):
        yield f"--profile={index}"
        for bound, size in zip(("min", "opt", "max"), sizes, strict=True):
            yield f"--{bound}Shapes={_shapes(graph, size)}"


def _shapes(graph: GraphSpec, batch: int) -> str:
    """The inputs of a graph for one batch size as trtexec reads them: name:1x28x28,name:..."""
    return ",".join(f"{spec.name}:{'x'.join(map(str, (batch, *spec.shape[1:])))}" for spec in graph.inputs)
