"""The out-of-distribution gate: a Mahalanobis distance that reads its statistics from a file or refuses them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from scipy.spatial.distance import mahalanobis

from radserve.errors import ErrorCode, PackError
from radserve.models.gate import Gate, read_gate, token_statistics


def _gate(size: int = 6) -> tuple[Gate, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(size, size))
    precision, mean = root @ root.T + np.eye(size), rng.normal(size=size)
    return Gate(mean.astype(np.float32), np.linalg.cholesky(precision).astype(np.float32)), mean, precision


def test_the_score_is_scipys_mahalanobis_distance_squared_by_dimension() -> None:
    gate, mean, precision = _gate()
    tokens = np.random.default_rng(1).normal(size=(4, 5, 3)).astype(np.float32)
    for each, score in zip(tokens, gate.score(tokens), strict=True):
        statistics = np.concatenate([each.mean(axis=0), each.std(axis=0)])
        assert score == pytest.approx(mahalanobis(statistics, mean, precision) ** 2 / 6, rel=1e-4)


def test_one_image_scores_as_it_does_in_a_batch() -> None:
    gate, _, _ = _gate()
    tokens = np.random.default_rng(1).normal(size=(4, 5, 3)).astype(np.float32)
    assert gate.score(tokens)[2] == pytest.approx(float(gate.score(tokens[2])), rel=1e-12)
    assert token_statistics(tokens).shape == (4, 6)


def test_a_gate_survives_its_file(tmp_path: Path) -> None:
    gate, _, _ = _gate()
    gate.save(tmp_path / "gate.safetensors")
    read = read_gate((tmp_path / "gate.safetensors").read_bytes(), channels=3)
    assert np.array_equal(read.mean, gate.mean) and np.array_equal(read.whitening, gate.whitening)
    assert not read.whitening.flags.writeable


@pytest.mark.parametrize(
    ("content", "channels", "says"),
    [
        (b"\x80\x04pickle", 3, "not a safetensors file"),
        (save({"mean": np.zeros(6, np.float32)}), 3, r"got tensors \['mean'\], expected \['mean', 'whitening'\]"),
        (save({"mean": np.zeros(6, np.float32), "whitening": np.eye(6, dtype=np.float32)}), 4, "6 values, expected 8"),
        (save({"mean": np.zeros(6, np.float32), "whitening": np.eye(6)}), 3, "whitening float64"),
        (save({"mean": np.zeros(6, np.float32), "whitening": np.eye(5, dtype=np.float32)}), 3, r"\(5, 5\)"),
        (save({"mean": np.full(6, np.nan, np.float32), "whitening": np.eye(6, dtype=np.float32)}), 3, "finite"),
    ],
)
def test_a_file_that_is_no_gate_of_this_encoder_is_refused(content: bytes, channels: int, says: str) -> None:
    with pytest.raises(PackError, match=says) as caught:
        read_gate(content, channels)
    assert caught.value.code is ErrorCode.PACK_INVALID
