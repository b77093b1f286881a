"""An instance as a file in Explicit VR Little Endian, the transfer syntax every reader knows. Run it in a worker."""

from __future__ import annotations

import struct
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from radserve.dicom_io.dicomweb.frames import frame_bytes, is_native_little
from radserve.dicom_io.part10 import DicomFile, PixelElement, open_dicom, quiet
from radserve.dicom_io.pixel_layout import DecodeLimits, PixelLayout
from radserve.dicom_io.stored import stored_frames
from radserve.errors import DicomError, ErrorCode, RadserveError

COPY_BYTES = 1 << 20
FULL_CHROMA = {"YBR_FULL_422": "YBR_FULL"}  # decoded, every pixel has its own chrominance
KEPT_TERMS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL")


def write_explicit_little(source: Path, target: Path) -> None:
    """Write `source` to `target` with uncompressed pixels, colour by pixel; what stands behind the pixels is left out.

    Raises DicomError as decoding does, and DECODE_FAILED where the header cannot be written.
    """
    file = open_dicom(source)
    with quiet(), target.open("xb") as out:
        if file.pixels is None:
            _write_header(file, out)
        elif is_native_little(file.transfer_syntax_uid):
            _write_header(file, out)
            _write_native(file, file.pixels, out)
        else:
            _write_decoded(file, file.pixels, out)


def _write_header(file: DicomFile, out: BinaryIO) -> None:
    ds = file.dataset
    meta = FileMetaDataset(file.meta)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    try:
        dcmwrite(out, ds, implicit_vr=False, little_endian=True, enforce_file_format=True)
    except (MemoryError, RadserveError, OSError):
        raise
    except Exception as error:  # pydicom has no common base; its texts quote values
        text = f"the header cannot be written in Explicit VR Little Endian ({type(error).__name__})"
        raise DicomError(ErrorCode.DECODE_FAILED, text) from None


def _write_native(file: DicomFile, pixels: PixelElement, out: BinaryIO) -> None:
    if pixels.length is None or pixels.offset + pixels.length > len(file.data):
        raise DicomError(ErrorCode.TRUNCATED, "the file ends inside the pixel data")
    _write_head(pixels.tag, pixels.vr, pixels.length, out)
    for at in range(0, pixels.length, COPY_BYTES):
        out.write(file.data[pixels.offset + at : pixels.offset + min(at + COPY_BYTES, pixels.length)])


def _write_decoded(file: DicomFile, pixels: PixelElement, out: BinaryIO) -> None:
    layout = PixelLayout.of(file.elements, pixels.tag)
    DecodeLimits().check(layout, layout.samples * layout.dtype.itemsize)
    size = -(-layout.frames * layout.pixels * layout.samples * layout.bits_allocated // 8)
    if layout.bits_allocated == 1 and layout.pixels % 8 and layout.frames > 1:
        raise DicomError(ErrorCode.UNSUPPORTED_PIXELS, "1-bit frames that end inside a byte are given as stored only")
    vr = pixels.vr if layout.floating else "OB" if layout.bits_allocated <= 8 else "OW"
    frames = stored_frames(file, layout)
    first = next(frames)
    _describe(file, layout, first.photometric)
    _write_header(file, out)
    _write_head(pixels.tag, vr, size + size % 2, out)
    for frame in chain((first,), frames):
        if frame.photometric != first.photometric:
            raise DicomError(ErrorCode.PIXELS_INCONSISTENT, "the frames have different colour spaces")
        out.write(frame_bytes(frame, layout))
    out.write(b"\0" * (size % 2))


def _describe(file: DicomFile, layout: PixelLayout, photometric: str) -> None:
    term = FULL_CHROMA.get(photometric, photometric)
    if term not in KEPT_TERMS:
        raise DicomError(ErrorCode.UNSUPPORTED_PIXELS, f"{photometric} has no uncompressed form; it is given as stored")
    file.dataset.PhotometricInterpretation = term
    if layout.samples > 1:
        file.dataset.PlanarConfiguration = 0


def _write_head(tag: int, vr: str, size: int, out: BinaryIO) -> None:
    out.write(struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, size))
