"""Adapter files: what is not one, or lacks what its method needs, is refused; two labels never share a name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from radserve.errors import ErrorCode, PackError
from radserve.models.adapt.adapted_pack import write_adapted
from radserve.models.adapt.adapter_file import SCHEMA, Adapter, read_adapter
from radserve.models.adapt.derive import base_reference
from radserve.models.pack import ModelPack, load_pack
from tests.support.packs import EMBEDDING, make_tiny_pack


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path_factory.mktemp("base") / "tiny"))


def head(base: ModelPack, label: str = "Pneumonia") -> Adapter:
    return Adapter(
        method="logistic",
        label=label,
        input="chest radiograph",
        base=base_reference(base),
        stated={},
        tensors={"weight": np.ones(EMBEDDING, np.float32), "bias": np.zeros(1, np.float32)},
        details={},
        words="by a head",
        record={},
        card="",
    )


def test_an_adapter_is_read_as_it_was_written(base: ModelPack, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(head(base).save())
    found = read_adapter(tmp_path / "a.safetensors")
    assert found.save() == head(base).save()
    assert write_adapted(base, found, tmp_path / "adapted").label("Pneumonia").scoring.kind == "output"


@pytest.mark.parametrize(
    "changed", [{"base": []}, {"base": {"name": "tiny"}}, {"details": None}, {"label": 1}, {"more": 1}, {"schema": ""}]
)
def test_what_is_no_adapter_is_refused(base: ModelPack, tmp_path: Path, changed: dict[str, Any]) -> None:
    told = json.loads(_told(head(base)))
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"weight": np.zeros(2, np.float32)}, {"radserve": json.dumps({**told, **changed})}))
    with pytest.raises(PackError, match=f"is no adapter of schema {SCHEMA}") as caught:
        read_adapter(path)
    assert caught.value.code is ErrorCode.PACK_INVALID
    path.write_bytes(save({"weight": np.zeros(2, np.float32)}, {"radserve": "[" * 100_000}))
    with pytest.raises(PackError, match="is no adapter"):
        read_adapter(path)


@pytest.mark.parametrize("method", ["exemplars", "low-rank", "context-vectors"])
def test_an_adapter_without_what_its_method_needs_is_refused(base: ModelPack, tmp_path: Path, method: str) -> None:
    with pytest.raises(PackError, match="the adapter does not state '") as caught:
        write_adapted(base, replace(head(base), method=method), tmp_path / "adapted")
    assert caught.value.code is ErrorCode.PACK_INVALID


def test_no_two_labels_share_the_names_of_their_files(base: ModelPack) -> None:
    assert head(base, "Malignant breast lesion").slug == "malignant_breast_lesion"
    labels = ("Lung opacity", "Lung-opacity", "气胸", "肺炎", "x" * 100, "x" * 101)
    slugs = [head(base, label).slug for label in labels]
    assert len(set(slugs)) == len(labels)
    assert all(len(slug) <= 57 and slug.replace("_", "").isalnum() and slug.isascii() for slug in slugs)


def _told(adapter: Adapter) -> str:
    """The JSON in the header of an adapter file (safetensors: its length in eight bytes, then a table)."""
    data = adapter.save()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return str(header["__metadata__"]["radserve"])
