"""Fits the out-of-distribution gate of every input: a Gaussian on the train split, its threshold on the val split."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.covariance import LedoitWolf

from radserve.models.gate import Gate, token_statistics
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.data import TASKS, Task, load_split
from radserve.models.train.scoring import encoded

FALSE_ALARM_RATE = 0.02  # of the validation images
RECORD_FILE = "gates.json"
_MOST = 1500  # training images, evenly chosen: many times as many as the Gaussian has dimensions


@dataclass(frozen=True)
class GateRecord:
    """An input's gate as pack.toml states it."""

    file: str
    threshold: float
    false_alarm_rate: float


def fit_gates(model: RadCoCa, data: Path, out: Path) -> dict[str, GateRecord]:
    """Write the gate of every input and their records into `out`; returns the records by input."""
    records = {task.wording.input_name: _fit(model, data, out, task) for task in TASKS}
    (out / RECORD_FILE).write_text(json.dumps({name: asdict(each) for name, each in records.items()}, indent=2) + "\n")
    return records


def load_gate_records(folder: Path) -> dict[str, GateRecord]:
    """The records that `fit_gates` left in a checkpoint folder; none where it has not run."""
    path = folder / RECORD_FILE
    return {name: GateRecord(**each) for name, each in json.loads(path.read_text()).items()} if path.exists() else {}


def fit_gaussian(tokens: npt.NDArray[np.float32]) -> Gate:
    """The Gaussian of the statistics of `tokens` (N, P, C), its covariance shrunk as by Ledoit and Wolf (2004)."""
    fitted = LedoitWolf().fit(token_statistics(tokens))
    factor = np.linalg.cholesky(fitted.precision_)
    return Gate(fitted.location_.astype(np.float32), factor.astype(np.float32))


@torch.inference_mode()
def image_tokens(model: RadCoCa, images: npt.NDArray[np.uint8], input_name: str) -> npt.NDArray[np.float32]:
    """Tokens (N, P, C) of an input's `images` (N, 28, 28) uint8."""
    tokens: npt.NDArray[np.float32] = encoded(model, images, input_name)[1].numpy()
    return tokens


def _fit(model: RadCoCa, data: Path, out: Path, task: Task) -> GateRecord:
    learned, held_out = (load_split(data, task, split).images for split in ("train", "val"))
    name = task.wording.input_name
    gate = fit_gaussian(image_tokens(model, learned[:: max(1, len(learned) // _MOST), 0].numpy(), name))
    file = f"gate_{name}.safetensors"
    gate.save(out / file)
    scores = gate.score(image_tokens(model, held_out[:, 0].numpy(), name))
    threshold = float(np.quantile(scores, 1 - FALSE_ALARM_RATE, method="higher"))
    return GateRecord(file, threshold, FALSE_ALARM_RATE)
