"""Labelled reference studies are read again at an interval; a gate that the pack no longer passes raises the alarm."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.gates import Gate, Profile, Statistic, check_record
from radserve.evaluation.roc import auc
from radserve.server.background import running
from radserve.server.reevaluation import HOUR_S, ReferenceCase, gated, read_cases, reevaluating
from radserve.server.settings import Settings
from tests.support.operation import PROFILE_TOML
from tests.support.reevaluating import COUNT, Site, labelled
from tests.support.triton import eventually
from tests.support.workflow import VirtualClock


async def test_a_pack_that_still_passes_leaves_a_record_and_no_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    cases = labelled(await site.scores(), wrong=0)
    with caplog.at_level(logging.WARNING, "radserve.server"):
        await site.job(cases).once()
    (record,) = site.records()
    assert record["areas"]["Pneumonia"]["auroc"] == 1.0
    assert record["areas"]["Pneumonia"]["n"] == COUNT
    assert check_record(record["record"])
    assert record["record"]["model"]["pipeline_digest"] == site.packs.pack("").digest
    assert "alarm" not in caplog.text
    assert not [uid for uid in site.studies if uid in json.dumps(record)]


async def test_an_auroc_under_the_gate_of_promotion_is_an_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    scores = await site.scores()
    cases = labelled(scores, wrong=2)
    expected = auc([scores[each.study_instance_uid] for each in cases], [each.present for each in cases])
    assert expected < 0.9
    with caplog.at_level(logging.WARNING, "radserve.server"):
        await site.job(cases).once()
    (record,) = site.records()
    assert record["areas"]["Pneumonia"]["auroc"] == pytest.approx(expected)
    assert not check_record(record["record"])
    assert "alarm: re-evaluation of tiny 1.0.0, Pneumonia, auroc" in caplog.text


async def test_what_cannot_be_measured_is_an_alarm_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    cases = [ReferenceCase("1.2.3", "Pneumonia", True), ReferenceCase(site.studies[0], "Pneumonia", False)]
    with caplog.at_level(logging.WARNING, "radserve.server"):
        await site.job(cases).once()
    (record,) = site.records()
    assert record["failed"] == {"STUDY_NOT_FOUND": 1}
    assert record["areas"]["Pneumonia"] == {"n": 1, "auroc": None, "low": None, "high": None}
    assert "alarm" in caplog.text


async def test_runs_come_at_their_interval_also_over_a_restart(tmp_path: Path) -> None:
    site = Site(tmp_path)
    cases = labelled(await site.scores(), wrong=0)

    async def runs(count: int) -> None:
        await eventually(lambda: len(site.records()) == count and site.clock.sleepers == 1)

    async with running(site.job(cases).run()):
        await runs(1)
        site.clock.advance(HOUR_S - 1)
        await runs(1)
        site.clock.advance(2)
        await runs(2)
    async with running(site.job(cases).run()):
        await eventually(lambda: site.clock.sleepers == 1)
        assert len(site.records()) == 2
        site.clock.advance(HOUR_S + 1)
        await runs(3)


def test_the_table_and_the_profile_are_checked_at_the_start(tmp_path: Path) -> None:
    table, profile = tmp_path / "reference.csv", tmp_path / "profile.toml"
    profile.write_text(PROFILE_TOML)
    table.write_text("study_instance_uid,finding,label\n1.2.3,Pneumonia,1\n1.2.4,Pneumonia,0\n")
    assert [each.present for each in read_cases(table)] == [True, False]

    async def start(**settings: Any) -> None:
        async with reevaluating(Settings(data_dir=tmp_path, **settings), None, VirtualClock()):  # type: ignore[arg-type]
            pass

    asyncio.run(start())
    for text, cause in (("1.2.3,Pneumonia,yes\n", "row 1 label"), ("x,Pneumonia,1\n", "study_instance_uid")):
        table.write_text(f"study_instance_uid,finding,label\n{text}")
        with pytest.raises(RadserveError, match=cause) as caught:
            asyncio.run(start(reference_studies=table, promotion_profile=profile))
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(RadserveError, match="no promotion_profile"):
        asyncio.run(start(reference_studies=table))
    other = Profile("site", "1.0", (Gate("Pneumonia", "sensitivity", Statistic.VALUE, ">=", 0.9),))
    with pytest.raises(RadserveError, match="one with a gate on auroc or auc"):
        gated(other)
