"""Writes a compressed pack: the original with other graphs, a version of its own, and the record of its gate."""

from __future__ import annotations

import json
import shutil
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from radserve.errors import ErrorCode, RadserveError
from radserve.models.compress.gate import LabelComparison
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import ModelPack, load_pack
from radserve.models.pack_files import PACK_FILE, SIGNATURE_FILE
from radserve.models.pack_parity import PARITY_FILE
from radserve.models.pack_types import migrated
from radserve.models.pack_writing import sealed

RECORD_FILE, CARD_FILE = "compression.json", "MODEL_CARD.md"
PARITY_IMAGES = 64  # validation images of each label on which the graphs are compared
# Weights and records of the original's training: they are not those of the variant.
LEFT_OUT = (
    "model.safetensors",
    "model.json",
    "training.json",
    "parity.json",
    "evaluation.json",
    "seeds.json",
    "out_of_fold.json",
)


@dataclass(frozen=True)
class Change:
    """What was done: the method in words for programs and for people, the graphs, and the precision of each."""

    method: str
    words: str
    graphs: Mapping[str, bytes]
    precision: Mapping[str, str]
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What the gate said of a variant on a split; `test` is for the record alone."""

    split: str
    margin: float
    labels: Sequence[LabelComparison]
    reports_identical: float | None = None
    parity: Mapping[str, Any] = field(default_factory=dict)
    test: Sequence[LabelComparison] = ()

    @property
    def passed(self) -> bool:
        return all(each.passed for each in self.labels)


def draft_variant(pack: ModelPack, change: Change, version: str, folder: Path) -> ModelPack:
    """Write the variant without its record into `folder`, to be measured."""
    shutil.copytree(pack.folder, folder, ignore=shutil.ignore_patterns(PACK_FILE, SIGNATURE_FILE, *LEFT_OUT))
    for name, graph in change.graphs.items():
        (folder / pack.graphs[name].file).write_bytes(graph)
    table = migrated(tomllib.loads((pack.folder / PACK_FILE).read_text(encoding="utf-8")))
    table["version"] = version
    table["description"] = f"{pack.description}; {change.words}"
    table["initialised_from"] = f"{pack.name} {pack.version} ({pack.digest[:12]}), {change.words}"
    for name, precision in change.precision.items():
        table["graphs"][name]["precision"] = precision
    return sealed(folder, table)


def check_free(out: Path) -> None:
    """Raise INVALID_ARGUMENT where something stands in the place of a pack."""
    if out.exists():
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"{out.name!r} exists already: a pack is never overwritten")


def finish_variant(original: ModelPack, draft: ModelPack, change: Change, outcome: Outcome, out: Path) -> ModelPack:
    """Add the record and the card to the draft and put it in the place of `out`, which must be free (check_free)."""
    check_free(out)
    record = compression_record(original, draft, change, outcome)
    (draft.folder / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (draft.folder / PARITY_FILE).write_text(json.dumps(outcome.parity, indent=2) + "\n", encoding="utf-8")
    card = (draft.folder / CARD_FILE).read_text(encoding="utf-8")
    (draft.folder / CARD_FILE).write_text(_card(original, draft, change, outcome) + card, encoding="utf-8")
    sealed(draft.folder, tomllib.loads((draft.folder / PACK_FILE).read_text(encoding="utf-8")))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as aside:
        shutil.copytree(draft.folder, Path(aside) / out.name)
        (Path(aside) / out.name).rename(out)
    return load_pack(out)


def parity_record(
    original: ModelPack, draft: ModelPack, pixels: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, Any]:
    """How near the variant's graphs of images are to the original's, output by output.

    `pixels` has by the name of the graph prepared images (N, ...).
    """
    outputs: list[dict[str, Any]] = []
    for graph, seen in pixels.items():
        entry = original.graphs[graph].inputs[0].name
        before, after = (OnnxGraph(pack.read(graph)).run({entry: seen}) for pack in (original, draft))
        outputs += [
            {
                "graph": graph,
                "name": name,
                "max_abs_diff": float(np.abs(after[name] - values).max()),
                **_cosines(values, after[name]),
            }
            for name, values in before.items()
        ]
    first = next(iter(pixels))
    opsets = {each.domain: each.version for each in onnx.load_model_from_string(draft.read(first)).opset_import}
    return {
        "against": f"{original.name} {original.version} ({original.digest[:12]})",
        "precision": draft.graphs[first].precision,
        "opset": opsets[""],
        "images": sum(map(len, pixels.values())),
        "outputs": outputs,
    }


def _cosines(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> dict[str, float]:
    one, other = (each.reshape(len(each), -1).astype(np.float64) for each in (before, after))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = (one * other).sum(axis=1) / np.where(norms == 0, 1, norms)
    return {"least_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean())}


def compression_record(original: ModelPack, draft: ModelPack, change: Change, outcome: Outcome) -> dict[str, Any]:
    """The record as JSON types: from what, how, how large, and what the gate said."""
    return {
        "schema": "radserve-compression/1",
        "method": change.method,
        "details": dict(change.details),
        "original": {"name": original.name, "version": original.version, "digest": original.digest},
        "graph_bytes": {name: [graph_bytes(original)[name], size] for name, size in graph_bytes(draft).items()},
        "size_ratio": sum(graph_bytes(draft).values()) / sum(graph_bytes(original).values()),
        "gate": {
            "test": "paired DeLong, one-sided 95 % upper bound of the AUROC loss",
            "margin": outcome.margin,
            "split": outcome.split,
            "labels": [asdict(each) for each in outcome.labels],
            "passed": outcome.passed,
            "unmeasured": unmeasured(original, outcome),
        },
        "reports_identical": outcome.reports_identical,
        "test_split": [asdict(each) for each in outcome.test],
    }


def unmeasured(pack: ModelPack, outcome: Outcome) -> list[str]:
    """The labels of the pack for which there were no images: nothing is known of them."""
    measured = {each.label for each in outcome.labels}
    return [each.name for each in pack.labels if each.name not in measured]


def graph_bytes(pack: ModelPack) -> dict[str, int]:
    """The size of every graph file."""
    return {name: (pack.folder / graph.file).stat().st_size for name, graph in pack.graphs.items()}


def _card(original: ModelPack, draft: ModelPack, change: Change, outcome: Outcome) -> str:
    before, after = (sum(graph_bytes(pack).values()) for pack in (original, draft))
    verdict = "passed" if outcome.passed else "NOT passed: kept for the record, not for use"
    rows = [
        f"| {each.label} | {each.images} | {each.auroc_before:.4f} | {each.auroc_after:.4f} | {each.loss:+.4f} "
        f"| {each.loss_upper_bound:+.4f} | {each.decisions_agree:.3f} | {'passed' if each.passed else 'not passed'} |"
        for each in outcome.labels
    ]
    return "\n".join(
        [
            f"# {draft.name} {draft.version}: {change.words}",
            "",
            f"This pack is {original.name} {original.version} (digest {original.digest[:12]}), **{change.words}**. "
            f"Its graphs have {after:,} bytes, {after / before:.1%} of the original's {before:,}.",
            "",
            f"Gate (paired DeLong, {outcome.split} split, margin {outcome.margin}): **{verdict}**.",
            "",
            "| label | images | AUROC before | after | loss | upper bound | equal decisions | |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            *(f"| {name} | 0 | not measured | | | | | |" for name in unmeasured(original, outcome)),
            "",
            "Calibration, thresholds and the foreign-image gate are the original's. The original's card follows; its "
            "figures are the original's.",
            "",
            "",
        ]
    )
