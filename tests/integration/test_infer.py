"""`radserve infer` as its user runs it: a process of its own, real files, a folder of results."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import jsonschema
import numpy as np
import pydicom
import pytest
from PIL import Image as PillowImage
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tests.support.dicoms import cr, part10
from tests.support.documents import SCHEMA
from tests.support.packs import make_tiny_pack
from tests.support.server import LiveServer

RADSERVE = Path(sys.executable).parent / "radserve"
SECONDS = 900  # a server starts in each: seconds on a machine with nothing else to do, minutes on a full one
pytestmark = pytest.mark.timeout(2 * SECONDS)


@dataclass(frozen=True)
class Run:
    """A finished run: its exit code, what it printed, and the folder it wrote."""

    code: int
    printed: str
    out: Path

    @property
    def failures(self) -> dict[str, str]:
        """The code of each refused input, by the last part of its name."""
        path = self.out / "failures.json"
        entries = json.loads(path.read_text()) if path.exists() else []
        assert all(entry["message"] for entry in entries)
        return {Path(entry["file"]).name: entry["code"] for entry in entries}

    @property
    def results(self) -> list[dict[str, Any]]:
        found = [json.loads(path.read_text()) for path in sorted(self.out.glob("*/result.json"))]
        for result in found:
            jsonschema.validate(result, SCHEMA)
        return found


def infer(out: Path, *arguments: str | Path, server: LiveServer | None = None) -> Run:
    command = [str(RADSERVE), "infer", *map(str, arguments), "--out", str(out)]
    if server:
        command += ["--server", server.address]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert "Traceback" not in run.stderr + run.stdout, run.stderr
    return Run(run.returncode, run.stdout + run.stderr, out)


def real(name: str) -> Path:
    path = get_testdata_file(name)
    assert path is not None, f"{name} is missing: install pydicom-data"
    return Path(path)


def radiograph(**tags: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 4096, (80, 60)).astype(np.uint16)
    return part10(cr(pixels, BitsStored=12, HighBit=11, BodyPartExamined="CHEST", **tags))


@pytest.fixture(scope="module")
def rg1(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The real radiograph; `make demo` and the README's command send it through an embedded server of its own."""
    return infer(tmp_path_factory.mktemp("rg1"), real("RG1_UNCR.dcm"), "--indication", "Cough", server=server)


def test_a_real_radiograph_gives_every_result_file(rg1: Run) -> None:
    assert rg1.code == 0, rg1.printed
    (folder,) = [path for path in rg1.out.iterdir() if path.is_dir()]
    names = {path.name for path in folder.iterdir()}
    assert {"result.json", "report.txt", "sr.dcm"} <= names
    assert any(name.startswith("overlay-") and name.endswith(".png") for name in names)
    for name in names:
        assert name in rg1.printed.replace("\n", "")
    (result,) = rg1.results
    assert folder.name == result["study_instance_uid"]
    assert [finding["label"] for finding in result["findings"]] == ["Pneumonia"]
    assert result["report"]["status"] == "draft"
    assert "Cough" in result["report"]["text"]
    written = (folder / "report.txt").read_text()
    assert written.startswith("AI DRAFT, NOT VERIFIED\n\n" + result["report"]["text"])
    assert result["warnings"] and all(f"- {each['message']}\n" in written for each in result["warnings"])
    named = [each for sentence in result["report"]["sentences"] for each in sentence["evidence"]]
    resolvable = {
        "finding": {each["tracking_uid"] for each in result["findings"]},
        "series": {each["series_instance_uid"] for each in result["series"]},
        "request": {"context"},
        "check": {"warnings"},
        "pack": {result["pack"]["digest"]},
    }
    assert all(each["reference"] in resolvable[each["kind"]] for each in named)
    assert resolvable["finding"] <= {each["reference"] for each in named}
    assert all(each["evidence"] for each in result["report"]["sentences"])
    assert any("1 to 5 years" in warning["message"] for warning in result["warnings"])  # an adult
    assert result["timings_ms"]["total"] > 0


