"""What expected calibration error chance alone gives, for the probabilities of collected scores.

    python benchmarks/calibration_chance.py SCORES.csv

SCORES.csv is what `radserve evaluate collect` writes. Labels are drawn from the probabilities themselves, so that these
are perfect (consistency resampling; Bröcker and Smith, Weather and Forecasting 2007), and the error is computed as it
is of the true labels: 15 bins of equal width. Beside it stands the root mean square error of the same bins less what
chance adds to it (Kumar et al., NeurIPS 2019), with its 95 % interval by bootstrap.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radserve.evaluation.calibration import assess_calibration, calibration_errors, debiased_square, reliability_curve

AIM = 0.05
DRAWS = 2000


def debiased_interval(labels: npt.NDArray[np.bool_], probabilities: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of the root mean square error of the bins without chance, by the basic bootstrap.

    The truth of a resample is the mean square of the bins as they are, chance and all; so far as the debiased square of
    the resamples lies from it, so far may that of the studies lie from theirs (Davison and Hinkley 1997, section 5.2).
    """
    rng = np.random.default_rng(0)
    bins = reliability_curve(labels, probabilities)
    away = []
    for _ in range(DRAWS):
        drawn = rng.integers(labels.size, size=labels.size)
        away.append(debiased_square(reliability_curve(labels[drawn], probabilities[drawn])))
    over, under = np.quantile(away, (0.975, 0.025)) - calibration_errors(bins).l2 ** 2
    low, high = np.sqrt(np.maximum(0.0, debiased_square(bins) - np.array([over, under])))
    return float(low), float(high)


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
        errors = assess_calibration(labels, probabilities).errors
        low, high = debiased_interval(labels, probabilities)
        drawn = np.array(
            [
                assess_calibration(rng.random(probabilities.size) < probabilities, probabilities).errors.l1
                for _ in range(DRAWS)
            ]
        )
        print(
            f"{finding}: {labels.size} studies, measured {errors.l1:.4f}; "
            f"perfect probabilities: mean {drawn.mean():.4f}, at most {AIM}: {(drawn <= AIM).mean():.1%}, "
            f"at least the measured: {(drawn >= errors.l1).mean():.1%}; "
            f"without chance {errors.l2_debiased:.4f} ({low:.4f} to {high:.4f})"
        )


if __name__ == "__main__":
    main()
