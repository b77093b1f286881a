"""AUROC of the default pack through the whole served path, on a split of the MedMNIST sets.

    python benchmarks/served_auroc.py --data FOLDER [--split test]

Wraps each image as a DICOM study, sends all through one `radserve infer`, and reads the scores from result.json. The
test split is for measuring alone. Positive classes: label 1 of PneumoniaMNIST, label 0 (malignant) of BreastMNIST.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.medmnist_dicom import COLLECTIONS, read_split, write_split

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ServedScores:
    """What one run gave: exit code, time, and for each finding the scores and labels in the order of the split."""

    exit_code: int
    seconds: float
    scores: Mapping[str, Scores]
    labels: Mapping[str, npt.NDArray[np.bool_]]

    @property
    def counts(self) -> dict[str, int]:
        return {finding: len(scores) for finding, scores in self.scores.items()}

    def auroc(self, finding: str) -> float:
        return self.auroc_of(finding, self.scores[finding])

    def auroc_of(self, finding: str, scores: Scores) -> float:
        return float(roc_auc_score(self.labels[finding], scores))


def measure(data: Path, folder: Path, split: str) -> ServedScores:
    """Write the split as DICOM below `folder`, run `radserve infer` over it, read the scores."""
    write_split(data, split, folder / "in")
    command = [str(Path(sys.executable).parent / "radserve"), "infer", str(folder / "in"), "--out", str(folder / "out")]
    started = time.perf_counter()
    run = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    seconds = time.perf_counter() - started
    scores, labels = {}, {}
    for collection in COLLECTIONS:
        studies = read_split(data, collection, split)
        found = [_score(folder / "out" / each.study_instance_uid, collection.finding) for each in studies]
        scores[collection.finding] = np.array(found)
        labels[collection.finding] = np.array([each.positive for each in studies])
    return ServedScores(run.returncode, seconds, scores, labels)


def _score(folder: Path, finding: str) -> float:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    (found,) = [each for each in result["findings"] if each["label"] == finding]
    return float(found["score"])


def pytorch_scores(data: Path, split: str, finding: str) -> Scores:
    """The scores of the same images by the PyTorch model, without ONNX, DICOM or a server."""
    from radserve.models.catalogue import built_in_folder
    from radserve.models.tokenizer import PackTokenizer
    from radserve.models.train.prompt_file import load_prompts
    from radserve.models.train.scoring import load_model, score_images

    (collection,) = [each for each in COLLECTIONS if each.finding == finding]
    images = np.stack([each.pixels for each in read_split(data, collection, split)])
    pack = built_in_folder() / "cxr-bus-mini"
    tokenizer = PackTokenizer(pack / "tokenizer.json")
    return score_images(load_model(pack), tokenizer, load_prompts(pack / "prompts.toml"), images)[finding]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz and breastmnist.npz")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        served = measure(given.data, Path(folder), given.split)
    rows = {
        finding: {
            "studies": len(scores),
            "auroc_served": round(served.auroc(finding), 5),
            "auroc_pytorch": round(served.auroc_of(finding, pytorch_scores(given.data, given.split, finding)), 5),
        }
        for finding, scores in served.scores.items()
    }
    report = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "split": given.split,
        "exit_code": served.exit_code,
        "seconds_for_all_studies": round(served.seconds, 1),
        "findings": rows,
    }
    print(json.dumps(report, indent=2))
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
