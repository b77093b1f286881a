"""The folder that training leaves: weights and how they came to be."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from radserve.models.train.ct.network import SmallUNet

WEIGHTS_FILE, RECORD_FILE = "model.safetensors", "training.json"


@dataclass(frozen=True)
class TrainingRecord:
    """How the weights came to be. `held_out` and `ignored` count slices of the scan."""

    seed: int
    steps: int
    seconds: float
    threads: int
    parameters: int
    slices: int
    held_out: int
    ignored: int
    last_loss: float

    def save(self, folder: Path) -> None:
        (folder / RECORD_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> TrainingRecord:
        return cls(**json.loads((folder / RECORD_FILE).read_text()))


def save_network(network: SmallUNet, folder: Path) -> None:
    """Write the weights in half precision: read again, they are the network that is measured and exported."""
    halves = {name: each.half() if each.is_floating_point() else each for name, each in network.state_dict().items()}
    save_file({name: each.contiguous() for name, each in halves.items()}, folder / WEIGHTS_FILE)


def load_network(folder: Path) -> SmallUNet:
    """The network of a checkpoint or of a pack in single precision, set to evaluation."""
    network = SmallUNet()
    network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    return network.eval()
