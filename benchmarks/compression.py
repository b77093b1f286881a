"""Size, latency and AUROC of a pack and of its compressed variants, and which of them no other beats.

    python benchmarks/compression.py --data FOLDER [--pack cxr-bus-mini] [--methods int8-dynamic fp16 ...]

Each variant is made anew by `radserve models compress`'s own code and kept whatever its gate says. Latency: the image
encoder on one image and on eight, one step of the decoder, one thread; all variants take turns in every round, the
median round counts. AUROC: official test split with DeLong's interval. The gate's verdict is that of the validation
split.
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
from pathlib import Path
from typing import Any

import numpy as np

from radserve.evaluation.auc_tests import auc_interval
from radserve.evaluation.cost import pareto_set
from radserve.evaluation.delong import delong
from radserve.models.catalogue import PackCatalogue
from radserve.models.compress.latency import Timing, latencies
from radserve.models.compress.methods import Method, MethodOptions
from radserve.models.compress.run import compress
from radserve.models.compress.samples import read_samples
from radserve.models.compress.scores import pack_scores
from radserve.models.compress.variant import graph_bytes
from radserve.models.pack import DECODER_STEP, ModelPack


def areas(pack: ModelPack, data: Path) -> dict[str, list[float]]:
    """AUROC and its 95 % interval of each label on the test split."""
    scores, found = pack_scores(pack), {}
    for samples in read_samples(pack, data, "test"):
        estimates = delong(scores.logits(samples), samples.positive)
        interval = auc_interval(float(estimates.auc[0]), float(estimates.variance[0]))
        found[samples.label] = [float(estimates.auc[0]), interval.low, interval.high]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz and breastmnist.npz")
    parser.add_argument("--pack", default="cxr-bus-mini")
    parser.add_argument("--methods", nargs="+", choices=[each.value for each in Method], default=list(Method))
    parser.add_argument("--epochs", type=int, default=30, help="of distillation")
    parser.add_argument("--width", type=int, default=32, help="of the distilled encoder's first layer")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    original = PackCatalogue().get(given.pack)
    options = MethodOptions(epochs=given.epochs, width=given.width)
    packs, gates, seconds = {"original": original}, {"original": None}, {"original": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        for method in given.methods:
            started = time.process_time()
            try:
                made = compress(
                    original, Method(method), given.data, Path(folder) / method, options=options, keep_failed=True
                )
            except Exception as error:  # a method that does not fit the pack is part of the result
                print(f"{method}: {error}", file=sys.stderr)
                continue
            seconds[method] = time.process_time() - started
            packs[method], gates[method] = made.pack, made.outcome.passed
        rows = table(packs, gates, seconds, given.data)
    report = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "pack": f"{original.name} {original.version} ({original.digest[:12]})",
        "variants": rows,
    }
    print(json.dumps(report, indent=2))
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n")


def table(
    packs: Mapping[str, ModelPack], gates: Mapping[str, bool | None], seconds: Mapping[str, float], data: Path
) -> dict[str, Any]:
    """A row for each variant; `pareto`: no other is as small, as fast and as accurate, and better in one of them."""
    measured, auroc = latencies(packs), {name: areas(pack, data) for name, pack in packs.items()}
    size = {name: sum(graph_bytes(pack).values()) for name, pack in packs.items()}
    labels = list(auroc["original"])
    criteria = [
        [size[name], _one_image_ms(measured[name]), *(auroc[name][label][0] for label in labels)] for name in packs
    ]
    best = pareto_set(np.array(criteria), [False, False, *(True for _ in labels)])
    return {
        name: {
            "bytes": size[name],
            "size_ratio": round(size[name] / size["original"], 3),
            "milliseconds": {f"{graph} x {batch}": round(ms, 3) for (graph, batch), ms in measured[name].items()},
            "speed_up": {
                f"{graph} x {batch}": round(measured["original"][graph, batch] / ms, 2)
                for (graph, batch), ms in measured[name].items()
            },
            "auroc": {label: [round(value, 4) for value in values] for label, values in auroc[name].items()},
            "gate_on_val": gates[name],
            "cpu_seconds_to_make": round(seconds[name], 1),
            "pareto": index in best,
        }
        for index, name in enumerate(packs)
    }


def _one_image_ms(measured: Mapping[Timing, float]) -> float:
    """Of all image encoders together."""
    return sum(ms for (graph, batch), ms in measured.items() if graph != DECODER_STEP and batch == 1)


if __name__ == "__main__":
    main()
