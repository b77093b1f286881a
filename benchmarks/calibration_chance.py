"""What expected calibration error chance alone gives, for the probabilities of collected scores.

    python benchmarks/calibration_chance.py SCORES.csv

SCORES.csv is what `radserve evaluate collect` writes. Labels are drawn from the probabilities themselves, so that these
are perfect (consistency resampling; Bröcker and Smith, Weather and Forecasting 2007), and the error is computed as it
is of the true labels: 15 bins of equal width.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from radserve.evaluation.calibration import assess_calibration

AIM = 0.05
DRAWS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    rows: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    with parser.parse_args().scores.open(newline="") as file:
        for row in csv.DictReader(file):
            rows[row["finding"]].append((row["label"] == "1", float(row["probability"])))
    rng = np.random.default_rng(0)
    for finding, pairs in rows.items():
        labels, probabilities = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
        measured = assess_calibration(labels, probabilities).errors.l1
        drawn = np.array(
            [
                assess_calibration(rng.random(probabilities.size) < probabilities, probabilities).errors.l1
                for _ in range(DRAWS)
            ]
        )
        print(
            f"{finding}: {labels.size} studies, measured {measured:.4f}; "
            f"perfect probabilities: mean {drawn.mean():.4f}, at most {AIM}: {(drawn <= AIM).mean():.1%}, "
            f"at least the measured: {(drawn >= measured).mean():.1%}"
        )


if __name__ == "__main__":
    main()
