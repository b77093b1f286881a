"""The draft report as an Encapsulated PDF: patient and study, the report, findings, warnings, and what made it.

Every page is headed as an AI draft. The pages are text in one fixed-width font that the PDF embeds (matplotlib's own:
Latin, Greek and Cyrillic): other characters are shown as "?", with a line that says so; of a text above 40 pages the
middle is left out, with a line that says so as well. result.json has the whole text.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import EncapsulatedPDFStorage

from radserve.dicom_io.part10 import quiet
from radserve.dicom_io.write_base import (
    DRAFT,
    NEGATIVE,
    OutputKind,
    content_date,
    identify,
    join_study,
    new_object,
    positives,
    sources_of,
    to_bytes,
)
from radserve.dicom_io.write_sr import texts_of
from radserve.findings import Finding
from radserve.image import Image
from radserve.references import InstanceRef
from radserve.results import StudyResult

DOCUMENT_TITLE = Code("18748-4", "LN", "Diagnostic imaging study")
HEADING = "RADIOLOGY REPORT - AI DRAFT, NOT VERIFIED"
FONT = "DejaVu Sans Mono"
STYLE: dict[Any, Any] = {"pdf.fonttype": 42, "font.family": FONT, "text.parse_math": False}  # TrueType: text stays text
PAGE_INCHES = (8.27, 11.69)  # A4
POINTS_PER_INCH = 72
MARGIN_PT, FONT_PT, LINE_PT = 54, 9, 13
COLUMNS = 88  # characters of a line: 0.602 em each
LINES = 50  # of a page, without heading and foot
FIRST_LINES, LAST_LINES = 1500, 500  # of a report above 40 pages: laying out a line takes milliseconds
MISSING = "?"
MISSING_NOTE = f'Characters that this page cannot show are replaced by "{MISSING}".'


def write_pdf(result: StudyResult, images: Sequence[Image]) -> tuple[bytes, ...]:
    """Return one Encapsulated PDF object as Part 10 bytes; `images` are not looked at.

    Raises RadserveError INVALID_ARGUMENT for a source that is missing, DicomError INVALID_HEADER.
    """
    del images
    with quiet():
        source = next(iter(sources_of(result).values()))
        pdf = render_pdf(list(report_lines(result, source)))
        identity = identify(result, OutputKind.PDF)
        ds = new_object(EncapsulatedPDFStorage, "DOC", identity)
        ds.ConversionType, ds.BurnedInAnnotation = "WSD", "YES"
        ds.AcquisitionDateTime = ""
        ds.ContentDate, ds.ContentTime = content_date(source)
        ds.DocumentTitle, ds.VerificationFlag = f"Report: {DRAFT}", "UNVERIFIED"
        title = Dataset()
        title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = DOCUMENT_TITLE[:3]
        ds.ConceptNameCodeSequence = [title]
        ds.SourceInstanceSequence = [_reference(source.instance) for source in result.sources]
        ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
        ds.EncapsulatedDocumentLength = len(pdf)
        ds.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
        join_study(ds, source, result.pack, identity.series_description, texts_of(result))
        return (to_bytes(ds),)


def _reference(instance: InstanceRef) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.sop_class_uid, instance.sop_instance_uid
    return item


def report_lines(result: StudyResult, source: Dataset) -> Iterator[str]:
    """The report's lines, unwrapped; an empty string is a blank line."""
    yield f"Patient:    {_name(source)}"
    yield f"ID:         {source.PatientID or '-'}  born {source.PatientBirthDate or '-'}  {source.PatientSex or '-'}"
    yield f"Study:      {source.StudyDate or '-'} {source.StudyTime or ''}  accession {source.AccessionNumber or '-'}"
    yield f"Study UID:  {result.study_instance_uid}"
    yield ""
    if result.report:
        yield from result.report.text.rstrip("\n").split("\n")
        yield ""
    yield "FINDINGS OF THE MODEL"
    if not positives(result):
        yield f"{NEGATIVE}."
    yield from (_line(finding) for finding in result.findings)
    if result.warnings:
        yield from ("", "WARNINGS")
        yield from (f"- {warning.message}" for warning in result.warnings)
    yield ""
    yield f"Made by {result.pack.name} {result.pack.version}, model version {result.pack.model_version}"
    yield f"Pipeline digest sha256:{result.pack.digest}"
    if origin := result.provenance:
        yield f"Licence of the model: {origin.licence}; begun from: {origin.initialised_from}"
        yield from (f"Data it learned from, {key}: {value}" for key, value in origin.data)
        yield from (f"With {each} ({each.group})" for each in origin.plugins)


