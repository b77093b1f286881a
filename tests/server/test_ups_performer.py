"""Workitems are claimed, performed by the workflow, and completed or cancelled; also after a kill at any point."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request, Response
from pydicom import Dataset

from radserve.dicom_io import index_schema as schema
from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.pipelines.rules import Is, Rule, RuleSet
from radserve.server.settings import Settings
from radserve.server.ups import performing
from radserve.server.ups_performer import RETRIEVE_ATTEMPTS
from tests.support.hospital import ITEM, STUDY, Hospital, KilledError, look, make_real_objects, reason_of, work
from tests.support.workflow import instance, running_site


async def test_a_workitem_is_claimed_performed_and_completed_with_its_outputs(
    hospital: Hospital, tmp_path: Path
) -> None:
    async with running_site(tmp_path) as site:
        make_real_objects(site)
        performer = hospital.performer(site)
        await look(performer)
        assert hospital.step.states == ["SCHEDULED", "IN PROGRESS"]
        assert hospital.step.data["00741002"]["Value"][0]["00741004"]["Value"] == [50]
        await work(site, performer)
        assert hospital.step.states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
        (performed,) = Dataset.from_json(hospital.step.data).UnifiedProcedureStepPerformedProcedureSequence
        assert performed.PerformedStationNameCodeSequence[0].CodeValue == "RADSERVE"
        outputs = performed.OutputInformationSequence
        sent = {line.split()[1] for line in site.destination.sent()}
        assert {each.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for each in outputs} == sent
        assert {each.StudyInstanceUID for each in outputs} == {STUDY}
        url = outputs[0].WADORSRetrievalSequence[0].RetrieveURL
        assert url.startswith("https://archive.example/dicom-web/studies/")
        assert len(site.analysis.jobs) == 1 and not list((tmp_path / "ups").iterdir())


def points() -> list[str]:
    """Each place at which a performer can end, on the way to a completed workitem."""
    several = {"get": 2, "_update": 3, "_change_state": 2, "_put": 5, "_forget": 1, "signal": 1, "list_instances": 1}
    return [
        f"{method}:{when}:{number}"
        for method, count in several.items()
        for number in range(1, count + 1)
        for when in ("before", "after")
    ]


@pytest.mark.parametrize("point", points())
async def test_a_kill_at_any_point_leaves_one_result_and_a_completed_workitem(
    hospital: Hospital, tmp_path: Path, point: str
) -> None:
    async with running_site(tmp_path) as site:
        make_real_objects(site)
        with pytest.raises(KilledError):
            await work(site, hospital.performer(site, point), 6)
        await work(site, hospital.performer(site), 6)
        assert hospital.step.states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
        assert len(site.analysis.jobs) == 1 and len(await site.rows(schema.results)) == 1
        assert len(site.destination.sent()) == 2 == len(set(site.destination.sent()))
        assert not list((tmp_path / "ups").iterdir())


async def test_a_study_that_was_analysed_before_gives_its_result_and_no_second_one(
    hospital: Hospital, tmp_path: Path
) -> None:
    async with running_site(tmp_path) as site:
        make_real_objects(site)
        await site.receive(instance("s", 1))
        await site.receive(instance("s", 2))
        await site.finish()
        await work(site, hospital.performer(site))
        assert hospital.step.state == "COMPLETED"
        assert len(site.analysis.jobs) == 1


async def test_another_performer_keeps_what_it_has_claimed(hospital: Hospital, tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        with pytest.raises(KilledError):
            await work(site, hospital.performer(site, "_change_state:before:1"))
        hospital.origin.change(hospital.step, "IN PROGRESS", "9.9.9")
        await work(site, hospital.performer(site))
        assert (hospital.step.state, hospital.step.transaction_uid) == ("IN PROGRESS", "9.9.9")
        assert not site.analysis.jobs and not list((tmp_path / "ups").iterdir())


async def test_only_the_workitems_that_are_asked_for_are_taken(hospital: Hospital, tmp_path: Path) -> None:
    hospital.origin.schedule("1.2.5", (STUDY, ""), label="PRINT")
    async with running_site(tmp_path) as site:
        await look(hospital.performer(site, keys={"WorklistLabel": "AI"}))
        assert [step.state for step in hospital.origin.steps.values()] == ["IN PROGRESS", "SCHEDULED"]


async def test_of_the_inputs_only_the_named_series_is_retrieved(hospital: Hospital, tmp_path: Path) -> None:
    hospital.archive.add(other := instance("s", 3, SeriesInstanceUID="1.2.9"))
    hospital.origin.schedule(ITEM, (STUDY, "1.2.9"))
    async with running_site(tmp_path) as site:
        await look(hospital.performer(site))
        assert [path.read_bytes() for path in (tmp_path / "studies").rglob("*.dcm")] == [other]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [((), "names no study"), ((("../x", ""),), "names no study"), ((("1.2.99", ""),), "no images of the study 1.2.99")],
)
async def test_a_workitem_that_cannot_be_done_is_cancelled_with_the_reason(
    hospital: Hospital, tmp_path: Path, inputs: tuple[tuple[str, str], ...], expected: str
) -> None:
    hospital.origin.schedule(ITEM, *inputs)
    async with running_site(tmp_path) as site:
        await work(site, hospital.performer(site))
        assert hospital.step.states == ["SCHEDULED", "IN PROGRESS", "CANCELED"]
        assert expected in reason_of(hospital.step)
        assert not list((tmp_path / "ups").iterdir())


async def test_a_study_that_no_rule_takes_or_that_fails_is_cancelled_with_the_reason(
    hospital: Hospital, tmp_path: Path
) -> None:
    rules = RuleSet((Rule("ct", "pack", Is("modality", ("CT",))),))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with running_site(tmp_path / "a", rules=rules) as site:
        await work(site, hospital.performer(site))
        assert hospital.step.state == "CANCELED" and "no routing rule" in reason_of(hospital.step)
    hospital.origin.schedule(ITEM, (STUDY, ""))
    async with running_site(tmp_path / "b") as site:
        site.analysis.poison = lambda job: DicomError(ErrorCode.DECODE_FAILED, "the pixels cannot be decoded")
        await work(site, hospital.performer(site))
        assert hospital.step.state == "CANCELED" and "the pixels cannot be decoded" in reason_of(hospital.step)


async def test_an_archive_that_is_away_is_waited_for_but_not_for_ever(hospital: Hospital, tmp_path: Path) -> None:
    hospital.archive.answer = lambda request: Response(status_code=503)
    async with running_site(tmp_path) as site:
        make_real_objects(site)
        performer = hospital.performer(site)
        await work(site, performer, RETRIEVE_ATTEMPTS - 1)
        assert hospital.step.state == "IN PROGRESS"
        hospital.archive.answer = lambda request: None
        await work(site, performer)
        assert hospital.step.state == "COMPLETED"
        hospital.archive.answer = lambda request: Response(status_code=503)
        hospital.origin.schedule(ITEM, (STUDY, ""))
        await work(site, performer, RETRIEVE_ATTEMPTS + 1)
        assert hospital.step.state == "CANCELED" and "503" in reason_of(hospital.step)


async def test_an_origin_server_that_is_away_costs_nothing_but_time(hospital: Hospital, tmp_path: Path) -> None:
    chance = random.Random(7)  # always the same: every third request or so fails

    def answer(request: Request) -> Response | None:
        return Response(status_code=503) if chance.random() < 0.3 else None

    hospital.origin.answer = answer
    async with running_site(tmp_path) as site:
        make_real_objects(site)
        performer = hospital.performer(site)
        for _ in range(40):
            try:
                await look(performer)
            except RadserveError as error:
                assert error.code is ErrorCode.SERVER_UNREACHABLE
            await site.step()
            if hospital.step.state == "COMPLETED":
                break
        assert hospital.step.states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
        assert len(site.analysis.jobs) == 1


async def test_without_the_workflow_there_is_no_performer(tmp_path: Path) -> None:
    unused: Any = None
    with pytest.raises(RadserveError, match="RADSERVE_WORKFLOW"):
        async with performing(Settings(data_dir=tmp_path, ups_url="https://x.example/ups"), unused, unused):
            pass
    async with performing(Settings(data_dir=tmp_path), unused, unused) as performer:
        assert performer is None
