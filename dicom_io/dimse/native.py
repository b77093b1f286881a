"""A data set without compression, for a peer that refuses the transfer syntax of a file. Run it in a worker."""

from __future__ import annotations

import io

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.filereader import dcmread
from pydicom.uid import UID

from radserve.dicom_io.codecs import decode_frame
from radserve.dicom_io.dimse.identifiers import encode_identifier
from radserve.dicom_io.part10 import quiet
from radserve.dicom_io.pixel_layout import PixelLayout
from radserve.errors import DicomError, ErrorCode, RadserveError


def native_data_set(part10: bytes, transfer_syntax_uid: str) -> bytes:
    """The data set of a Part 10 file in implicit or explicit VR little endian; the pixel values stay what they are.

    Raises DicomError, DECODE_FAILED where it cannot be read or decompressed.
    """
    try:
        with quiet():
            dataset = dcmread(io.BytesIO(part10))
            syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
            if not syntax.is_little_endian:
                raise DicomError(ErrorCode.DECODE_FAILED, "big endian data sets are not converted")
            if syntax.is_encapsulated:
                _decompress(dataset, syntax)
            return encode_identifier(dataset, transfer_syntax_uid)
    except (RadserveError, MemoryError):
        raise
    except Exception as error:  # pydicom has no common base
        text = f"the instance cannot be converted ({type(error).__name__})"
        raise DicomError(ErrorCode.DECODE_FAILED, text) from None


def _decompress(dataset: Dataset, syntax: UID) -> None:
    layout = PixelLayout.of(dataset)
    frames = generate_frames(dataset.PixelData, number_of_frames=layout.frames)
    decoded = [decode_frame(bytes(frame), syntax, layout) for frame in frames]
    pixels = np.concatenate([frame.values.ravel() for frame in decoded]).tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OW" if layout.bits_allocated > 8 else "OB"
    dataset["PixelData"].is_undefined_length = False
    dataset.PhotometricInterpretation = decoded[0].photometric.replace("YBR_FULL_422", "YBR_FULL")
    if layout.samples > 1:
        dataset.PlanarConfiguration = 0
