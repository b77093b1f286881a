"""AUROC with DeLong's interval on up to a million scores, beside scikit-learn's roc_auc_score in the same run.

    python benchmarks/roc.py [--repeats 3]

Each measurement runs in a process of its own, which reports its time and its peak memory; the two programs take turns,
so that other load on the machine meets both. Growth is judged by time / (n log n).
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys

SIZES = (62_500, 125_000, 250_000, 500_000, 1_000_000)
LIMIT_SECONDS, LIMIT_BYTES = 3.0, 10**9

MEASURE = """
import json, resource, sys, time
import numpy as np
program, n = sys.argv[1], int(sys.argv[2])
generator = np.random.default_rng(n)
positive = generator.random(n) < 0.3
scores = generator.normal(size=n) + positive
if program == "radserve":
    from radserve.evaluation.auc_tests import auc_interval
    from radserve.evaluation.delong import delong
else:
    from sklearn.metrics import roc_auc_score
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
if program == "radserve":
    estimates = delong(scores, positive)
    area = float(estimates.auc[0])
    interval = auc_interval(area, float(estimates.variance[0]))
else:
    area = float(roc_auc_score(positive, scores))
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"auc": area, "seconds": seconds, "peak_bytes": peak * 1024, "base_bytes": base * 1024}))
"""


def measure(program: str, n: int) -> dict[str, float]:
    """Run one program once over n scores in a fresh process."""
    command = [sys.executable, "-c", MEASURE, program, str(n)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(run.stdout)
    return result


def main() -> int:
    """Measure, print a table, return 1 when a limit is missed or the areas differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    print(f"Python {platform.python_version()}, {platform.machine()}, {repeats} interleaved repeats, medians")
    print("        n   radserve (AUC + DeLong)        scikit-learn (AUC)   radserve ns / (n log2 n)   |difference|")
    missed = False
    for n in SIZES:
        runs = [(measure("radserve", n), measure("sklearn", n)) for _ in range(repeats)]
        ours, theirs = (statistics.median(run[side]["seconds"] for run in runs) for side in (0, 1))
        peaks = [max(run[side]["peak_bytes"] for run in runs) for side in (0, 1)]
        difference = abs(runs[0][0]["auc"] - runs[0][1]["auc"])
        growth = ours * 1e9 / (n * math.log2(n))
        print(
            f"{n:9,d}   {ours:8.3f} s {peaks[0] / 2**20:8.0f} MiB   {theirs:8.3f} s {peaks[1] / 2**20:8.0f} MiB"
            f"   {growth:12.2f}   {difference:22.1e}"
        )
        missed |= difference > 1e-12 or (n == SIZES[-1] and (ours > LIMIT_SECONDS or peaks[0] > LIMIT_BYTES))
    print("missed a limit" if missed else "within 3 s and 1 GB at a million scores")
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
