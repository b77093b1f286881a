"""The closed table of transforms that a pack may name: what each does to an array, and which arguments it takes.

Only transforms that are deterministic and either leave every pixel in its place (intensity) or move the whole grid by
an affine map that MONAI records (spatial) are here: a place found in a prepared array always has a way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import TypeGuard

Scalar = bool | int | float | str | None
Value = Scalar | tuple["Value", ...]


class TransformKind(StrEnum):
    """What a transform does to an array."""

    WINDOW = "window"  # modality values to presentation values in [0, 1]; always the first of a chain
    INTENSITY = "intensity"  # new values, every pixel in its place
    SPATIAL = "spatial"  # a new grid, joined to the old one by an affine map


@dataclass(frozen=True, slots=True)
class ArgumentRule:
    """Which values an argument may have; `expected` says it in words."""

    expected: str
    accepts: Callable[[Value], bool]
    required: bool = False


@dataclass(frozen=True, slots=True)
class TransformRule:
    """Kind and arguments of one transform. `physical` ones need millimetres, and so the spacing of the source."""

    kind: TransformKind
    arguments: Mapping[str, ArgumentRule] = field(default_factory=dict)
    physical: bool = False


def _is_integer(value: Value) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Value) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _is_size(value: Value) -> bool:
    return _is_integer(value) and value >= 1


def _is_rising(value: Value) -> bool:
    if not (isinstance(value, tuple) and len(value) >= 2 and all(map(_is_number, value))):
        return False
    numbers = [float(str(each)) for each in value]
    return all(one < other for one, other in pairwise(numbers))


def _one_or_more(accepts: Callable[[Value], bool]) -> Callable[[Value], bool]:
    def check(value: Value) -> bool:
        return all(map(accepts, value)) and bool(value) if isinstance(value, tuple) else accepts(value)

    return check


def _required(rule: ArgumentRule) -> ArgumentRule:
    return ArgumentRule(rule.expected, rule.accepts, required=True)


def _choice(*options: str) -> ArgumentRule:
    return ArgumentRule(f"one of {list(options)}", lambda value: value in options)


_NUMBER = ArgumentRule("a finite number", _is_number)
_NUMBERS = ArgumentRule("a finite number or a list of them", _one_or_more(_is_number))
_LENGTHS = ArgumentRule("lengths above 0", _one_or_more(lambda value: _is_number(value) and float(str(value)) > 0))
_INTEGER = ArgumentRule("an integer", _is_integer)
_INTEGERS = ArgumentRule("an integer or a list of them", _one_or_more(_is_integer))
_SIZES = ArgumentRule("sizes of at least 1", _one_or_more(_is_size))
_RISING = ArgumentRule("two rising numbers or more", _is_rising)
_FLAG = ArgumentRule("true or false", lambda value: isinstance(value, bool))
_PERCENT = ArgumentRule("a number from 0 to 100", lambda value: _is_number(value) and 0 <= float(str(value)) <= 100)
_AXES = ArgumentRule("letters of axes such as 'RAS'", lambda value: isinstance(value, str) and value.isalpha())
_PAD_MODE = _choice("constant", "edge", "reflect", "replicate")
# 'nearest' is left out: it takes a pixel up and left of the place that MONAI's affine tells; 'nearest-exact' does not.
_INTERPOLATION = _choice("area", "bilinear", "bicubic", "trilinear", "nearest-exact")

_INTENSITY: Mapping[str, Mapping[str, ArgumentRule]] = {
    "MapIntensity": {"source": _required(_RISING), "target": _required(_RISING)},
    "ScaleIntensityRange": {
        "a_min": _required(_NUMBER),
        "a_max": _required(_NUMBER),
        "b_min": _NUMBER,
        "b_max": _NUMBER,
        "clip": _FLAG,
    },
    "ScaleIntensity": {"minv": _NUMBER, "maxv": _NUMBER, "factor": _NUMBER, "channel_wise": _FLAG},
    "ScaleIntensityRangePercentiles": {
        "lower": _required(_PERCENT),
        "upper": _required(_PERCENT),
        "b_min": _required(_NUMBER),
        "b_max": _required(_NUMBER),
        "clip": _FLAG,
        "relative": _FLAG,
    },
    "NormalizeIntensity": {"subtrahend": _NUMBERS, "divisor": _NUMBERS, "nonzero": _FLAG, "channel_wise": _FLAG},
    "ThresholdIntensity": {"threshold": _required(_NUMBER), "above": _FLAG, "cval": _NUMBER},
    "ShiftIntensity": {"offset": _required(_NUMBER)},
    "AdjustContrast": {"gamma": _required(_NUMBER), "invert_image": _FLAG},
    "GaussianSmooth": {"sigma": _NUMBERS},
    "RepeatChannel": {"repeats": _required(_SIZES)},
}
_SPATIAL: Mapping[str, Mapping[str, ArgumentRule]] = {
    "CropToSquare": {},
    "ResizeAntialias": {"spatial_size": _required(_SIZES), "mode": _choice("bilinear", "bicubic")},
    "Resize": {
        "spatial_size": _required(_SIZES),
        "size_mode": _choice("all", "longest"),
        "mode": _INTERPOLATION,
        "align_corners": _FLAG,
        "anti_aliasing": _FLAG,
        "anti_aliasing_sigma": _NUMBERS,
    },
    "CenterSpatialCrop": {"roi_size": _required(_INTEGERS)},
    "SpatialPad": {
        "spatial_size": _required(_SIZES),
        "method": _choice("symmetric", "end"),
        "mode": _PAD_MODE,
        "value": _NUMBER,
    },
    "ResizeWithPadOrCrop": {"spatial_size": _required(_SIZES), "mode": _PAD_MODE, "value": _NUMBER},
    "Flip": {"spatial_axis": _INTEGERS},
    "Rotate90": {"k": _INTEGER, "spatial_axes": _INTEGERS},
}
_PHYSICAL: Mapping[str, Mapping[str, ArgumentRule]] = {
    "Spacing": {
        "pixdim": _required(_LENGTHS),
        "mode": _choice("bilinear", "nearest"),
        "padding_mode": _choice("border", "zeros", "reflection"),
    },
    "Orientation": {"axcodes": _required(_AXES)},
}

ALLOWED: Mapping[str, TransformRule] = MappingProxyType(
    {"VoiWindow": TransformRule(TransformKind.WINDOW)}
    | {name: TransformRule(TransformKind.INTENSITY, arguments) for name, arguments in _INTENSITY.items()}
    | {name: TransformRule(TransformKind.SPATIAL, arguments) for name, arguments in _SPATIAL.items()}
    | {name: TransformRule(TransformKind.SPATIAL, arguments, physical=True) for name, arguments in _PHYSICAL.items()}
)

PLUGIN_RULE = TransformRule(TransformKind.INTENSITY)
"""Of the transforms of other packages: never the window, and never told millimetres."""

UNUSED_BY_MONAI = (
    "matplotlib",
    "nibabel",
    "pandas",
    "scipy.signal",
    "skimage",
    "sklearn",
    "torchvision",
    "transformers",
)
"""Packages that MONAI imports where they are installed and that no transform of the table needs."""
