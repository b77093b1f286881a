"""Whether two Part 10 files hold the same instance: the same data set in the same transfer syntax.

The preamble and the file meta information belong to the file: a PACS writes them anew when it gives a file by WADO-RS,
and we write them for what comes by C-STORE. The data set, the pixels with it, has to be the same byte for byte.
"""

from __future__ import annotations

import filecmp
import os
from dataclasses import replace
from pathlib import Path

from radserve.errors import DicomError

HEAD_BYTES = 64 << 10  # with the file meta information, whatever private information it holds
PIECE_BYTES = 1 << 20


def same_instance(one: Path, other: Path) -> bool:
    """Compare two files. Raises OSError."""
    from radserve.dicom_io.dimse.part10_stream import read_file_meta  # the DIMSE package imports the store

    if filecmp.cmp(one, other, shallow=False):
        return True
    with one.open("rb") as first, other.open("rb") as second:
        try:
            metas = read_file_meta(first.read(HEAD_BYTES)), read_file_meta(second.read(HEAD_BYTES))
        except DicomError:
            return False
        if replace(metas[0], offset=0) != replace(metas[1], offset=0):
            return False
        first.seek(metas[0].offset)
        second.seek(metas[1].offset)
        if os.fstat(first.fileno()).st_size - first.tell() != os.fstat(second.fileno()).st_size - second.tell():
            return False
        while piece := first.read(PIECE_BYTES):
            if piece != second.read(PIECE_BYTES):
                return False
    return True
