"""Headers of files in the DICOM JSON model (PS3.18 annex F), with bulk data by URI.

Headers are read in a worker (radserve.workers): they are hostile.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from radserve.dicom_io.dicomweb.json_model import JsonElement, element
from radserve.dicom_io.dicomweb.plain_json import plain_json
from radserve.dicom_io.part10 import open_dicom, quiet
from radserve.errors import DicomError, ErrorCode, RadserveError

BULK_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
INLINE_BYTES = 1024  # a longer value of these is bulk data
TEXT_BULK_VRS = frozenset(("LT", "ST", "UC", "UR", "UT"))
INLINE_TEXT = 64 << 10
DEEPEST = 32
LOST = {"vr": "UN"}


def read_metadata(paths: Sequence[Path], urls: Sequence[str]) -> list[bytes | RadserveError]:
    """The header of each file as one JSON object, errors as values; bulk data stands as `URL/bulkdata/TAG`.

    Elements that cannot be read have neither a value nor their VR, as ones without a value.
    """
    return [_read(path, url) for path, url in zip(paths, urls, strict=True)]


def _read(path: Path, url: str) -> bytes | RadserveError:
    try:
        file = open_dicom(path)
        with quiet():
            found = dataset_json(file.dataset, f"{url}/bulkdata")
            if file.pixels is not None:
                found[f"{file.pixels.tag:08X}"] = {
                    "vr": file.pixels.vr,
                    "BulkDataURI": f"{url}/bulkdata/{file.pixels.tag:08X}",
                }
            # What a reader of frames needs to know (PS3.18 section 10.4.1.1.2 leaves group 2 out).
            found["00083002"] = element("UI", file.transfer_syntax_uid)
        return json.dumps(found, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    except RadserveError as error:
        return error
    except RecursionError:
        return DicomError(ErrorCode.INVALID_HEADER, "the header's sequences are nested too deeply")


def dataset_json(ds: Dataset, url: str, depth: int = 0) -> dict[str, JsonElement]:
    """The elements of a data set that ends before its pixels; lengths of groups (gggg,0000) are left out."""
    if depth > DEEPEST:
        raise DicomError(ErrorCode.INVALID_HEADER, "the header's sequences are nested too deeply")
    found: dict[str, JsonElement] = {}
    for tag in sorted(ds.keys()):
        number = int(tag)
        if number & 0xFFFF == 0 or number >> 16 < 8:
            continue
        name = f"{number:08X}"
        try:
            found[name] = _plain(ds.get_item(tag)) or _element_json(ds[tag], f"{url}/{name}", depth)
        except (MemoryError, RecursionError, DicomError):
            raise
        except Exception:  # pydicom has no common base; one element must not cost the others
            found[name] = dict(LOST)
    if not depth:  # JSON is UTF-8 (PS3.18 section F.2)
        found["00080005"] = element("CS", "ISO_IR 192")
    return found


def _plain(given: object) -> JsonElement | None:
    return plain_json(given) if isinstance(given, RawDataElement) else None


def _element_json(given: DataElement, url: str, depth: int) -> JsonElement:
    vr = str(given.VR)
    if vr == "SQ":
        items = [dataset_json(item, f"{url}/{place}", depth + 1) for place, item in enumerate(given.value, start=1)]
        return {"vr": vr, "Value": items} if items else {"vr": vr}
    if given.is_empty:
        return {"vr": vr}
    if _is_bulk(given, vr):
        return {"vr": vr, "BulkDataURI": url}
    return _checked(given.to_json_dict(None, 0))


def _is_bulk(given: DataElement, vr: str) -> bool:
    if vr in BULK_VRS:
        return isinstance(given.value, bytes) and len(given.value) > INLINE_BYTES
    return vr in TEXT_BULK_VRS and len(str(given.value)) > INLINE_TEXT


def _checked(found: Mapping[str, Any]) -> JsonElement:
    """JSON has no NaN and no infinity: PS3.18 section F.2.2 leaves such numbers without a value."""
    values = found.get("Value")
    if values and any(isinstance(value, float) and not math.isfinite(value) for value in values):
        finite = [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]
        return {**found, "Value": finite}
    return dict(found)
