"""The examples of a label as a pack's file has them: read back as they were written, refused by name where broken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from radserve.errors import ErrorCode, PackError
from radserve.models.exemplars import ExemplarIndex, exemplars_of

EMBEDDINGS = np.eye(3, 4, dtype=np.float32)


def index() -> ExemplarIndex:
    return ExemplarIndex(EMBEDDINGS, np.array([True, False, True]), ("a", "b", "c"), 2.0, 5.0)


def test_what_is_written_is_read() -> None:
    found = exemplars_of(index().tensors(), 2.0, 5.0, 4, "file")
    assert found.ids == ("a", "b", "c") and found.positive.tolist() == [True, False, True]
    assert found.nearest(EMBEDDINGS[1], 1) == [("b", False, 1.0)]


@pytest.mark.parametrize(
    ("tensor", "value", "cause"),
    [
        ("exemplar_ids", b"1", "is not a list of names"),
        ("exemplar_ids", b'{"a": 1, "b": 2, "c": 3}', "is not a list of names"),
        ("exemplar_ids", b"[" * 100_000, "is not a list of names"),
        ("exemplar_ids", b'["a", "b"]', "expected as many of each"),
        ("exemplar_positive", np.ones((), np.uint8), r"got \(\), expected \(examples,\)"),
        ("exemplar_positive", np.ones((3, 2), np.uint8), r"got \(3, 2\), expected \(examples,\)"),
        ("exemplar_embeddings", np.zeros((3, 4), np.float32), "not a finite unit vector"),
        ("exemplar_embeddings", np.eye(3, dtype=np.float32), "as the image encoder"),
    ],
)
def test_a_broken_file_is_refused_naming_the_tensor(tensor: str, value: Any, cause: str) -> None:
    broken = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
    with pytest.raises(PackError, match=cause) as caught:
        exemplars_of({**index().tensors(), tensor: broken}, 2.0, 5.0, 4, "file")
    assert caught.value.code is ErrorCode.PACK_INVALID
