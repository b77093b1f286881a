"""The default pack with the network it was exported from, and a pack that runs in no time."""

from __future__ import annotations

import pytest

from radserve.models.catalogue import built_in_folder
from radserve.models.pack import ModelPack, load_pack
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.scoring import load_model
from tests.models.train.one_thread import one_thread
from tests.support.packs import make_tiny_pack

__all__ = ["one_thread"]


@pytest.fixture(scope="package")
def coca() -> tuple[RadCoCa, ModelPack]:
    """The CoCa of open_clip's classes and the pack with its graphs."""
    folder = built_in_folder() / "cxr-bus-mini"
    return load_model(folder).eval(), load_pack(folder)


@pytest.fixture(scope="package")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path_factory.mktemp("pack") / "tiny"))
