"""The objects of results are found and retrieved as objects of their study, until a later one replaces them."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.result_objects import result_objects
from radserve.references import StudyRef
from radserve.results import PackRef
from radserve.uids import derive_uid
from radserve.work import ResultObject, ResultRecord, Revision
from tests.support.dicoms import cr, part10
from tests.support.results import sample_image, sample_result
from tests.support.web import LiveWeb

SR, SC = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.7"


def keep(web: LiveWeb, study: str, objects: tuple[ResultObject, ...], revision: int, predecessor: str = "") -> str:
    pack: PackRef = sample_result(sample_image(cr(np.zeros((8, 8), np.uint8)))).pack
    uid = derive_uid("result", study, str(revision))
    record = ResultRecord(uid, study, revision, pack.name, pack.digest, predecessor)
    web.wait_for(web.records.results.keep(record, objects))
    row = {**asdict(Revision(study, revision)), "incomplete": 0, "work_id": uid, "closed_at": 1.0}
    insert = schema.revisions.insert().values(row)
    web.wait_for(web.records.index._database.run(lambda connection: connection.execute(insert)))
    web.wait_for(web.records.ledger.add_result(record, (), 1.0))
    return uid


def classes(web: LiveWeb, study: str) -> list[str]:
    return sorted(each["00080016"]["Value"][0] for each in web.get(f"/studies/{study}/instances").json())


def test_results_are_objects_of_their_study(web: LiveWeb) -> None:
    source = cr(np.random.default_rng(1).integers(0, 255, (40, 40), dtype=np.uint8), study="with-results")
    study = str(source.StudyInstanceUID)
    assert web.store_instances(part10(source)).status_code == 200
    image = sample_image(source)
    objects = result_objects(sample_result(image), [image], ["sr", "sc"])
    first = keep(web, study, objects, 1)
    assert classes(web, study) == sorted([str(source.SOPClassUID), SR, SC])
    (found,) = web.get("/studies", StudyInstanceUID=study).json()
    assert found["00080061"]["Value"] == ["CR", "OT", "SR"]
    assert (found["00201206"]["Value"], found["00201208"]["Value"]) == ([3], [3])
    assert len(web.get("/studies", ModalitiesInStudy="SR", StudyInstanceUID=study).json()) == 1

    (series,) = web.get(f"/studies/{study}/series", Modality="SR").json()
    series_uid = series["0020000E"]["Value"][0]
    report = next(each for each in objects if each.output == "sr")
    (retrieved,) = web.client.retrieve_series(study, series_uid)
    assert retrieved == dcmread(DicomBytesIO(report.artifact.data))
    raw = web.get(f"/studies/{study}/series/{series_uid}/instances/{report.sop_instance_uid}", "application/dicom")
    assert raw.content == report.artifact.data
    assert len(web.client.retrieve_study_metadata(study)) == 3
    assert (
        web.get(f"/studies/{study}/series/{series_uid}/instances/{report.sop_instance_uid}/rendered").status_code == 404
    )

    capture = next(each for each in objects if each.output == "sc")
    shown = f"/studies/{study}/series/{dcmread(DicomBytesIO(capture.artifact.data)).SeriesInstanceUID}"
    assert web.get(f"{shown}/instances/{capture.sop_instance_uid}/rendered", "image/png").status_code == 200

    replaced = keep(web, study, result_objects(sample_result(image), [image], []), 2, predecessor=first)
    assert replaced != first
    assert classes(web, study) == [str(source.SOPClassUID)]
    assert web.get(f"/studies/{study}/series/{series_uid}").status_code == 404


def test_an_erased_study_has_no_results(web: LiveWeb) -> None:
    source = cr(np.zeros((40, 40), np.uint8), study="results-erased")
    study = str(source.StudyInstanceUID)
    web.store_instances(part10(source))
    image = sample_image(source)
    keep(web, study, result_objects(sample_result(image), [image], ["sr"]), 1)
    assert SR in classes(web, study)
    web.wait_for(web.store.erase(StudyRef(study)))
    assert classes(web, study) == []
    assert web.get(f"/studies/{study}").status_code == 404
