"""parity.json in a few words, for every result: how near the graphs are to what they were exported from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PARITY_FILE = "parity.json"


def parity_summary(raw: bytes) -> str:
    """One line of a parity record: precision, largest difference, least cosine; "" for what is no record of ours."""
    try:
        record = json.loads(raw)
        if not isinstance(record, Mapping):
            return ""
        outputs = record.get("outputs")
        if isinstance(outputs, list) and outputs:
            return _of_outputs(record, outputs)
        # The default pack's own form: a largest difference for each embedding.
        found = [float(record[name]) for name in ("image_embedding", "text_embedding")]
        return f"fp32, opset {int(record['opset'])}: largest difference {max(found):.1e}"
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return ""


def _of_outputs(record: Mapping[str, Any], outputs: list[Any]) -> str:
    difference = max(float(each["max_abs_diff"]) for each in outputs)
    cosine = min(float(each["least_cosine"]) for each in outputs)
    head = f"{record['precision']}, opset {int(record['opset'])}"
    return f"{head}: largest difference {difference:.1e}, least cosine {cosine:.6f}"