def test_the_region_lies_in_the_source_and_the_overlay_can_be_opened(rg1: Run) -> None:
    (result,) = rg1.results
    outline = np.array(result["findings"][0]["region"]["outline"])
    assert outline.min() >= 0
    assert outline[:, 0].max() <= 1841
    assert outline[:, 1].max() <= 1955
    (overlay,) = rg1.out.glob("*/overlay-*.png")
    with PillowImage.open(overlay) as picture:
        assert max(picture.size) <= 1024


def test_the_sr_is_accepted_by_dciodvfy_and_says_what_the_json_says(rg1: Run) -> None:
    (path,) = rg1.out.glob("*/sr.dcm")
    checked = subprocess.run(
        [str(RADSERVE.parent / "dciodvfy"), str(path)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "Error" not in checked.stderr
    report = highdicom.sr.srread(path)
    (result,) = rg1.results
    (group,) = report.content.get_planar_roi_measurement_groups()
    assert group.tracking_uid == result["findings"][0]["tracking_uid"]
    assert report.StudyInstanceUID == result["study_instance_uid"]
    assert report.VerificationFlag == "UNVERIFIED"


@pytest.mark.parametrize(("one", "two"), [("RG1_UNCR.dcm", "RG1_J2KR.dcm"), ("RG1_UNCI.dcm", "RG1_J2KI.dcm")])
def test_the_same_pixels_in_another_encoding_give_the_same_result(
    server: LiveServer, one: str, two: str, tmp_path: Path
) -> None:
    """Each as an instance of a study of its own: all four files are of one."""
    results = []
    for name in (one, two):
        image = pydicom.dcmread(real(name))
        image.StudyInstanceUID = generate_uid(entropy_srcs=["study", name])
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name])
        image.save_as(tmp_path / name)
        run = infer(tmp_path / f"{name} out", tmp_path / name, server=server)
        assert run.code == 0, run.printed
        (result,) = run.results
        labels = {finding["tracking_uid"]: finding["label"] for finding in result["findings"]}
        for each in (each for sentence in result["report"]["sentences"] for each in sentence["evidence"]):
            each["reference"] = labels.get(each["reference"], each["reference"])
        for finding in result["findings"]:  # the two files are different instances
            del finding["tracking_uid"], finding["region"]["sop_instance_uid"]
        results.append({key: result[key] for key in ("findings", "report", "pack", "warnings", "series")})
    assert results[0] == results[1]


def bad_inputs(folder: Path) -> dict[str, str]:
    """A folder of what goes wrong, with the code each file must get; two good studies are among them."""
    folder.mkdir()
    good = radiograph(study="good one")
    expected = {
        "letter.txt": ("Dear colleague, this is a text file. " * 10).encode(),
        "empty.dcm": b"",
        "noise.dcm": np.random.default_rng(1).bytes(5000),
        "truncated.dcm": radiograph(study="cut", instance="cut")[:-5000],
        "structured_report.dcm": real("reportsi.dcm").read_bytes(),
        "no_pixels.dcm": radiograph(study="none", instance="none"),
        "bomb.dcm": b"",
    }
    without = pydicom.dcmread(pydicom.filebase.DicomBytesIO(expected["no_pixels.dcm"]))
    del without.PixelData
    without.save_as(folder / "no_pixels.dcm")
    bomb = pydicom.dcmread(pydicom.filebase.DicomBytesIO(radiograph(study="bomb", instance="bomb")))
    bomb.Rows = bomb.Columns = 65535
    bomb.PixelData = pydicom.encaps.encapsulate([b"\x01\x00\x00\x00\x40" + b"\x00" * 45])
    bomb["PixelData"].is_undefined_length = True
    bomb.file_meta.TransferSyntaxUID = pydicom.uid.RLELossless
    bomb.save_as(folder / "bomb.dcm")
    for name, data in expected.items():
        if not (folder / name).exists():
            (folder / name).write_bytes(data)
    (folder / "good one.dcm").write_bytes(good)
    (folder / "good two.dcm").write_bytes(radiograph(study="good two", instance="2"))
    return {
        "letter.txt": "NOT_DICOM",
        "empty.dcm": "NOT_DICOM",
        "noise.dcm": "NOT_DICOM",
        "truncated.dcm": "TRUNCATED",
        "structured_report.dcm": "UNSUPPORTED_SOP_CLASS",
        "no_pixels.dcm": "NO_PIXELS",
        "bomb.dcm": "PIXEL_BUDGET_EXCEEDED",
    }


