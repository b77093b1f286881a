"""What reading a checkpoint gives, whatever its kind: graphs to export, and what the pack says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from radserve.errors import ErrorCode, PackError
from radserve.models.export.onnx_graphs import GraphPlan
from radserve.models.importing.labels_file import ImportLabel
from radserve.models.pack_types import TokenizerSpec

LONGEST = 200  # characters of what a library said
Chain = tuple[tuple[str, dict[str, Any]], ...]
ScoringOf = Callable[[ImportLabel, int], dict[str, Any]]


@dataclass(frozen=True)
class Imported:
    """A model that was read.

    `plans` are traced by torch; `scripted` names those that are TorchScript; `ready` are ONNX files as they came, by
    graph name. `scoring` gives the [labels.scoring] of a label at a place of the labels file. `thresholds` are the
    model's own operating points by label name. `facts` go to the card, `files` into the pack.
    `answers` is how many outputs or channels there are, None where labels are asked by prompts.
    """

    kind: str
    input_kind: Literal["image", "volume"]
    preprocess: Chain
    scoring: ScoringOf
    plans: tuple[GraphPlan, ...] = ()
    scripted: frozenset[str] = frozenset()
    ready: Mapping[str, bytes] = field(default_factory=dict)
    tokenizer: tuple[str, TokenizerSpec] | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    answers: int | None = None


def refused(cause: str, error: Exception | None = None) -> PackError:
    """Return (not raise) the error of a source that cannot be imported."""
    return PackError(ErrorCode.PACK_INVALID, cause, detail=f"{cause}: {error}" if error else None)


def cause_of(error: Exception) -> str:
    """What a library said, in one line of moderate length."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:LONGEST]}{'...' if len(text) > LONGEST else ''}"


def named_index(label: ImportLabel, place: int, names: Sequence[str]) -> int:
    """The output of a label: its own `index`, else that of its name among the model's, else its place in the file."""
    if label.index is not None:
        return label.index
    if names:
        plain = [_plain(name) for name in names]
        if _plain(label.name) not in plain:
            raise refused(f"label {label.name!r} is not one of the model's own {list(names)}; give its index")
        return plain.index(_plain(label.name))
    return place


def prepared_range(chain: Chain) -> tuple[float, float]:
    """Least and greatest value of pixels after a chain that begins with a window to [0, 1]."""
    low, high = 0.0, 1.0
    for name, arguments in chain:
        if name == "ScaleIntensityRange":
            ends = arguments.get("b_min"), arguments.get("b_max")
            low, high = (0.0, 1.0) if None in ends else (float(arguments["b_min"]), float(arguments["b_max"]))
        elif name == "NormalizeIntensity" and "subtrahend" in arguments:
            mean, spread = float(np.mean(arguments["subtrahend"])), float(np.mean(arguments["divisor"]))
            low, high = (low - mean) / spread, (high - mean) / spread
        elif name == "NormalizeIntensity":
            low, high = -3.0, 3.0  # mean 0, deviation 1
    return low, high


def own_threshold(name: str, thresholds: Mapping[str, float]) -> float | None:
    """The model's own operating point of a label, whose name may be written with spaces or underscores."""
    return next((value for key, value in thresholds.items() if _plain(key) == _plain(name)), None)


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().lower()


def square_chain(
    size: tuple[int, int],
    channels: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    resize: str = "shortest",
    mode: str = "bicubic",
) -> Chain:
    """The chain of a usual image tower: window, square, resize, channels, mean and deviation of each channel.

    `resize` as open_clip says it: the shortest side fits and the rest is cut, `squash` fits both, `longest` is padded.
    """
    chain: list[tuple[str, dict[str, Any]]] = [("VoiWindow", {})]
    kept = mode if mode in ("bilinear", "bicubic") else "bicubic"
    if resize == "longest":
        longest = {"spatial_size": max(size), "size_mode": "longest", "mode": "bilinear", "anti_aliasing": True}
        chain += [("Resize", longest), ("ResizeWithPadOrCrop", {"spatial_size": list(size)})]
    else:
        chain += [("CropToSquare", {})] if resize == "shortest" and size[0] == size[1] else []
        chain.append(("ResizeAntialias", {"spatial_size": list(size), "mode": kept}))
    if channels > 1:
        chain.append(("RepeatChannel", {"repeats": channels}))
    numbers = {"subtrahend": [float(v) for v in mean], "divisor": [float(v) for v in std], "channel_wise": True}
    return (*chain, ("NormalizeIntensity", numbers))
