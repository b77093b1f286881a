from __future__ import annotations

import pytest
import torch

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import ModelConfig, Normalisation, RadCoCa
from radserve.models.train.vocabulary import write_tokenizer
from tests.models.train.one_thread import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PackTokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(path)
    return PackTokenizer(path)


@pytest.fixture(scope="module")
def model(tokenizer: PackTokenizer) -> RadCoCa:
    """Two small networks joined, untrained; each image normalised by itself."""
    torch.manual_seed(0)
    config = ModelConfig(
        tokenizer.vocabulary_size, embedding_size=16, text_layers=1, multimodal_layers=1, image_size=56, members=2,
        normalisation=Normalisation(per_image=True),
    )  # fmt: skip
    return RadCoCa(config).eval()
