"""The shipped pack and the real images it is checked on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from radserve.models.export.onnx_model import OnnxModel
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.data import TASKS, load_split
from radserve.models.train.prompt_file import Prompts, load_prompts
from radserve.models.train.scoring import load_model
from tests.models.train.one_thread import one_thread

__all__ = ["one_thread"]

_ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def pack_folder() -> Path:
    return _ROOT / "models" / "packs" / "cxr-bus-mini"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    folder = _ROOT.parent / "shared" / "data"
    if not (folder / "breastmnist.npz").exists():
        pytest.skip("needs pneumoniamnist.npz and breastmnist.npz in ../shared/data, beside the repository")
    return folder


@pytest.fixture(scope="session")
def model(pack_folder: Path) -> RadCoCa:
    return load_model(pack_folder)


@pytest.fixture(scope="session")
def tokenizer(pack_folder: Path) -> PackTokenizer:
    return PackTokenizer(pack_folder / "tokenizer.json")


@pytest.fixture(scope="session")
def prompts(pack_folder: Path) -> Prompts:
    return load_prompts(pack_folder / "prompts.toml")


@pytest.fixture(scope="session")
def graphs(pack_folder: Path) -> OnnxModel:
    return OnnxModel(pack_folder)


@pytest.fixture(scope="session")
def test_images(data_folder: Path) -> npt.NDArray[np.uint8]:
    """100 images (100, 28, 28) of the test splits, half of each data set."""
    return np.concatenate([load_split(data_folder, task, "test").images[:50, 0].numpy() for task in TASKS])
