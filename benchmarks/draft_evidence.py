"""How many written texts of the default pack have a sentence that rests on nothing in the result.

    python benchmarks/draft_evidence.py DATA_FOLDER [SPLIT ...]

DATA_FOLDER has pneumoniamnist.npz and breastmnist.npz; the splits are val and test without. The analyser of the
server runs in this process, on images instead of DICOM files, many series at a time. One JSON line for each split and
language; `without_evidence` counts sentences.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from radserve.image import Image
from radserve.models.catalogue import built_in_folder
from radserve.models.pack import load_pack
from radserve.pipelines.authoring import ReportOptions
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.study import Analysis, AnalysisRequest, StudyAnalyser
from radserve.references import StudyRef
from tests.support.dicoms import cr
from tests.support.pipeline import analyser_of
from tests.support.results import sample_image

SERIES = 64  # of one study: they are decoded side by side
SETS: dict[str, dict[str, Any]] = {
    "pneumoniamnist": {"modality": "CR", "body_part": "CHEST", "view_position": "PA", "age_years": 3.0},
    "breastmnist": {"modality": "US", "body_part": "BREAST", "view_position": "", "age_years": 50.0},
}


def images_of(path: Path, split: str, context: dict[str, Any]) -> list[Image]:
    with np.load(path) as arrays:
        pixels = arrays[f"{split}_images"].astype(np.uint16) << 4
    named = [
        sample_image(cr(each, study=f"{n // SERIES}", series=f"{n}"), bits_stored=12) for n, each in enumerate(pixels)
    ]
    return [replace(image, context=replace(image.context, **context)) for image in named]


async def count(analyser: StudyAnalyser, studies: list[str], language: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for study in studies:
        request = AnalysisRequest(StudyRef(study), options=ReportOptions(language))
        async for event in analyser.analyse(request, Deadline.after(None)):
            record = event.result.generation if isinstance(event, Analysis) else None
            if record:
                counts.update({"texts": record.texts, "withheld": record.withheld, "sentences": record.sentences})
                counts.update(dict(record.faults))
    return counts


async def measure(folder: Path, splits: list[str]) -> None:
    pack = load_pack(built_in_folder() / "cxr-bus-mini")
    for split in splits:
        for name, context in SETS.items():
            images = images_of(folder / f"{name}.npz", split, context)
            analyser, _, _ = await analyser_of(pack, images)
            studies = sorted({image.instance.study_instance_uid for image in images})
            for language in ("en", "zh"):
                counts = await count(analyser, studies, language)
                told = {"pack": pack.version, "set": name, "split": split, "language": language, **counts}
                print(json.dumps(told), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("splits", nargs="*", default=["val", "test"])
    given = parser.parse_args()
    asyncio.run(measure(given.folder, given.splits))


if __name__ == "__main__":
    main()
