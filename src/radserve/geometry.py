"""Where pixels are: volumes in patient space, and invertible maps between prepared and source arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve._checks import invalid, read_only

FloatArray = npt.NDArray[np.float64]


def _square(name: str, matrix: npt.NDArray[Any], size: int | None = None) -> FloatArray:
    matrix = np.array(matrix, dtype=np.float64)
    expected = f"{size} x {size}" if size else "square, 3 x 3 or 4 x 4"
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or (size or matrix.shape[0]) != matrix.shape[0]:
        raise invalid(f"{name}.shape", matrix.shape, expected)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise invalid(name, "a singular or non-finite matrix", "an invertible matrix")
    if not np.array_equal(matrix[-1], np.eye(matrix.shape[0])[-1]):
        raise invalid(f"{name} last row", matrix[-1].tolist(), "0 ... 0 1")
    return read_only(matrix)


@dataclass(frozen=True, slots=True, eq=False)
class VolumeGeometry:
    """A regular grid of voxels in the patient.

    `affine_lps` (4 x 4, float64) maps the voxel index (slice, row, column, 1) to the DICOM patient coordinates
    (x, y, z, 1) in mm, x to the left, y to the back, z to the head (PS3.3 C.7.6.2.1.1). `shape` is
    (slices, rows, columns).
    """

    affine_lps: FloatArray
    shape: tuple[int, int, int]
    frame_of_reference_uid: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "affine_lps", _square("affine_lps", self.affine_lps, 4))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise invalid("VolumeGeometry.shape", self.shape, "(slices, rows, columns), each at least 1")

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbours along (slice, row, column), in mm."""
        lengths = np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    def to_patient(self, indices: npt.ArrayLike) -> FloatArray:
        """Map voxel indices (..., 3) in the order slice, row, column to (..., 3) LPS mm."""
        points = np.asarray(indices, dtype=np.float64)
        return np.asarray(points @ self.affine_lps[:3, :3].T + self.affine_lps[:3, 3])


@dataclass(frozen=True, slots=True, eq=False)
class SpatialTransform:
    """An invertible affine map from the index space of a prepared array to that of its source image.

    `matrix` is (n+1) x (n+1), float64, for n = 2 (row, column) or 3 (slice, row, column). Indices are of pixel centres:
    (0, 0) is the centre of the first pixel. `source_shape` and `prepared_shape` are the array shapes it joins.
    """

    matrix: FloatArray
    source_shape: tuple[int, ...]
    prepared_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        matrix = _square("SpatialTransform.matrix", self.matrix)
        object.__setattr__(self, "matrix", matrix)
        for name in ("source_shape", "prepared_shape"):
            shape = getattr(self, name)
            if len(shape) != matrix.shape[0] - 1 or min(shape) < 1:
                raise invalid(f"SpatialTransform.{name}", shape, f"{matrix.shape[0] - 1} sizes of at least 1")

    @classmethod
    def identity(cls, shape: tuple[int, ...]) -> SpatialTransform:
        """The map of an array that was not moved."""
        return cls(np.eye(len(shape) + 1), shape, shape)

    @classmethod
    def resize(cls, source_shape: tuple[int, ...], prepared_shape: tuple[int, ...]) -> SpatialTransform:
        """The map of a resize that aligns the outer edges of the first and last pixels (not their centres)."""
        scale = np.array(source_shape, dtype=np.float64) / np.array(prepared_shape, dtype=np.float64)
        matrix = np.eye(len(source_shape) + 1)
        matrix[:-1, :-1] = np.diag(scale)
        matrix[:-1, -1] = scale / 2 - 0.5
        return cls(matrix, source_shape, prepared_shape)

    @classmethod
    def crop(cls, source_shape: tuple[int, ...], start: tuple[int, ...], size: tuple[int, ...]) -> SpatialTransform:
        """The map of a crop (or, with a negative start, a pad) that begins at `start`."""
        matrix = np.eye(len(source_shape) + 1)
        matrix[:-1, -1] = start
        return cls(matrix, source_shape, size)

    def then(self, following: SpatialTransform) -> SpatialTransform:
        """Chain: `self` prepared B from A, `following` prepares C from B; the result maps C to A."""
        if following.source_shape != self.prepared_shape:
            raise invalid("SpatialTransform.then", following.source_shape, f"source shape {self.prepared_shape}")
        return SpatialTransform(self.matrix @ following.matrix, self.source_shape, following.prepared_shape)

    def inverse(self) -> SpatialTransform:
        """The map from the source index space to the prepared one."""
        return SpatialTransform(np.linalg.inv(self.matrix), self.prepared_shape, self.source_shape)

    def apply(self, indices: npt.ArrayLike) -> FloatArray:
        """Map prepared indices (..., n) to source indices (..., n)."""
        points = np.asarray(indices, dtype=np.float64)
        return np.asarray(points @ self.matrix[:-1, :-1].T + self.matrix[:-1, -1])
