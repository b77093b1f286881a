from __future__ import annotations

import pytest

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.vocabulary import write_tokenizer
from tests.models.train.one_thread import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PackTokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(path)
    return PackTokenizer(path)
