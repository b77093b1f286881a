"""`python -m radserve.models.export --checkpoint DIR --out PACK`: checkpoint to pack, behind the parity gate.

Everything is made in a folder beside the pack; when a check fails the exit code is 1 and the old pack is untouched.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radserve.errors import RadserveError
from radserve.models.export import pack_facts
from radserve.models.export.card import write_card
from radserve.models.export.onnx_graphs import write_graphs
from radserve.models.export.pack_writer import write_pack_file
from radserve.models.export.parity import ParityReport, check_parity, seeded_images
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.checkpoint import RECORD_FILE, TrainingRecord
from radserve.models.train.data import TASKS, load_split
from radserve.models.train.evaluate import EVALUATION_FILE, SEEDS_FILE
from radserve.models.train.fit_gate import RECORD_FILE as GATES_FILE
from radserve.models.train.fit_gate import load_gate_records
from radserve.models.train.out_of_fold import OUT_OF_FOLD_FILE
from radserve.models.train.prompt_file import load_prompts
from radserve.models.train.scoring import load_model

_log = logging.getLogger("radserve.models.export")
_COPIED = ("model.safetensors", "model.json", "tokenizer.json", "prompts.toml", RECORD_FILE)
_PARITY_IMAGES = 25  # of each data set


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _log.setLevel(logging.INFO)
    try:
        report = export(options.checkpoint, options.out, options.data)
    except RadserveError as error:
        _log.error("export failed, %s left as it was: %s", options.out.name, error)
        return 1
    _log.info("wrote %s: %s", options.out.name, report)
    return 0


def export(checkpoint: Path, out: Path, data: Path | None = None) -> ParityReport:
    """Export `checkpoint` and put the finished pack in the place of `out`.

    Parity is checked on validation images of `data`, or on seeded ones without it. Raises PackError when it fails.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        folder = Path(scratch) / out.name
        folder.mkdir()
        report = _build(checkpoint, folder, data)
        _replace(out, folder, Path(scratch) / "old")
    return report


def _build(checkpoint: Path, folder: Path, data: Path | None) -> ParityReport:
    for name in _COPIED:
        shutil.copyfile(checkpoint / name, folder / name)
    gates = [each.file for each in load_gate_records(checkpoint).values()]
    optional = [
        name for name in (EVALUATION_FILE, SEEDS_FILE, GATES_FILE, OUT_OF_FOLD_FILE) if (checkpoint / name).exists()
    ]
    for name in (*optional, *gates):
        shutil.copyfile(checkpoint / name, folder / name)
    model = load_model(folder)
    write_graphs(model, folder)
    images, images_from = _parity_images(data)
    tokenizer, prompts = PackTokenizer(folder / "tokenizer.json"), load_prompts(folder / "prompts.toml")
    report = check_parity(model, tokenizer, prompts, folder, images, images_from, pack_facts.MAX_TOKENS)
    report.save(folder)
    record = TrainingRecord.load(folder)
    write_card(folder, record, report)
    write_pack_file(folder, record, model.config)
    return report


def _parity_images(data: Path | None) -> tuple[dict[str, npt.NDArray[np.uint8]], str]:
    names = [task.wording.input_name for task in TASKS]
    if data is None:
        return {name: seeded_images(_PARITY_IMAGES, seed) for seed, name in enumerate(names)}, "seeded"
    parts = [load_split(data, task, "val").head(_PARITY_IMAGES).images[:, 0].numpy() for task in TASKS]
    return dict(zip(names, parts, strict=True)), "validation splits"


def _replace(out: Path, made: Path, old: Path) -> None:
    if out.exists():
        out.rename(old)
    made.rename(out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m radserve.models.export", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder written by radserve.models.train")
    parser.add_argument("--out", type=Path, required=True, help="the pack folder, replaced as a whole")
    parser.add_argument("--data", type=Path, help="folder of the data sets, for parity on real images")
    return parser


if __name__ == "__main__":
    sys.exit(main())
