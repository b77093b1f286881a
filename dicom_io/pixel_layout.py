"""How the pixels of an instance are stored, checked before a byte of them is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve._checks import invalid
from radserve.dicom_io import attributes
from radserve.dicom_io.plain import Elements
from radserve.errors import DicomError, ErrorCode

GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
OTHER_TERMS = ("", "HSV", "ARGB", "CMYK", "XYB")  # PS3.3 C.7.6.3.1.2, the retired ones and JPEG XL's
PIXEL_DATA = 0x7FE00010
FLOAT_BITS = {0x7FE00008: 32, 0x7FE00009: 64}  # Float and Double Float Pixel Data, PS3.3 C.7.6.24 and C.7.6.25


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

    def check_total(self, total_bytes: int, what: str) -> None:
        """Raise PIXEL_BUDGET_EXCEEDED unless arrays of `total_bytes` are within the limits."""
        if total_bytes > self.max_total_bytes:
            text = f"{what} are {total_bytes} bytes, the limit is {self.max_total_bytes}"
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
    floating: bool = False

    @classmethod
    def of(cls, ds: Elements, pixel_tag: int = PIXEL_DATA) -> PixelLayout:
        """Read and check the layout of the pixel element `pixel_tag`.

        Raises DicomError INVALID_HEADER or UNSUPPORTED_PIXELS.
        """
        photometric = attributes.text(ds, "PhotometricInterpretation").upper()
        samples = attributes.integer(ds, "SamplesPerPixel", default=1, least=1)
        floating = pixel_tag in FLOAT_BITS
        allocated, stored = _float_bits(ds, pixel_tag) if floating else _integer_bits(ds)
        if photometric not in GREY + COLOUR:
            # Free text in the wrong place may name the patient: only the standard's own words are told.
            shown = repr(photometric) if photometric in OTHER_TERMS else "a word that is none of the standard's"
            raise _unsupported("PhotometricInterpretation", shown, ", ".join(GREY + COLOUR))
        if samples != (1 if photometric in GREY else 3):
            raise attributes.invalid_header("SamplesPerPixel", f"is {samples}, which {photometric} does not have")
        if (floating and not photometric.startswith("MONO")) or (allocated == 1 and photometric not in GREY):
            what = "floating point" if floating else "1-bit"
            raise _unsupported("PhotometricInterpretation", f"{photometric} of {what} pixels", "a grey one")
        return cls(
            rows=attributes.integer(ds, "Rows", least=1),
            columns=attributes.integer(ds, "Columns", least=1),
            frames=attributes.integer(ds, "NumberOfFrames", default=1, least=1),
            samples=samples,
            bits_allocated=allocated,
            bits_stored=stored,
            signed=floating or attributes.integer(ds, "PixelRepresentation", default=0, most=1) == 1,
            planar=attributes.integer(ds, "PlanarConfiguration", default=0, most=1) == 1,
            photometric=photometric,
            floating=floating,
        )

    @property
    def is_monochrome(self) -> bool:
        """Whether a pixel is one value that is not an index of a palette."""
        return self.photometric.startswith("MONO")

    @property
    def pixels(self) -> int:
        """Pixels in a frame."""
        return self.rows * self.columns

    @property
    def is_subsampled(self) -> bool:
        """Whether two pixels share their chrominance where the data is not compressed."""
        return self.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422")

    @property
    def frame_bits(self) -> int:
        """Bits of an uncompressed frame; those of 1-bit pixels may end inside a byte (PS3.5 8.1.1)."""
        return self.pixels * (2 if self.is_subsampled else self.samples) * self.bits_allocated

    @property
    def frame_bytes(self) -> int:
        """Bytes of an uncompressed frame, rounded up."""
        return -(-self.frame_bits // 8)

    @property
    def total_bytes(self) -> int:
        """Bytes of all uncompressed frames, without padding."""
        return -(-self.frames * self.frame_bits // 8)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the stored values, in native byte order."""
        kind = "f" if self.floating else "i" if self.signed and self.bits_allocated > 1 else "u"
        return np.dtype(f"{kind}{max(self.bits_allocated // 8, 1)}")

    @property
    def stored_range(self) -> tuple[int, int]:
        """The least and the greatest value of `bits_stored` bits; that of floating point pixels is in the pixels."""
        if self.signed and self.bits_stored > 1:
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


def _integer_bits(ds: Elements) -> tuple[int, int]:
    """Bits Allocated and Bits Stored."""
    allocated = attributes.integer(ds, "BitsAllocated", least=1)
    stored = attributes.integer(ds, "BitsStored", default=allocated, least=1)
    high = attributes.integer(ds, "HighBit", default=stored - 1)
    if allocated not in (1, 8, 16, 32):
        raise _unsupported("BitsAllocated", allocated, "1, 8, 16 or 32")
    if stored > allocated:
        raise attributes.invalid_header("BitsStored", f"is {stored}, BitsAllocated is {allocated}")
    if high != stored - 1:
        raise _unsupported("HighBit", high, f"{stored - 1} (BitsStored is {stored})")
    return allocated, stored


def _float_bits(ds: Elements, pixel_tag: int) -> tuple[int, int]:
    expected = FLOAT_BITS[pixel_tag]
    allocated = attributes.integer(ds, "BitsAllocated", default=expected)
    if allocated != expected:
        raise attributes.invalid_header("BitsAllocated", f"is {allocated}, the floating point pixels have {expected}")
    return expected, expected


def _unsupported(keyword: str, got: object, expected: str) -> DicomError:
    return DicomError(ErrorCode.UNSUPPORTED_PIXELS, f"{keyword} is {got}, supported: {expected}")
