"""What an SR says of the request."""

from __future__ import annotations

import io
from typing import Any

import pydicom
from highdicom.sr import ComprehensiveSR


def content(data: bytes) -> list[Any]:
    document = ComprehensiveSR.from_dataset(pydicom.dcmread(io.BytesIO(data)))
    return list(document.content[0].ContentSequence)


def heading(item: Any) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def said(data: bytes) -> dict[str, list[tuple[str, Any]]]:
    """The containers of the request with the names and values of their items, as highdicom reads them."""
    wanted = ("Clinical Information", "Prior Procedure Descriptions")
    return {
        heading(item): [(heading(each), each.value) for each in item.ContentSequence]
        for item in content(data)
        if heading(item) in wanted
    }