def test_each_bad_file_is_refused_with_its_code_and_the_rest_goes_on(server: LiveServer, tmp_path: Path) -> None:
    expected = bad_inputs(tmp_path / "in")
    run = infer(tmp_path / "out", tmp_path / "in", server=server)
    assert run.code == 3, run.printed
    assert run.failures == expected
    assert len(run.results) == 2
    for name in expected:
        assert name in run.printed.replace("\n", "")


@pytest.mark.filterwarnings("ignore:Unknown encoding:UserWarning")
def test_a_repair_stands_in_the_result_and_the_file_is_kept_as_it_came(server: LiveServer, tmp_path: Path) -> None:
    data = radiograph(study="repaired", SpecificCharacterSet="ISO_IR 999")
    (tmp_path / "odd.dcm").write_bytes(data)
    run = infer(tmp_path / "out", tmp_path / "odd.dcm", server=server)
    assert run.code == 0, run.printed
    (result,) = run.results
    (repair,) = [each["message"] for each in result["warnings"] if each["message"].startswith("repair: ")]
    before, after = repair.removeprefix("repair: ").split(" -> ")
    assert before.startswith("SpecificCharacterSet: ") and after
    kept = list((server.settings.data_dir / "studies" / result["study_instance_uid"]).rglob("*.dcm"))
    assert [path.read_bytes() for path in kept] == [data]


