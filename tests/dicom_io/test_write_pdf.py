"""write_pdf: the whole draft on pages that name the patient and say what they are; no date of the run."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from radserve.dicom_io.derived import source_dataset
from radserve.dicom_io.write_pdf import COLUMNS, MISSING_NOTE, render_pdf, report_lines, write_pdf
from radserve.reports import Report, ReportSection
from tests.support.results import PACK, sample_result
from tests.support.written import cr_images, read, result_of


def pdf_of(data: bytes) -> bytes:
    ds = read(data)
    return bytes(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])


def text_of(pdf: bytes, tmp_path: Path) -> str:
    """What an independent reader finds on the pages."""
    command = shutil.which("pdftotext")
    if command is None:
        pytest.skip("pdftotext (poppler-utils) is not installed")
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf)
    return subprocess.run([command, "-layout", str(path), "-"], capture_output=True, check=True).stdout.decode()


def test_the_pages_hold_patient_report_findings_warnings_and_origin(tmp_path: Path) -> None:
    images = cr_images()
    (data,) = write_pdf(result_of(images), ())
    text = text_of(pdf_of(data), tmp_path)
    for part in (
        "RADIOLOGY REPORT - AI DRAFT, NOT VERIFIED",
        "Doe, Jane",
        "P-0001",
        "Opacity in the left lung.",
        "Über.",
        "Pneumonia (Lung): present, probability 87.0%, threshold 50.0%",
        "Malignant lesion (Lung): absent, probability 3.1%",
        "The age is not known.",
        f"sha256:{PACK.digest}",
        "AI draft, not verified - page 1 of 1",
    ):
        assert part in text, part


def test_a_negative_result_says_so_in_its_own_line() -> None:
    images = cr_images()
    result = result_of(images, positive=False)
    assert "No finding above threshold." in list(report_lines(result, source_dataset(images[0].source)))


def test_a_long_report_runs_over_pages_that_are_all_headed(tmp_path: Path) -> None:
    images = cr_images()
    report = Report((ReportSection("findings", "A long sentence of many words. " * 400),))
    (data,) = write_pdf(sample_result(*images, report=report), ())
    text = text_of(pdf_of(data), tmp_path)
    pages = text.rstrip("\f").split("\f")
    assert len(pages) == 4
    assert all("AI DRAFT, NOT VERIFIED" in page and "of 4" in page for page in pages)
    assert len(re.findall(r"sentence", text)) == 400
    assert max(map(len, text.splitlines())) <= COLUMNS


def test_of_a_text_of_very_many_lines_the_middle_is_left_out_and_the_page_says_so(tmp_path: Path) -> None:
    images = cr_images()
    report = Report((ReportSection("indication", "first\n" + "\n" * 100_000 + "last"),))
    (data,) = write_pdf(sample_result(*images, report=report), ())
    text = text_of(pdf_of(data), tmp_path)
    assert len(text.rstrip("\f").split("\f")) == 41
    assert re.search(r"\[98\d{3} LINES ARE LEFT OUT HERE; RESULT.JSON HAS THE WHOLE TEXT\]", text)
    for part in ("first", "last", "FINDINGS OF THE MODEL", f"sha256:{PACK.digest}"):
        assert part in text, part


def test_a_result_without_report_still_lists_its_findings() -> None:
    images = cr_images()
    lines = list(report_lines(replace(result_of(images), report=None), source_dataset(images[0].source)))
    assert "FINDINGS OF THE MODEL" in lines and "FINDINGS" not in lines


def test_characters_without_a_glyph_are_replaced_and_the_page_says_so(tmp_path: Path) -> None:
    text = text_of(render_pdf(["肺炎 $x^2$ Ωμέγα Здоровье"]), tmp_path)
    assert "?? $x^2$ Ωμέγα Здоровье" in text and MISSING_NOTE in text
    assert MISSING_NOTE not in text_of(render_pdf(["plain"]), tmp_path)


def test_the_pdf_has_no_date_and_is_the_same_whatever_the_site_set_matplotlib_to() -> None:
    import matplotlib

    first = render_pdf(["a line"])
    with matplotlib.rc_context({"font.size": 30, "text.color": "red", "pdf.compression": 0}):
        second = render_pdf(["a line"])
        assert matplotlib.rcParams["font.size"] == 30  # and it is left as it was
    assert first == second
    assert b"CreationDate" not in first and first.startswith(b"%PDF-")


def test_the_document_is_unverified_and_names_its_sources() -> None:
    images = cr_images()
    ds = read(write_pdf(result_of(images), ())[0])
    assert (ds.VerificationFlag, ds.MIMETypeOfEncapsulatedDocument) == ("UNVERIFIED", "application/pdf")
    assert ds.SourceInstanceSequence[0].ReferencedSOPInstanceUID == images[0].instance.sop_instance_uid
    assert ds.BurnedInAnnotation == "YES"
    assert len(ds.EncapsulatedDocument) % 2 == 0
