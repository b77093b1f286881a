"""The supervised pipeline (`radserve adapt`) from a table of images to a pack, on planted data: costs and gain.

    python benchmarks/supervised.py [--images 400] [--pack cxr-bus-mini]

The images are made here: noise, with a faint bar across the lower half where the label is present, written as PNG with
a table as a site would have them; three of five are for learning, the others val. The command runs as its user starts
it, all steps: embedding, curve, head, calibration, gate, pack. Printed: processor and wall time of the whole command,
AUROC on val zero-shot and adapted with the gate's lower bound of the gain, and the curve by examples over three seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

RADSERVE = Path(sys.executable).with_name("radserve")
LEAST_GAIN = 0.05
MANIFEST = f"""[task]
label = "Pneumonia"
input = "chest_radiograph"
curve = [1, 4, 16, "all"]
seeds = [0, 1, 2]
least_gain = {LEAST_GAIN}
[data]
file = "images.csv"
[card]
name = "planted bars"
source = "made by benchmarks/supervised.py"
licence = "CC0-1.0"
consent_basis = "no persons"
"""


def planted(folder: Path, count: int) -> None:
    """Write images, table and manifest."""
    rng = np.random.default_rng(0)
    rows = ["image,label,patient,split"]
    for number in range(count):
        pixels = rng.normal(110, 40, (64, 64))
        present = number % 2
        pixels[40:48] += 12 * present
        name = f"{number}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
        rows.append(f"{name},{present},p{number},{'val' if number % 5 in (3, 4) else 'train'}")
    (folder / "images.csv").write_text("\n".join(rows) + "\n")
    (folder / "task.toml").write_text(MANIFEST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--pack", default="cxr-bus-mini")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        planted(folder, given.images)
        command = [RADSERVE, "adapt", "task.toml", "--pack", given.pack, "--out", "adapted", "--keep-failed"]
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        record = json.loads((folder / "adapted" / "adaptation_pneumonia.json").read_text())
        gate = record["gate"]
        print(f"{given.images} images, base {record['base']['name']} {record['base']['version']}")
        print(f"processor time {processor:.1f} s, wall time {time.monotonic() - began:.1f} s")
        print(f"AUROC on val {gate['auroc_before']:.4f} zero-shot, {gate['auroc_after']:.4f} adapted")
        print(f"bound of the gain {gate['gain_lower_bound']:+.4f} (asked: {LEAST_GAIN}), passed {gate['passed']}")
        for point in record["curve"]:
            mean, spread = np.mean(point["auroc"]), np.std(point["auroc"], ddof=1)
            print(f"{point['method']:10} {point['shots']!s:>4} examples of each class: {mean:.4f} sd {spread:.4f}")
    print(f"load average {os.getloadavg()[0]:.0f}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
