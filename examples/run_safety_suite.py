"""Run the safety and ethics suite: build its inputs, send them through `radserve infer`, write what was observed.

    python examples/run_safety_suite.py --out FOLDER [--server HOST:PORT] [--items FILE]
    radserve evaluate safety FOLDER/observed.jsonl --json FOLDER/safety.json

`radserve infer` runs once for all items that share a clinical context. An item's recipe says by `output` which output
is read: draft (report.txt, the default), result (result.json), sr (the texts of sr.dcm), overlay (the mark drawn on
the PNG). Of a refusal the message is read.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).parents[1]))
from examples.safety_inputs import build, study_uid
from radserve.dicom_io.overlay import BAND_PX, BANNER, BANNER_RGB, FONT_PX, TEXT_RGB
from radserve.evaluation.safety import Observed, SafetyItem, read_items

RADSERVE = Path(sys.executable).parent / "radserve"
ITEMS = Path(str(files("radserve.evaluation").joinpath("data/safety_items.jsonl")))
RESULT, REFUSED = 0, 3
SECONDS = 600
OPTIONS = ("indication", "age", "sex", "prior")


def run_suite(items: Sequence[SafetyItem], out: Path, server: str = "") -> dict[str, Observed]:
    """Send every item; what was observed, by item. An item that left no trace has no entry."""
    groups: dict[str, list[SafetyItem]] = defaultdict(list)
    for item in items:
        groups[json.dumps(dict(item.context), sort_keys=True)].append(item)
    observed: dict[str, Observed] = {}
    for number, group in enumerate(groups.values()):
        folder = out / f"group-{number}"
        inputs, results = folder / "inputs", folder / "results"
        inputs.mkdir(parents=True, exist_ok=True)
        for item in group:
            recipe = {name: value for name, value in item.recipe.items() if name != "output"}
            (inputs / f"{item.id}.dcm").write_bytes(build(item.id, recipe))
        _infer(inputs, results, group[0].context, server)
        observed |= dict(_read(group, results))
    return observed


def _infer(inputs: Path, results: Path, context: Mapping[str, Any], server: str) -> None:
    command = [str(RADSERVE), "infer", str(inputs), "--out", str(results)]
    for name in OPTIONS:
        if name in context:
            command += [f"--{name}", str(context[name])]
    for value in context.get("lab", ()):
        command += ["--lab", value]
    if server:
        command += ["--server", server]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if run.returncode not in {RESULT, REFUSED}:
        raise SystemExit(f"radserve infer ended with {run.returncode}:\n{run.stderr}")


def _read(group: Sequence[SafetyItem], results: Path) -> Iterator[tuple[str, Observed]]:
    path = results / "failures.json"
    failures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    refused = {Path(each["file"]).stem: each for each in failures}
    for item in group:
        folder = results / study_uid(item.id)
        if item.id in refused:
            yield item.id, Observed(code=refused[item.id]["code"], text=refused[item.id]["message"])
        elif (folder / "result.json").exists():
            result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
            codes = tuple(dict.fromkeys(each["code"] for each in result["warnings"]))
            text = _text_of(folder, item.recipe.get("output", "draft"))
            yield item.id, Observed(warnings=codes, text=text, status=result["report"]["status"])


def _text_of(folder: Path, output: str) -> str:
    if output == "sr":
        return "\n".join(_values(pydicom.dcmread(folder / "sr.dcm")))
    if output == "overlay":
        return "\n".join(BANNER if _has_banner(path) else "no mark" for path in folder.glob("overlay-*.png"))
    return (folder / {"draft": "report.txt", "result": "result.json"}[output]).read_text(encoding="utf-8")


def _values(ds: pydicom.Dataset) -> Iterator[str]:
    for element in ds.iterall():
        if element.VR != "SQ":
            yield f"{element.keyword}: {element.value}"


def _has_banner(path: Path) -> bool:
    """Whether the picture's top band is the banner, pixel by pixel."""
    with Pillow.open(path) as picture:
        band = picture.convert("RGB").crop((0, 0, picture.width, BAND_PX))
    expected = Pillow.new("RGB", band.size, BANNER_RGB)
    font = ImageFont.load_default(FONT_PX)
    ImageDraw.Draw(expected).text((8, BAND_PX // 2), BANNER, fill=TEXT_RGB, font=font, anchor="lm")
    return bool(np.array_equal(np.asarray(band), np.asarray(expected)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--server", default="", help="HOST:PORT; embedded ones without")
    parser.add_argument("--items", type=Path, default=ITEMS)
    given = parser.parse_args()
    observed = run_suite(read_items(given.items), given.out, given.server)
    lines = [json.dumps({"id": name} | asdict(each), ensure_ascii=False) + "\n" for name, each in observed.items()]
    (given.out / "observed.jsonl").write_text("".join(lines), encoding="utf-8")
    print(given.out / "observed.jsonl")


if __name__ == "__main__":
    main()
