"""radserve models repository | parity: packs for a Triton of the site, and whether it gives the right numbers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.table import Table

from radserve.errors import ErrorCode, RadserveError
from radserve.models.triton.config import Backend, Device, Precision, ServingOptions, TensorRtOptions
from radserve.models.triton.config_check import check_repository
from radserve.models.triton.plans import SCRIPT, write_plan_sources
from radserve.models.triton.repository import write_repository
from radserve.server.console import PackDirs, settings_of, stdout
from radserve.server.packs import site_catalogue

Pack = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A pack.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("repository")(repository)
    app.command("parity")(parity)


def repository(
    name: Pack,
    out: Annotated[Path, typer.Option(help="Folder for the Triton model repository.")],
    backend: Annotated[str, typer.Option(help="python, onnxruntime, or tensorrt (plans, built on a GPU node).")] = (
        "onnxruntime"
    ),
    device: Annotated[str, typer.Option(help="cpu or gpu, for onnxruntime.")] = "cpu",
    accelerate: Annotated[bool, typer.Option("--accelerate", help="onnxruntime on a GPU: run by TensorRT.")] = False,
    precision: Annotated[str, typer.Option(help="fp32 or fp16, for TensorRT.")] = "fp32",
    workspace_mib: Annotated[int, typer.Option(help="Memory TensorRT may use to build.")] = 1024,
    engine_cache: Annotated[str, typer.Option(help="Folder on the node for the engines onnxruntime builds.")] = "",
    instances: Annotated[int, typer.Option(help="Instances of each graph.")] = 1,
    check: Annotated[bool, typer.Option("--check", help="Write nothing: hold what is there to the graphs.")] = False,
    pack_dir: PackDirs = None,
) -> None:
    """Write the Triton model repository of a pack, for an outside Triton (`radserve serve --triton HOST:PORT`)."""
    pack = site_catalogue(settings_of(pack_dirs=pack_dir)).get(name)
    if check:
        for model in check_repository(pack, out):
            stdout().out(f"{model.name} version {model.version} fits its graph")
        return
    tensorrt = TensorRtOptions(cast(Precision, precision), workspace_mib, engine_cache)
    plans = backend == "tensorrt"
    if not (accelerate or plans) and tensorrt != TensorRtOptions():
        message = "--precision, --workspace-mib and --engine-cache are for TensorRT: --backend tensorrt or --accelerate"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)
    options = ServingOptions(
        backend=cast(Backend, backend),
        device=cast(Device, "gpu" if plans else device),
        tensorrt=tensorrt if accelerate or plans else None,
        instances=instances,
    )
    models = write_plan_sources(pack, out, options) if plans else write_repository([pack], out, options)
    for model in models:
        stdout().out(f"{model.name} version {model.version}")
    if plans:
        stdout().out(f"now run {out / SCRIPT} on a node with the GPU that is to serve")


def parity(
    name: Pack,
    triton: Annotated[str, typer.Option(help="HOST:PORT of the Triton that serves the pack.")],
    precision: Annotated[str, typer.Option(help="fp32 or fp16: how far answers may be apart.")] = "fp32",
    pack_dir: PackDirs = None,
) -> None:
    """Hold a Triton's answers to ONNX Runtime here; exit code 1 when a graph is further away than its tolerance."""
    from radserve.models.parity_check import TOLERANCE, GraphParity, compare_runners
    from radserve.models.triton.client import TritonRunner

    pack = site_catalogue(settings_of(pack_dirs=pack_dir)).get(name)
    if precision not in TOLERANCE:
        message = f"precision: got {precision!r}, expected one of {', '.join(TOLERANCE)}"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)

    async def compare() -> list[GraphParity]:
        runner = TritonRunner(triton, [pack])
        try:
            return await compare_runners(pack, runner, precision=precision)
        finally:
            await runner.close()

    results = asyncio.run(compare())
    table = Table("graph", "largest difference", "tolerance", "")
    for each in results:
        passed = "passed" if each.passed else "FAILED"
        table.add_row(each.graph, f"{each.largest_difference:.2e}", f"{each.tolerance:g}", passed)
    stdout().print(table)
    raise typer.Exit(0 if all(each.passed for each in results) else 1)
