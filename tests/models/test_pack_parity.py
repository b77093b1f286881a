"""The parity line of results: from records of imports, from the default pack's own, and none from anything else."""

from __future__ import annotations

import json

import pytest

from radserve.models.catalogue import PackCatalogue
from radserve.models.pack_parity import parity_summary


def test_the_line_names_precision_opset_and_the_worst_output() -> None:
    outputs = [{"max_abs_diff": 2e-6, "least_cosine": 0.9999999}, {"max_abs_diff": 5e-3, "least_cosine": 0.9995}]
    record = {"precision": "fp16", "opset": 18, "outputs": outputs}
    line = parity_summary(json.dumps(record).encode())
    assert line == "fp16, opset 18: largest difference 5.0e-03, least cosine 0.999500"


def test_the_default_pack_says_how_near_it_is_in_every_result() -> None:
    ref = PackCatalogue().get("cxr-bus-mini").ref
    assert ref.parity.startswith("fp32, opset 18: largest difference ")


ENDLESS = b'{"outputs": [{"max_abs_diff": 1, "least_cosine": 1}], "precision": "fp32", "opset": Infinity}'


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"outputs": [{}]}', b"\xff", ENDLESS, b"[" * 100_000])
def test_what_is_no_record_gives_no_line(raw: bytes) -> None:
    assert parity_summary(raw) == ""
