"""Images and volumes made of arrays, for the tests of preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve.geometry import VolumeGeometry
from radserve.image import Image, PixelProperties, Provenance, Volume
from radserve.pipelines.preprocess.chain import TransformSpec, chain_of
from radserve.references import AcquisitionContext, InstanceRef, SourceContext
from radserve.voi import VoiTransform, VoiWindow

SOURCE = SourceContext(InstanceRef("1.2.3", "1.2.3.4", "1.2.3.4.5", "1.2.840.10008.5.1.4.1.1.1"), b"header")
PROVENANCE = Provenance("1.2.840.10008.1.2.1", ("rescale",))
TWELVE_BITS = VoiWindow(2048.0, 4096.0)


def chain(*names: str, **arguments: dict[str, Any]) -> tuple[TransformSpec, ...]:
    """A chain of the transforms named, in order, with the arguments given by transform name."""
    return chain_of((name, arguments.get(name, {})) for name in names)


def properties(
    photometric_interpretation: str = "MONOCHROME2",
    voi: VoiTransform | None = TWELVE_BITS,
    pixel_spacing_mm: tuple[float, float] | None = None,
) -> PixelProperties:
    return PixelProperties(photometric_interpretation, 12, (0.0, 4095.0), voi, pixel_spacing_mm)


def image_of(array: npt.NDArray[Any], **described: Any) -> Image:
    """An image of one frame (rows, columns), or of several (frames, rows, columns)."""
    frames = array if array.ndim == 3 else array[np.newaxis]
    return Image(frames, properties(**described), PROVENANCE, AcquisitionContext("CR"), SOURCE)


def volume_of(array: npt.NDArray[np.float32], spacing_mm: Sequence[float], **described: Any) -> Volume:
    """An axial volume: slices go to the head, rows to the back, columns to the left."""
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = np.diag(spacing_mm)[::-1]  # x by column, y by row, z by slice
    affine_lps[:3, 3] = (-100.0, 50.0, -300.0)
    geometry = VolumeGeometry(affine_lps, (array.shape[0], array.shape[1], array.shape[2]))
    return Volume(array, geometry, properties(**described), PROVENANCE, AcquisitionContext("CT"), (SOURCE,))


def radiograph(rows: int, columns: int) -> npt.NDArray[np.uint16]:
    """Twelve-bit values with the kinds of structure a radiograph has: slow shading, sharp edges, fine noise."""
    row, column = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    shading = 2000 + 900 * np.cos(2 * row) * np.sin(3 * column + 0.4)
    edges = 700.0 * ((row**2 + (column - 0.3) ** 2 < 0.2) | (np.abs(np.sin(9 * row)) < 0.2))
    noise = np.random.default_rng(7).normal(0, 60, (rows, columns))
    return np.clip(shading + edges + noise, 0, 4095).astype(np.uint16)
