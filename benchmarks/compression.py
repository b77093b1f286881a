"""Size, latency and AUROC of a pack and of its compressed variants, and which of them no other beats.

    python benchmarks/compression.py --data FOLDER [--pack cxr-bus-mini] [--methods int8-dynamic fp16 ...]
        [--variants FOLDER] [--clock wall]

Each variant is made by `radserve models compress`'s own code and kept whatever its gate says; with `--variants` it
stays in that folder and is not made again. Latency: every image encoder on one image and on eight, one step of the
decoder, one thread, processor time (or on the clock); all variants take turns in every round, the median round counts.
The gate's verdict and what no other variant beats are of the validation split. AUROC of the official test split, with
DeLong's interval, is reported and decides nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from radserve.evaluation.auc_tests import auc_interval
from radserve.evaluation.cost import pareto_set
from radserve.evaluation.delong import delong
from radserve.models.catalogue import PackCatalogue
from radserve.models.compress.default_samples import read_samples
from radserve.models.compress.latency import ROUNDS, Timing, latencies
from radserve.models.compress.methods import Method, MethodOptions
from radserve.models.compress.run import compress
from radserve.models.compress.scores import pack_scores
from radserve.models.compress.variant import RECORD_FILE, graph_bytes
from radserve.models.pack import DECODER_STEP, ModelPack, load_pack
from radserve.models.train.data import Split

CLOCKS = {"processor": time.thread_time, "wall": time.perf_counter}
Areas = dict[str, list[float]]
"""By label: AUROC and its 95 % interval."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz and breastmnist.npz")
    parser.add_argument("--pack", default="cxr-bus-mini")
    parser.add_argument("--methods", nargs="+", choices=[each.value for each in Method], default=list(Method))
    parser.add_argument("--epochs", type=int, default=MethodOptions.epochs, help="of distillation")
    parser.add_argument("--width", type=int, default=MethodOptions.width, help="of the distilled encoder's first layer")
    parser.add_argument("--variants", type=Path, help="folder that keeps the variants")
    parser.add_argument("--clock", choices=CLOCKS, default="processor")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    original = PackCatalogue().get(given.pack)
    options = MethodOptions(epochs=given.epochs, width=given.width)
    with tempfile.TemporaryDirectory() as folder:
        variants = {}
        for method in given.methods:
            try:
                variants[method] = variant(
                    original, Method(method), options, given.data, given.variants or Path(folder)
                )
            except Exception as error:  # a method that does not fit the pack is part of the result
                print(f"{method}: {error}", file=sys.stderr)
        measured = latencies({"original": original, **variants}, given.rounds, clock=CLOCKS[given.clock])
        report = {
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "load": round(os.getloadavg()[0], 1),
            "clock": given.clock,
            "pack": f"{original.name} {original.version} ({original.digest[:12]})",
            "variants": table(original, variants, measured, given.data),
        }
    print(json.dumps(report, indent=2))
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n")


def variant(original: ModelPack, method: Method, options: MethodOptions, data: Path, folder: Path) -> ModelPack:
    """The variant in `folder`, made if it is not there. Raises ValueError for one of another pack."""
    out = folder / method
    if not out.exists():
        started = time.process_time()
        compress(original, method, partial(read_samples, original, data), out, options=options, keep_failed=True)
        print(f"{method}: made in {time.process_time() - started:.0f} s of processor time", file=sys.stderr)
    if (of := record(found := load_pack(out))["original"]["digest"]) != original.digest:
        raise ValueError(f"{out} is of the pack with digest {of}, expected {original.digest}")
    return found


def record(pack: ModelPack) -> dict[str, Any]:
    """What the gate of `models compress` left in a variant."""
    found: dict[str, Any] = json.loads((pack.folder / RECORD_FILE).read_text(encoding="utf-8"))
    return found


def areas(pack: ModelPack, data: Path, split: Split) -> Areas:
    """AUROC of each label on a split, with its interval."""
    scores, found = pack_scores(pack), {}
    for samples in read_samples(pack, data, split):
        estimates = delong(scores.logits(samples), samples.positive)
        interval = auc_interval(float(estimates.auc[0]), float(estimates.variance[0]))
        found[samples.label] = [round(value, 4) for value in (float(estimates.auc[0]), interval.low, interval.high)]
    return found


def table(
    original: ModelPack,
    variants: Mapping[str, ModelPack],
    measured: Mapping[str, Mapping[Timing, float]],
    data: Path,
) -> dict[str, Any]:
    """A row for each pack; `pareto`: no other is as small, as fast and, on val, as accurate, and better in one."""
    packs = {"original": original, **variants}
    size = {name: sum(graph_bytes(pack).values()) for name, pack in packs.items()}
    val = {name: areas(pack, data, "val") for name, pack in packs.items()}
    criteria = [
        [size[name], _one_image_ms(measured[name]), *(each[0] for each in val[name].values())] for name in packs
    ]
    best = pareto_set(np.array(criteria), [False, False, *(True for _ in val["original"])])
    return {
        name: {
            "bytes": size[name],
            "size_ratio": round(size[name] / size["original"], 3),
            "milliseconds": {f"{graph} x {batch}": round(ms, 3) for (graph, batch), ms in measured[name].items()},
            "speed_up": {
                f"{graph} x {batch}": round(measured["original"][graph, batch] / ms, 2)
                for (graph, batch), ms in measured[name].items()
            },
            "auroc_val": val[name],
            "auroc_test": areas(pack, data, "test"),
            "pareto": index in best,
            **({"gate": _gate(pack)} if name in variants else {}),
        }
        for index, (name, pack) in enumerate(packs.items())
    }


def _gate(pack: ModelPack) -> dict[str, Any]:
    found = record(pack)
    labels = found["gate"]["labels"]
    return {
        "passed": found["gate"]["passed"],
        "loss_upper_bound": {each["label"]: round(each["loss_upper_bound"], 4) for each in labels},
        "decisions_agree": {each["label"]: round(each["decisions_agree"], 3) for each in labels},
        "reports_identical": found["reports_identical"],
    }


def _one_image_ms(measured: Mapping[Timing, float]) -> float:
    """Of all image encoders together."""
    return sum(ms for (graph, batch), ms in measured.items() if graph != DECODER_STEP and batch == 1)


if __name__ == "__main__":
    main()
