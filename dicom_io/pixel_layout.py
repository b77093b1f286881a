"""How the pixels of an instance are stored, checked before a byte of them is read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from radserve._checks import invalid
from radserve.dicom_io import attributes
from radserve.errors import DicomError, ErrorCode

GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a decoded instance may measure at most. The defaults fit a worker of 2 GiB with its libraries.

    `max_total_bytes` bounds the array of the resulting Image, all frames.
    """

    max_pixels_per_frame: int = 1 << 26
    max_frames: int = 1 << 14
    max_total_bytes: int = 768 * 2**20

    def __post_init__(self) -> None:
        for name in ("max_pixels_per_frame", "max_frames", "max_total_bytes"):
            if getattr(self, name) < 1:
                raise invalid(f"DecodeLimits.{name}", getattr(self, name), "at least 1")

    def check(self, layout: PixelLayout, item_bytes: int) -> None:
        """Raise PIXEL_BUDGET_EXCEEDED unless an Image of `item_bytes` for each pixel is within the limits."""
        shape = f"{layout.frames} frames of {layout.rows} x {layout.columns}"
        total = layout.frames * layout.pixels * item_bytes
        for what, got, most in (
            ("pixels per frame", layout.pixels, self.max_pixels_per_frame),
            ("frames", layout.frames, self.max_frames),
            ("bytes", total, self.max_total_bytes),
        ):
            if got > most:
                text = f"{shape} are {got} {what}, the limit is {most}"
                raise DicomError(ErrorCode.PIXEL_BUDGET_EXCEEDED, text)


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The Image Pixel module (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    planar: bool
    photometric: str

    @classmethod
    def of(cls, ds: Dataset) -> PixelLayout:
        """Read and check the layout. Raises DicomError INVALID_HEADER or UNSUPPORTED_PIXELS."""
        photometric = attributes.text(ds, "PhotometricInterpretation").upper()
        samples = attributes.integer(ds, "SamplesPerPixel", default=1, least=1)
        allocated = attributes.integer(ds, "BitsAllocated", least=1)
        stored = attributes.integer(ds, "BitsStored", default=allocated, least=1)
        high = attributes.integer(ds, "HighBit", default=stored - 1)
        if photometric not in GREY + COLOUR:
            raise _unsupported("PhotometricInterpretation", repr(photometric[:16]), ", ".join(GREY + COLOUR))
        if samples != (1 if photometric in GREY else 3):
            raise attributes.invalid_header("SamplesPerPixel", f"is {samples}, which {photometric} does not have")
        if allocated not in (8, 16, 32):
            raise _unsupported("BitsAllocated", allocated, "8, 16 or 32")
        if stored > allocated:
            raise attributes.invalid_header("BitsStored", f"is {stored}, BitsAllocated is {allocated}")
        if high != stored - 1:
            raise _unsupported("HighBit", high, f"{stored - 1} (BitsStored is {stored})")
        return cls(
            rows=attributes.integer(ds, "Rows", least=1),
            columns=attributes.integer(ds, "Columns", least=1),
            frames=attributes.integer(ds, "NumberOfFrames", default=1, least=1),
            samples=samples,
            bits_allocated=allocated,
            bits_stored=stored,
            signed=attributes.integer(ds, "PixelRepresentation", default=0, most=1) == 1,
            planar=attributes.integer(ds, "PlanarConfiguration", default=0, most=1) == 1,
            photometric=photometric,
        )

    @property
    def pixels(self) -> int:
        """Pixels in a frame."""
        return self.rows * self.columns

    @property
    def is_subsampled(self) -> bool:
        """Whether two pixels share their chrominance where the data is not compressed."""
        return self.photometric == "YBR_FULL_422"

    @property
    def frame_bytes(self) -> int:
        """Bytes of an uncompressed frame."""
        samples = 2 if self.is_subsampled else self.samples
        return self.pixels * samples * self.bits_allocated // 8

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the stored values, in native byte order."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def stored_range(self) -> tuple[int, int]:
        """The least and the greatest value of `bits_stored` bits."""
        if self.signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1

    def shape_of_frame(self) -> tuple[int, ...]:
        """(rows, columns), or (rows, columns, 3) for colour."""
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)

    def inconsistent(self, what: str, got: object, expected: object) -> DicomError:
        """The error of pixels that are not what the header says."""
        return DicomError(ErrorCode.PIXELS_INCONSISTENT, f"{what}: the pixels say {got}, the header {expected}")


def extend_sign(values: npt.NDArray[np.generic], bits: int) -> npt.NDArray[np.generic]:
    """Read the low `bits` of each value as a two's complement number; signed array of the same size."""
    unused = 8 * values.dtype.itemsize - bits
    signed = values.view(f"i{values.dtype.itemsize}")
    if not unused:
        return signed
    shifted = np.left_shift(signed, unused)
    return np.right_shift(shifted, unused, out=shifted)


def expected_total(layout: PixelLayout) -> int:
    """Bytes of all uncompressed frames."""
    return math.prod((layout.frames, layout.frame_bytes))


def _unsupported(keyword: str, got: object, expected: str) -> DicomError:
    return DicomError(ErrorCode.UNSUPPORTED_PIXELS, f"{keyword} is {got}, supported: {expected}")