def _name(source: Dataset) -> str:
    """Family and given name of the alphabetic group (PS3.5 6.2.1)."""
    parts = str(source.PatientName).split("=")[0].split("^")
    return ", ".join(part for part in parts[:2] if part) or "-"


def _line(finding: Finding) -> str:
    numbers = f"probability {finding.probability:.1%}, threshold {finding.threshold:.1%}"
    return f"- {finding.label} ({finding.site.meaning}): {finding.verdict}, {numbers}"


def render_pdf(lines: Sequence[str]) -> bytes:
    """Return A4 pages of the lines, wrapped, as PDF bytes; same lines, same bytes."""
    import matplotlib
    from matplotlib.backends.backend_pdf import PdfPages

    shown, missing = _showable(lines)
    wrapped = _shortened([part for line in shown for part in _wrap(line)]) + (["", MISSING_NOTE] if missing else [])
    pages = [wrapped[at : at + LINES] for at in range(0, len(wrapped), LINES)]
    out = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever a site's matplotlibrc says
        matplotlib.rcParams.update(STYLE)
        with PdfPages(out, metadata={"Title": DRAFT, "Creator": "radserve", "CreationDate": None}) as pdf:
            for number, page in enumerate(pages, start=1):
                pdf.savefig(_figure(page, f"{DRAFT} - page {number} of {len(pages)}"))
    return out.getvalue()


def _figure(page: Sequence[str], foot: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=PAGE_INCHES)
    width, height = (inches * POINTS_PER_INCH for inches in PAGE_INCHES)
    left, top = MARGIN_PT / width, 1 - MARGIN_PT / height
    figure.text(left, top, HEADING, fontsize=FONT_PT + 3, fontweight="bold", color="#963c00", va="bottom")
    for index, line in ((index, line) for index, line in enumerate(page, start=2) if line):
        weight = "bold" if line.isupper() else "normal"
        figure.text(left, top - index * LINE_PT / height, line, fontsize=FONT_PT, fontweight=weight, va="bottom")
    figure.text(left, MARGIN_PT / 2 / height, foot, fontsize=FONT_PT - 1, color="#963c00", va="bottom")
    return figure


def _shortened(lines: Sequence[str]) -> list[str]:
    """The lines, of very many the first and the last: the request comes first, what the model found at the end."""
    left_out = len(lines) - FIRST_LINES - LAST_LINES
    if left_out <= 0:
        return list(lines)
    note = f"[{left_out} LINES ARE LEFT OUT HERE; RESULT.JSON HAS THE WHOLE TEXT]"
    return [*lines[:FIRST_LINES], "", note, "", *lines[-LAST_LINES:]]


def _wrap(line: str) -> list[str]:
    indent = "  " if line.startswith("- ") else ""
    return textwrap.wrap(line, COLUMNS, subsequent_indent=indent, drop_whitespace=True) or [""]


def _showable(lines: Sequence[str]) -> tuple[list[str], bool]:
    """The lines with what the font lacks replaced, and whether anything was."""
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont(FONT)).get_charmap()
    shown = ["".join(char if ord(char) in known else MISSING for char in line.expandtabs(4)) for line in lines]
    return shown, any(one != line.expandtabs(4) for one, line in zip(shown, lines, strict=True))
