"""Evaluate the default pack on the official test splits: DICOM, through the server, to one report page.

    python examples/evaluate_default_pack.py --data FOLDER --out FOLDER

FOLDER of --data holds pneumoniamnist.npz and breastmnist.npz (MedMNIST v2, CC BY 4.0). Every image is sent as DICOM
through `radserve infer`; the corruptions of the robustness rows are scored by the pack's own preprocessing and image
encoder in this process, for they are 65 times as many images.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.medmnist_dicom import COLLECTIONS, Collection, read_split, write_split
from radserve.evaluation.corruptions import CORRUPTIONS
from radserve.evaluation.output import write_json
from radserve.evaluation.robustness import assess_robustness, corrupted_scores
from radserve.geometry import SpatialTransform
from radserve.image import PixelProperties, Provenance
from radserve.models.catalogue import PackCatalogue
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import ModelPack
from radserve.models.tokenizer import PackTokenizer
from radserve.pipelines.classify import encode_frames, score_label
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.preprocess.adapter import Task, run_task
from radserve.pipelines.preprocess.chain import input_chain
from radserve.pipelines.prompts import embed_prompts
from radserve.references import InstanceRef
from radserve.tensors import PreparedInput

RADSERVE = Path(sys.executable).parent / "radserve"
PROPERTIES = PixelProperties("MONOCHROME2", bits_stored=8, value_range=(0.0, 1.0))
NOWHERE = InstanceRef("1.2.3", "1.2.3", "1.2.3", "1.2.840.10008.5.1.4.1.1.7")
PLAN = """\
title = "cxr-bus-mini on the test splits of PneumoniaMNIST and BreastMNIST"
model = "cxr-bus-mini {version}, pipeline digest {digest}"
data = "MedMNIST v2, official test splits, 28 x 28; positive: pneumonia (label 1), malignant (label 0)"
scores = "scores.csv"
bootstrap = 1000
seed = 1

{robustness}language_understanding = "the model reads images, not text"
knowledge_qa = "the model answers no questions"
complex_reasoning = "the model answers no questions"
safety_ethics = "run by examples/run_safety_suite.py, apart from this page: docs/measurements.md"
fairness = "the data sets hold neither age nor sex nor site of their patients"
explainability = "the data sets mark no lesions"
user_acceptance = "no person has used it in a study"
"""

MEASURED = """\
[measured]
robustness = "robustness.json"

[not_measured]
"""
NOT_RUN = """\
[not_measured]
robustness = "not run for this page"
"""


def write_labels(data: Path, path: Path) -> None:
    """One row for each study of the test splits."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["study_instance_uid", "finding", "label"])
        for collection in COLLECTIONS:
            for each in read_split(data, collection, "test"):
                writer.writerow([each.study_instance_uid, collection.finding, int(each.positive)])


class Scorer:
    """Calibrated probabilities of one finding for images as arrays in [0, 1]."""

    def __init__(self, pack: ModelPack, collection: Collection) -> None:
        self.pack = pack
        self.label = pack.label(collection.finding)
        (self.use,) = [each for each in pack.inputs if collection.finding in each.labels]
        self.chain = input_chain(pack, self.use)
        self.runner = OnnxRunner([pack])
        tokenizer = PackTokenizer(pack.tokenizer_path)
        self.direction = asyncio.run(embed_prompts(pack, tokenizer, self.runner)).directions[collection.finding]

    def __call__(self, images: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.float64]:
        arrays = tuple(np.asarray(image, dtype=np.float32) for image in images)
        tensors = run_task(Task(self.chain, arrays, PROPERTIES, np.eye(3)))
        return asyncio.run(self._score([tensor for tensor, _ in tensors]))

    async def _score(self, tensors: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
        there = [PreparedInput(each, SpatialTransform.identity(each.shape[1:]), Provenance("")) for each in tensors]
        frames = encode_frames(self.pack, self.runner, self.use, NOWHERE, list(range(len(there))), there, Deadline())
        return np.array([score_label(self.label, self.direction, frame.outputs).probability async for frame in frames])


def measure_robustness(pack: ModelPack, data: Path, out: Path) -> None:
    """Write robustness.json: for each finding the mean drop of the AUROC, and every corruption and severity."""
    content = {}
    for collection in COLLECTIONS:
        studies = read_split(data, collection, "test")
        images = [each.pixels.astype(np.float32) / 255 for each in studies]
        labels = np.array([each.positive for each in studies])
        score = Scorer(pack, collection)
        corrupted = corrupted_scores(score, images, CORRUPTIONS, seed=1)
        found = assess_robustness(labels, score(images), corrupted, threshold=score.label.threshold)
        content[collection.finding] = {
            "value": found.mean_auroc_drop,
            "n": found.n,
            "note": f"{len(CORRUPTIONS)} corruptions at 5 severities; mean flip rate {found.mean_flip_rate:.4f}",
            "conditions": found.conditions,
            "corruptions": found.corruptions,
        }
    write_json(content, str(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--robustness", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    write_split(given.data, "test", out / "dicom")
    write_labels(given.data, out / "labels.csv")
    subprocess.run([RADSERVE, "infer", out / "dicom", "--out", out / "results"], check=True)
    evaluate = [RADSERVE, "evaluate"]
    collect = ["collect", out / "results", "--labels", out / "labels.csv", "--out", out / "scores.csv"]
    subprocess.run([*evaluate, *collect], check=True)
    pack = PackCatalogue().get("cxr-bus-mini")
    if given.robustness:
        measure_robustness(pack, given.data, out / "robustness.json")
    plan = PLAN.format(version=pack.version, digest=pack.digest, robustness=MEASURED if given.robustness else NOT_RUN)
    (out / "plan.toml").write_text(plan, encoding="utf-8")
    report = ["report", out / "plan.toml", "--json", out / "report.json", "--html", out / "report.html"]
    subprocess.run([*evaluate, *report], check=True)
    rows = {each["key"]: each["values"] for each in json.loads((out / "report.json").read_text())["indicators"]}
    for value in rows["auroc"]:
        low, high = value["interval"]
        print(f"{value['finding']}: AUROC {value['value']:.4f} ({low:.4f} to {high:.4f}), n = {value['n']}")
    print(out / "report.html")


if __name__ == "__main__":
    main()
