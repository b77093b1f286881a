"""A kind of checkpoint: an ONNX file behind a line of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from radserve.models.importing.onnx_kind import read_onnx


def read(source, labels, options):
    plain = Path(source).with_suffix(".onnx")
    plain.write_bytes(Path(source).read_bytes().split(b"\n", 1)[1])
    return replace(read_onnx(str(plain), labels, options), kind="acme")
