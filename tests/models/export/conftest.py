"""The shipped pack and the real images it is checked on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from radserve.models.export.onnx_graphs import encoder_name
from radserve.models.export.onnx_model import OnnxModel
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.data import TASKS, Task, load_split
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


@pytest.fixture(scope="session", params=TASKS, ids=lambda task: task.wording.input_name)
def seen(request: pytest.FixtureRequest) -> Task:
    """The input whose graphs and images a test is about."""
    return request.param


@pytest.fixture(scope="session")
def graphs(pack_folder: Path, model: RadCoCa, seen: Task) -> OnnxModel:
    return OnnxModel(pack_folder, encoder_name(seen.wording.input_name, model.config.own_towers))


@pytest.fixture(scope="session")
def test_images(data_folder: Path, seen: Task) -> npt.NDArray[np.uint8]:
    """50 images (50, 28, 28) of the test split."""
    return load_split(data_folder, seen, "test").images[:50, 0].numpy()