def test_zips_and_single_files_are_taken_as_well(server: LiveServer, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.writestr("inner/one.dcm", radiograph(study="zipped"))
        archive.writestr("../escape.dcm", radiograph(study="escaped"))
    (tmp_path / "two.dcm").write_bytes(radiograph(study="single", instance="single"))
    run = infer(tmp_path / "out", tmp_path / "study.zip", tmp_path / "two.dcm", server=server)
    assert run.code == 3
    assert list(run.failures.values()) == ["ARCHIVE_UNSAFE"]
    assert run.results


def test_an_empty_folder_and_a_path_that_is_not_there_are_refused(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = infer(tmp_path / "out", tmp_path / "empty", tmp_path / "absent.dcm", server=server)
    assert run.code == 3
    assert run.failures == {"empty": "EMPTY_INPUT", "absent.dcm": "INVALID_ARGUMENT"}
    assert run.results == []


def test_an_unknown_pack_is_named(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(radiograph(study="unknown pack"))
    run = infer(tmp_path / "out", tmp_path / "a.dcm", "--pack", "no-such-pack", server=server)
    assert run.code == 3
    assert run.failures == {"a.dcm": "UNKNOWN_PACK"}
    assert "'no-such-pack'" in (run.out / "failures.json").read_text()


def test_a_pack_with_a_wrong_hash_is_not_used_and_the_file_is_named(tmp_path: Path) -> None:
    pack = make_tiny_pack(tmp_path / "packs" / "tiny")
    (pack / "MODEL_CARD.md").write_text("altered")
    (tmp_path / "a.dcm").write_bytes(radiograph(study="altered pack"))
    run = infer(tmp_path / "out", tmp_path / "a.dcm", "--pack", "tiny", "--pack-dir", tmp_path / "packs")
    assert run.code == 1
    assert run.failures == {"a.dcm": "PACK_HASH_MISMATCH"}
    assert "MODEL_CARD.md" in (run.out / "failures.json").read_text()


def test_a_server_or_a_triton_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(radiograph(study="nobody"))
    run = infer(tmp_path / "out", tmp_path / "a.dcm", "--triton", "127.0.0.1:9")
    assert run.code == 1
    assert "MODEL_UNAVAILABLE" in run.printed


def test_a_result_folder_that_cannot_be_written_is_named(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(radiograph(study="no place"))
    (tmp_path / "file").write_text("not a folder")
    run = infer(tmp_path / "file", tmp_path / "a.dcm", server=server)
    assert run.code == 1
    assert "cannot be written" in run.printed


def test_the_context_of_the_command_line_reaches_the_draft(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(radiograph(study="context of the command line"))
    given = ("--age", "4", "--sex", "F", "--lab", "CRP=120 mg/L", "--prior", "1.2.3", "--indication", "Fever")
    run = infer(tmp_path / "out", tmp_path / "a.dcm", *given, server=server)
    assert run.code == 0, run.printed
    (result,) = run.results
    assert result["context"]["laboratory_values"] == [{"name": "CRP", "value": "120", "unit": "mg/L"}]
    for text in ("Fever", "4 years", "Sex: F", "CRP: 120 mg/L", "1.2.3"):
        assert text in result["report"]["text"]


def test_an_order_reaches_the_draft_and_a_bad_one_is_refused_before_anything_is_sent(
    server: LiveServer, tmp_path: Path
) -> None:
    (tmp_path / "a.dcm").write_bytes(radiograph(study="context of an order"))
    order = "MSH|^~\\&|RIS|H|R|S|20260102||ORU^R01|1|P|2.5\nPID|1||1||A^B||20210601|F\nOBX|1|NM|^CRP||112|mg/L\n"
    (tmp_path / "order.hl7").write_text(order)
    given = ("--context", tmp_path / "order.hl7")
    run = infer(tmp_path / "out", tmp_path / "a.dcm", *given, "--indication", "Fever", server=server)
    assert run.code == 0, run.printed
    (result,) = run.results
    for text in ("Fever", "4 years", "Sex: F", "CRP: 112 mg/L"):
        assert text in result["report"]["text"]
    (tmp_path / "order.hl7").write_text(order.replace("20210601", "SECRET"))
    run = infer(tmp_path / "none", tmp_path / "a.dcm", *given, server=server)
    assert run.code == 1
    assert "CONTEXT_INVALID" in run.printed and "(PID-7)" in run.printed and "SECRET" not in run.printed
    assert not run.out.exists()


def test_an_image_that_cannot_be_decoded_does_not_hold_up_the_others_of_its_study(
    server: LiveServer, tmp_path: Path
) -> None:
    (tmp_path / "study").mkdir()
    good = radiograph(study="one bad", instance="good")
    bad = radiograph(study="one bad", instance="bad").replace(b"MONOCHROME2 ", b"MONOCHROME9 ")
    (tmp_path / "study" / "good.dcm").write_bytes(good)
    (tmp_path / "study" / "bad.dcm").write_bytes(bad)
    run = infer(tmp_path / "out", tmp_path / "study", server=server)
    assert run.code == 0, run.printed
    (result,) = run.results
    (warning,) = (each for each in result["warnings"] if each["code"] == "IMAGE_NOT_ANALYSED")
    assert str(pydicom.dcmread(tmp_path / "study" / "bad.dcm").SOPInstanceUID) in warning["message"]
    assert "UNSUPPORTED_PIXELS" in warning["message"]
    assert "1 image, 1 more could not be read and were not analysed" in result["report"]["text"]
    (report,) = run.out.glob("*/sr.dcm")
    assert pydicom.dcmread(report).CompletionFlag == "PARTIAL"


def test_doctor_finds_everything_in_order() -> None:
    run = subprocess.run([str(RADSERVE), "doctor"], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    for word in ("embedded Triton", "CPUExecutionProvider", "cxr-bus-mini", "DICOM decoders"):
        assert word in run.stdout.replace("\n", "")


def test_doctor_names_what_is_wrong_and_exits_with_1() -> None:
    command = [str(RADSERVE), "doctor", "--triton", "127.0.0.1:9"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert run.returncode == 1
    assert "MODEL_UNAVAILABLE" in run.stderr
