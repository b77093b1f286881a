"""radserve's own MONAI transforms, and the running of a chain. Importing this module imports MONAI and torch.

Arrays are MetaTensors, channel first: (1, rows, columns) for a frame, (1, slices, rows, columns) for a volume. Every
spatial transform, MONAI's or ours, multiplies the `affine` of its MetaTensor by the map from its new indices to the old
ones. What the affine is at the end, seen from what it was at the start, is therefore the map from prepared to source
indices, whatever the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from types import MappingProxyType
from typing import Any, cast

import monai.transforms
import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.croppad.array import CenterSpatialCrop
from monai.transforms.transform import Transform

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.geometry import FloatArray, SpatialTransform
from radserve.image import PixelProperties
from radserve.pipelines.preprocess.chain import TransformSpec, starts_with_window
from radserve.pipelines.preprocess.plugin_step import plugin_step
from radserve.presentation import present_values

Step = Callable[[MetaTensor], MetaTensor]
RAS_AXES = ("LR", "PA", "IS")  # the ends of the patient axes x, y, z as MONAI reads them


class VoiWindow(Transform):
    """Modality values to presentation values, float32 in [0, 1], as `presentation.present_values` does it."""

    def __init__(self, properties: PixelProperties) -> None:
        self.properties = properties

    def __call__(self, image: MetaTensor) -> MetaTensor:
        presented = present_values(image.as_tensor().numpy()[0], self.properties)
        return MetaTensor(torch.from_numpy(presented[np.newaxis]), meta=image.meta)


class CropToSquare(Transform):
    """The middle square of the rows and columns, as wide as the shorter of the two."""

    def __call__(self, image: MetaTensor) -> MetaTensor:
        edge = min(image.shape[-2:])
        untouched = [-1] * (image.ndim - 3)  # MONAI keeps the size of an axis that is asked to be -1
        return cast(MetaTensor, CenterSpatialCrop([*untouched, edge, edge])(image))


class ResizeAntialias(Transform):
    """Resize rows and columns with a triangle (or cubic) filter as wide as a prepared pixel is in source pixels.

    MONAI's Resize(mode="bilinear", anti_aliasing=True) blurs the whole source with a Gaussian, then samples it: some 50
    times the work for a radiograph. It also pads with zeros, which darkens the border; here the filter is cut off and
    weighted anew. Outer edges are aligned, not centres; a size that is there already changes nothing. The slices of a
    volume are resized each by itself.
    """

    def __init__(self, spatial_size: Sequence[int] | int, mode: str = "bilinear") -> None:
        self.mode = mode
        sizes = (spatial_size, spatial_size) if isinstance(spatial_size, int) else tuple(spatial_size)
        if len(sizes) != 2:
            raise ValueError(f"spatial_size: got {len(sizes)} sizes, expected (rows, columns)")
        self.sizes = sizes

    def __call__(self, image: MetaTensor) -> MetaTensor:
        if tuple(image.shape[-2:]) == self.sizes:
            return image
        planes = image.as_tensor().reshape(1, -1, *image.shape[-2:])
        resized = torch.nn.functional.interpolate(
            planes, size=self.sizes, mode=self.mode, align_corners=False, antialias=True
        ).reshape(*image.shape[:-2], *self.sizes)
        moved = SpatialTransform.resize(tuple(image.shape[1:]), tuple(resized.shape[1:]))
        result = MetaTensor(resized, meta=image.meta)
        result.affine = image.affine @ torch.tensor(moved.matrix)
        return result


class MapIntensity(Transform):
    """A rising piecewise linear map of the values: `source[i]` becomes `target[i]`; the outer lines go on beyond."""

    def __init__(self, source: Sequence[float], target: Sequence[float]) -> None:
        if len(source) != len(target):
            raise ValueError(f"got {len(source)} source and {len(target)} target values")
        self.source, self.target = np.array(source, dtype=np.float64), np.array(target, dtype=np.float64)

    def __call__(self, image: MetaTensor) -> MetaTensor:
        values = image.as_tensor().numpy().astype(np.float64)
        line = np.clip(np.searchsorted(self.source, values, side="right") - 1, 0, len(self.source) - 2)
        slopes = np.diff(self.target) / np.diff(self.source)
        mapped = self.target[line] + slopes[line] * (values - self.source[line])
        return MetaTensor(torch.from_numpy(mapped.astype(np.float32)), meta=image.meta)


class Orientation(Transform):
    """Permute and flip the axes of a volume until they run, as nearly as they do, along the patient axes named.

    `axcodes` are three letters, the ends that the axes grow towards: "RAS" is right, front, head. MONAI's own
    Orientation needs nibabel, which radserve does without.
    """

    def __init__(self, axcodes: str) -> None:
        self.axes = [next((axis for axis, ends in enumerate(RAS_AXES) if code in ends), -1) for code in axcodes]
        self.signs = [1.0 if code in "RAS" else -1.0 for code in axcodes]
        if sorted(self.axes) != [0, 1, 2]:
            raise ValueError(f"axcodes: got {axcodes!r}, expected one letter of each of {RAS_AXES}")

    def __call__(self, image: MetaTensor) -> MetaTensor:
        directions = image.affine.numpy()[:3, :3]
        directions = directions / np.linalg.norm(directions, axis=0)
        along = max(permutations(range(3)), key=lambda axes: sum(abs(directions[row, axes[row]]) for row in range(3)))
        order = [along[axis] for axis in self.axes]
        flips = [
            bool(directions[axis, along[axis]] * sign < 0) for axis, sign in zip(self.axes, self.signs, strict=True)
        ]
        shape = [image.shape[1 + axis] for axis in order]
        moved = np.zeros((4, 4))
        moved[3, 3] = 1
        for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
            moved[old, [new, 3]] = (-1, shape[new] - 1) if flip else (1, 0)
        turned = image.as_tensor().permute(0, *(1 + axis for axis in order))
        result = MetaTensor(turned.flip([1 + new for new in range(3) if flips[new]]), meta=image.meta)
        result.affine = image.affine @ torch.tensor(moved)
        return result


OWN: Mapping[str, Callable[..., Step]] = MappingProxyType(
    {
        "CropToSquare": CropToSquare,
        "MapIntensity": MapIntensity,
        "Orientation": Orientation,
        "ResizeAntialias": ResizeAntialias,
    }
)


def run_chain(
    chain: Sequence[TransformSpec], values: npt.NDArray[Any], properties: PixelProperties, affine: FloatArray
) -> tuple[npt.NDArray[np.float32], FloatArray]:
    """Run a chain on modality values (rows, columns) or (slices, rows, columns).

    `affine` maps the indices of `values` to where MONAI is to believe them: RAS mm where the chain needs lengths, else
    any. Returns the tensor (1, ...) float32, contiguous and finite, and the affine of its indices. Raises
    RadserveError: PACK_INVALID for arguments that MONAI refuses, UNSUPPORTED_PIXELS for pixels that a transform cannot
    take; and MemoryError.
    """
    dtype = values.dtype.newbyteorder("=") if starts_with_window(chain) else np.dtype(np.float32)
    start = torch.from_numpy(np.array(values[np.newaxis], dtype=dtype))  # a copy: a transform may work in place
    image = MetaTensor(start, affine=torch.tensor(affine))
    for spec in chain:
        image = _apply(spec, _build(spec, properties), image)
    tensor = np.ascontiguousarray(image.as_tensor().numpy(), dtype=np.float32)
    if not np.isfinite(tensor).all():
        raise RadserveError(ErrorCode.UNSUPPORTED_PIXELS, "preprocessing gave values that are not finite numbers")
    return tensor, image.affine.numpy().astype(np.float64)


def _build(spec: TransformSpec, properties: PixelProperties) -> Step:
    if spec.name == "VoiWindow":
        return VoiWindow(properties)
    if spec.plugin:
        return plugin_step(spec, spec.plugin)
    try:
        build = OWN.get(spec.name) or getattr(monai.transforms, spec.name)
        return cast(Step, build(**dict(spec.arguments)))
    except Exception as error:
        message = f"transform {spec} has arguments that do not go together"
        raise PackError(ErrorCode.PACK_INVALID, message, detail=_detail(message, error)) from error


def _apply(spec: TransformSpec, transform: Step, image: MetaTensor) -> MetaTensor:
    try:
        return transform(image)
    except (RadserveError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and "allocate memory" in str(error):  # torch has no class of its own for it
            raise MemoryError from error
        message = f"transform {spec} cannot be applied to pixels of shape {tuple(image.shape[1:])}"
        raise RadserveError(ErrorCode.UNSUPPORTED_PIXELS, message, detail=_detail(message, error)) from error


def _detail(message: str, error: Exception) -> str:
    return f"{message} ({type(error).__name__})"  # not its text, which may show pixel values
