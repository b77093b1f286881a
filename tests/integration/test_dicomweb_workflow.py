"""A study by STOW-RS in, said to be complete, and its results found and retrieved where the study is."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2
import numpy as np
import pytest
from dicomweb_client.web import DICOMwebClient

from tests.support.dicoms import cr, part10
from tests.support.server import live_server
from tests.support.web import DICOM_TYPE, multipart

SECONDS = 240
RULES = """
[[rule]]
name = "chest"
pack = "cxr-bus-mini"
outputs = ["sr", "sc"]
when = { modality = "CR" }
"""


@pytest.mark.slow
def test_results_are_found_in_the_study_once_it_is_complete(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    image = cr(np.random.default_rng(4).integers(0, 255, (40, 40), dtype=np.uint8), study="web", PatientAge="003Y")
    given = {"http_port": 0, "disk_reserve_mib": 0, "workflow": True, "rules_file": rules, "study_quiet_s": 3000.0}
    with live_server(tmp_path / "data", **given) as server:
        assert server.server.web is not None
        root = f"{server.server.web.url}/dicom-web"
        study = f"{root}/studies/{image.StudyInstanceUID}"
        headers = {"Content-Type": f"{DICOM_TYPE}; boundary=b"}
        body = multipart("b", part10(image))
        assert httpx2.post(f"{root}/studies", content=body, headers=headers, timeout=60).status_code == 200
        said = httpx2.post(f"{study}/complete", json={"expected_instances": 1}, timeout=60)
        assert (said.status_code, said.json()["state"]) == (202, "receiving")
        end = time.monotonic() + SECONDS
        while len(found := httpx2.get(f"{study}/series", timeout=60).json()) < 3 and time.monotonic() < end:
            time.sleep(0.2)
        assert sorted(each["00080060"]["Value"][0] for each in found) == ["CR", "OT", "SR"]
        retrieved = DICOMwebClient(root).retrieve_study(str(image.StudyInstanceUID))
        (report,) = [each for each in retrieved if each.Modality == "SR"]
        assert (report.VerificationFlag, report.PatientID) == ("UNVERIFIED", image.PatientID)
        assert report.StudyInstanceUID == image.StudyInstanceUID
