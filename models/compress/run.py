"""From a pack to a compressed pack behind the gate."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radserve.errors import ErrorCode, PackError
from radserve.models.compress.gate import MARGIN, compare
from radserve.models.compress.methods import Method, MethodOptions, apply_method
from radserve.models.compress.samples import FloatArray, Reader, Samples, by_graph, some
from radserve.models.compress.scores import pack_scores
from radserve.models.compress.variant import (
    PARITY_IMAGES,
    Outcome,
    check_free,
    draft_variant,
    finish_variant,
    parity_record,
)
from radserve.models.export.onnx_model import OnnxModel
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import ModelPack
from radserve.models.tokenizer import START, pack_tokenizer

REPORTS = 64  # validation images of each label whose reports are compared


@dataclass(frozen=True)
class Compressed:
    """The written pack and what its gate said."""

    pack: ModelPack
    outcome: Outcome


def compress(
    pack: ModelPack,
    method: Method,
    read: Reader,
    out: Path,
    *,
    options: MethodOptions | None = None,
    version: str = "",
    margin: float = MARGIN,
    keep_failed: bool = False,
    test: bool = False,
) -> Compressed:
    """Compress `pack` and write it to `out` when the gate on the validation split passes, or with `keep_failed` anyway.

    `read` gives the samples of a split, of one or more of the pack's labels. With `test` the test split is measured for
    the record; it decides nothing. Raises PACK_INVALID naming the labels that did not pass, and what the method raises.
    """
    check_free(out)  # also at the end: what comes in the meantime is not overwritten either
    train, validation = read("train") if method.learns else (), read("val")
    change = apply_method(method, pack, train, options or MethodOptions())
    with tempfile.TemporaryDirectory(prefix="radserve-compress-") as folder:
        draft = draft_variant(pack, change, version or f"{pack.version}+{method.value}", Path(folder) / pack.name)
        before, after = pack_scores(pack), pack_scores(draft)
        outcome = Outcome(
            split="val",
            margin=margin,
            labels=compare(before, after, validation, margin),
            parity=parity_record(pack, draft, _some_by_graph(pack, validation, PARITY_IMAGES)),
            reports_identical=_reports_identical(pack, draft, _some_by_graph(pack, validation, REPORTS)),
            test=compare(before, after, read("test"), margin) if test else (),
        )
        failed = [each for each in outcome.labels if not each.passed]
        if failed and not keep_failed:
            causes = ", ".join(f"{each.label} ({each.doubt})" for each in failed)
            message = f"{method}: not shown to be within {margin:g} of the original's AUROC on val: {causes}"
            raise PackError(ErrorCode.PACK_INVALID, message)
        return Compressed(finish_variant(pack, draft, change, outcome, out), outcome)


def _some_by_graph(pack: ModelPack, samples: Sequence[Samples], count: int) -> dict[str, FloatArray]:
    return {name: some(seen, count) for name, seen in by_graph(pack, samples).items()}


def _reports_identical(before: ModelPack, after: ModelPack, pixels: Mapping[str, FloatArray]) -> float | None:
    """The share of greedy reports that are the same, word for word; None for a pack that writes none.

    Of the first language of the pack.
    """
    tokenizer = pack_tokenizer(before)
    if tokenizer is None or before.decoder is None:
        return None
    most, start = before.decoder.max_tokens, next(iter(before.decoder.start_tokens.values()), START)
    same: list[bool] = []
    for encoder in dict.fromkeys(use.image_encoder for use in before.inputs if use.image_encoder in pixels):
        first, second = (
            OnnxModel(pack.folder, encoder, {name: graph.file for name, graph in pack.graphs.items()}).greedy_reports(
                tokenizer, OnnxGraph(pack.read(encoder)).run({"pixels": pixels[encoder]})["image_tokens"], start, most
            )
            for pack in (before, after)
        )
        same += [one == other for one, other in zip(first, second, strict=True)]
    return float(np.mean(same))
