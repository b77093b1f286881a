"""QIDO-RS over SQLite and PostgreSQL: who is found, what is told of them, and in what order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.database import Database, sqlite_url
from radserve.dicom_io.dicomweb.header_cache import HeaderCache
from radserve.dicom_io.dicomweb.held import Held
from radserve.dicom_io.dicomweb.holdings import Holdings
from radserve.dicom_io.dicomweb.query import MORE, read_query
from radserve.dicom_io.dicomweb.search import Found, search
from radserve.dicom_io.dicomweb.search_attributes import Level
from radserve.dicom_io.index import Received, StudyIndex
from radserve.dicom_io.index_entry import read_entry
from tests.support.dicoms import cr, ct_series, mr, save, uid
from tests.support.postgres import postgres
from tests.support.web import LiveWeb
from tests.support.workflow import InlineWorkers

URL = "http://server/dicom-web"
STUDY, SERIES, SOP, NAME, MODALITIES = "0020000D", "0020000E", "00080018", "00100010", "00080061"


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


def request(procedure: str = "R1", step: str = "S1") -> Dataset:
    item = Dataset()
    item.RequestedProcedureID, item.ScheduledProcedureStepID, item.RequestedProcedureDescription = (
        procedure,
        step,
        "knee",
    )
    return item


KNOWN = {
    "TimezoneOffsetFromUTC": "+0100",
    "PerformedProcedureStepStartDate": "20240105",
    "PerformedProcedureStepStartTime": "0929",
    "RequestAttributesSequence": [request()],
    "ProtocolName": "knee",
}
OTHER_STEP = {
    "PerformedProcedureStepStartDate": "20240301",
    "PerformedProcedureStepStartTime": "235900",
    "RequestAttributesSequence": [request("R2", "S1"), request("R 3", "S_2")],
}


def instances() -> list[Dataset]:
    """Three patients: CT in two series; an MR and a radiograph; a radiograph."""
    small = np.zeros((4, 6), np.uint8)
    one = {"study": "one", "PatientName": "Doe^Jane=山田^花子", "PatientID": "P_1", "AccessionNumber": "A-1"}
    two = {"study": "two", "PatientName": "Müller%Ann", "PatientID": "PX1", "StudyDate": "20240105"}
    three = {"study": "three", "PatientName": "DOEHRING^Max", "PatientID": "p_1", "StudyDate": "20240301"}
    return [
        *ct_series(np.zeros((3, 4, 6), np.int16), series="thin", StudyDate="20231231", **one),
        *ct_series(np.zeros((1, 4, 6), np.int16), series="thick", SeriesNumber=2, StudyDate="20231231", **one),
        mr(small.astype(np.uint16), series="mr", StudyTime="093000", StudyDescription="Knee, left", **two, **KNOWN),
        cr(small, series="cr", StudyTime="093000", SeriesNumber=2, SeriesDescription="PA view", **two),
        cr(small, StudyTime="235959.5", **three, **OTHER_STEP),
    ]


@dataclass(frozen=True)
class Files(Holdings):
    """Instances that lie anywhere."""

    files: dict[str, Held]

    async def several(self, study_by_sop: Mapping[str, str]) -> dict[str, Held]:
        return {sop: self.files[sop] for sop in study_by_sop if sop in self.files}


class Asked:
    """An index that is asked from tests without an event loop."""

    def __init__(self, runner: asyncio.Runner, holdings: Files) -> None:
        self._runner = runner
        self._holdings = holdings

    def find(self, level: Level, items: dict[str, str], **fixed: str) -> Found:
        return self._runner.run(search(self._holdings, read_query(level, list(items.items()), fixed), URL))

    def studies(self, items: dict[str, str]) -> list[str]:
        """The names of the studies that match, in their order."""
        names = {uid("study", name): name for name in ("one", "two", "three")}
        return [names[each[STUDY]["Value"][0]] for each in self.find(Level.STUDY, items).results]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("search")
    url = sqlite_url(folder / "i.db") if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    files = [save(each, folder / f"{number}.dcm") for number, each in enumerate(instances())]
    database = Database(url)
    asked = StudyIndex(database)
    with asyncio.Runner() as runner:
        runner.run(database.open())
        runner.run(asked.add([Received(read_entry(path), 100.0) for path in files]))
        entries = [(path, read_entry(path).header) for path in files]
        held = [Held(each.instance, each.transfer_syntax_uid, path) for path, each in entries]
        by_uid = {each.instance.sop_instance_uid: each for each in held}
        cache, unused = HeaderCache(folder / "headers.db"), cast(Any, None)
        yield Asked(runner, Files(unused, asked, unused, cast(Any, InlineWorkers()), cache, by_uid))
        runner.run(cache.close())
        runner.run(database.close())


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ({}, ["three", "two", "one"]),  # the newest first
        ({"PatientName": "doe*"}, ["three", "one"]),
        ({"PatientName": "DOE^JANE"}, ["one"]),
        ({"PatientName": "Doe"}, []),
        ({"PatientName": "山田*"}, ["one"]),
        ({"PatientName": "*%*"}, ["two"]),  # no wildcard of ours
        ({"PatientName": "M?ller*"}, ["two"]),
        ({"PatientID": "P_1"}, ["one"]),  # without wildcards the case counts, and _ is only itself
        ({"PatientID": "p_*"}, ["three", "one"]),
        ({"PatientID": "' OR 1=1 --"}, []),
        ({"StudyDate": "20240105"}, ["two"]),
        ({"StudyDate": "20240101-"}, ["three", "two"]),
        ({"StudyDate": "-20240105"}, ["two", "one"]),
        ({"StudyDate": "20231231-20240105"}, ["two", "one"]),
        ({"StudyTime": "0930"}, ["two"]),
        ({"StudyTime": "1011-235959"}, ["three", "one"]),
        ({"ModalitiesInStudy": "MR"}, ["two"]),
        ({"ModalitiesInStudy": "CT\\MR"}, ["two", "one"]),
        ({"ModalitiesInStudy": "CR", "PatientName": "doe*"}, ["three"]),
        ({"StudyDescription": "*knee*"}, ["two"]),
        ({"AccessionNumber": "A-1"}, ["one"]),
        ({"00100020": "PX1"}, ["two"]),
        ({"StudyInstanceUID": f"{uid('study', 'one')},{uid('study', 'three')}"}, ["three", "one"]),
        ({"limit": "1", "offset": "1"}, ["two"]),
        ({"limit": "0"}, []),
    ],
)
def test_studies_are_found(index: Asked, items: dict[str, str], expected: list[str]) -> None:
    assert index.studies(items) == expected


def test_a_study_is_told_with_all_of_it_however_it_was_found(index: Asked) -> None:
    (two,) = index.find(Level.STUDY, {"ModalitiesInStudy": "MR"}).results
    assert two[MODALITIES]["Value"] == ["CR", "MR"]
    assert (two["00201206"]["Value"], two["00201208"]["Value"]) == ([2], [2])
    (one,) = index.find(Level.STUDY, {"AccessionNumber": "A-1"}).results
    assert (one["00201206"]["Value"], one["00201208"]["Value"]) == ([2], [4])
    assert one[NAME]["Value"] == [{"Alphabetic": "Doe^Jane", "Ideographic": "山田^花子"}]
    assert one["00081190"]["Value"] == [f"{URL}/studies/{uid('study', 'one')}"]
    assert one["00080056"]["Value"] == ["ONLINE"]
    assert "Value" not in one["00081030"]
    assert list(one) == sorted(one)


def test_series_and_instances_are_found_below_a_study_and_across_studies(index: Asked) -> None:
    of_one = index.find(Level.SERIES, {}, StudyInstanceUID=uid("study", "one"))
    assert [(each["00080060"]["Value"], each["00201209"]["Value"]) for each in of_one.results] == [
        (["CT"], [3]),
        (["CT"], [1]),
    ]
    assert all(NAME not in each for each in of_one.results)
    across = index.find(Level.SERIES, {"Modality": "CR", "includefield": "BodyPartExamined"}).results
    assert [each[NAME]["Value"][0]["Alphabetic"] for each in across] == ["DOEHRING^Max", "Müller%Ann"]
    assert across[0]["00180015"]["Value"] == ["CHEST"]
    fixed = {"StudyInstanceUID": uid("study", "one"), "SeriesInstanceUID": uid("series", "one", "thin")}
    slices = index.find(Level.INSTANCE, {}, **fixed).results
    assert [each["00200013"]["Value"] for each in slices] == [[1], [2], [3]]
    assert (slices[0]["00280010"]["Value"], slices[0]["00280011"]["Value"]) == ([4], [6])
    assert slices[0]["00083002"]["Value"] == ["1.2.840.10008.1.2.1"]
    second = {"InstanceNumber": "2", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}
    assert len(index.find(Level.INSTANCE, second).results) == 1


# PS3.18 tables 10.6.3-3 to 10.6.3-5
REQUIRED = {
    Level.STUDY: (
        *("StudyDate", "StudyTime", "AccessionNumber", "InstanceAvailability", "ModalitiesInStudy"),
        *("ReferringPhysicianName", "TimezoneOffsetFromUTC", "RetrieveURL", "PatientName", "PatientID"),
        *("PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID"),
        *("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
    ),
    Level.SERIES: (
        *("Modality", "TimezoneOffsetFromUTC", "SeriesDescription", "RetrieveURL", "SeriesInstanceUID"),
        *("SeriesNumber", "NumberOfSeriesRelatedInstances", "PerformedProcedureStepStartDate"),
        *("PerformedProcedureStepStartTime", "RequestAttributesSequence"),
    ),
    Level.INSTANCE: (
        *("SOPClassUID", "SOPInstanceUID", "InstanceAvailability", "TimezoneOffsetFromUTC", "RetrieveURL"),
        *("InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames"),
    ),
}


@pytest.mark.parametrize("level", Level)
def test_all_that_the_standard_requires_is_returned(index: Asked, level: Level) -> None:
    (found,) = index.find(level, {"Modality" if level else "ModalitiesInStudy": "MR"}).results
    missing = {keyword for keyword in REQUIRED[level] if f"{tag_for_keyword(keyword):08X}" not in found}
    assert not missing and found["00080005"]["Value"] == ["ISO_IR 192"]
    assert found["00080201"] == {"vr": "SH", "Value": ["+0100"]}


def test_what_the_index_does_not_have_is_read_from_the_header(index: Asked) -> None:
    (series,) = index.find(Level.SERIES, {"Modality": "MR"}).results
    assert (series["00400244"]["Value"], series["00400245"]["Value"]) == (["20240105"], ["0929"])
    (asked,) = series["00400275"]["Value"]
    assert {tag: each["Value"] for tag, each in asked.items()} == {"00400009": ["S1"], "00401001": ["R1"]}
    assert "00181030" not in series
    (series,) = index.find(Level.SERIES, {"Modality": "MR", "includefield": "ProtocolName,KVP"}).results
    assert series["00181030"]["Value"] == ["knee"] and "00180060" not in series
    (instance,) = index.find(
        Level.INSTANCE, {"Modality": "MR", "includefield": "00280101,PhotometricInterpretation"}
    ).results
    assert (instance["00280100"]["Value"], instance["00280101"]["Value"]) == ([16], [16])
    assert instance["00280004"]["Value"] == ["MONOCHROME2"]
    (three,) = index.find(Level.STUDY, {"StudyInstanceUID": uid("study", "three")}).results
    assert "00080201" not in three, "not known, not returned"


START_DATE, START_TIME = "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"
STEP, PROCEDURE = (f"RequestAttributesSequence.{each}" for each in ("ScheduledProcedureStepID", "RequestedProcedureID"))


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ({START_DATE: "20240105"}, ["two"]),
        ({START_DATE: "20240105-"}, ["three", "two"]),
        ({START_DATE: "20231231-20240104"}, []),
        ({START_DATE: "-20240301", "Modality": "CR"}, ["three"]),
        ({START_DATE: ""}, ["three", "two", "two", "one", "one"]),
        ({START_TIME: "0929"}, ["two"]),
        ({START_TIME: "0900-0929"}, ["two"]),
        ({START_TIME: "-12"}, ["two"]),
        ({STEP: "S1"}, ["three", "two"]),
        ({STEP: "s_*"}, ["three"]),
        ({STEP: "S?2"}, ["three"]),
        ({PROCEDURE: "R*"}, ["three", "two"]),
        ({PROCEDURE: "R 3"}, ["three"]),
        ({"00400275.00401001": "R1", "00400275.00400009": "S1"}, ["two"]),
        ({PROCEDURE: "R2", STEP: "S1"}, ["three"]),
        ({PROCEDURE: "R2", STEP: "S_2"}, []),  # each is there, but of two requests
        ({PROCEDURE: "R2", START_DATE: "20240105"}, []),
        ({PROCEDURE: "' OR 1=1 --"}, []),
    ],
)
def test_series_are_found_by_their_step_and_their_requests(
    index: Asked, items: dict[str, str], expected: list[str]
) -> None:
    names = {uid("study", name): name for name in ("one", "two", "three")}
    found = index.find(Level.SERIES, items).results
    assert [names[each[STUDY]["Value"][0]] for each in found] == expected


def test_instances_are_found_by_the_requests_of_their_series(index: Asked) -> None:
    (found,) = index.find(Level.INSTANCE, {PROCEDURE: "R 3"}).results
    assert found[STUDY]["Value"] == [uid("study", "three")]
    items = [{tag: each["Value"][0] for tag, each in item.items()} for item in found["00400275"]["Value"]]
    assert items == [{"00400009": "S1", "00401001": "R2"}, {"00400009": "S_2", "00401001": "R 3"}]


def test_more_than_the_limit_is_warned_of(index: Asked) -> None:
    assert index.find(Level.STUDY, {"limit": "2"}).warnings == (MORE,)
    assert index.find(Level.STUDY, {"limit": "3"}).warnings == ()


def test_the_tables_of_objects_have_the_same_columns() -> None:
    names = {column.name for column in schema.instances.c}
    assert {column.name for column in schema.result_objects.c} - {"result_uid", "file_name"} <= names


def test_the_port_answers_with_dicom_json_and_warnings(web: LiveWeb) -> None:
    answer = web.get("/studies", fuzzymatching="true", PatientName="nobody*")
    assert (answer.status_code, answer.json()) == (200, [])
    assert answer.headers["content-type"] == "application/dicom+json"
    assert "fuzzymatching" in answer.headers["warning"] and answer.headers["warning"].startswith("299 ")
    assert web.get("/studies", accept="application/json").headers["content-type"] == "application/json"
    assert web.get("/studies", accept="multipart/related").status_code == 406
