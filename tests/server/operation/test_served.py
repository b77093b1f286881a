"""Packs in service: which version answers, what a switch does to requests in work, and what is remembered."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

import pytest

from radserve.errors import ErrorCode, ModelError, PackError, RadserveError
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.study import Analysis, AnalysisRequest
from radserve.references import StudyRef
from radserve.results import WarningCode
from radserve.server.operation.audit import verify
from radserve.server.operation.promotion import Evidence
from tests.support.operation import Operated, evaluation_record, make_versions
from tests.support.packs import make_tiny_pack, seal
from tests.support.triton import eventually


@pytest.fixture
def operated(tmp_path: Path) -> Operated:
    make_versions(tmp_path / "packs", "1.0.0", "1.1.0", "1.2.0")
    return Operated(tmp_path)


async def promote(operated: Operated, version: str) -> None:
    await operated.packs.promote(f"tiny@{version}", Evidence(operated.record(version)))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def analysed(operated: Operated, reference: str = "tiny") -> Analysis:
    (study,) = await operated.source.list_studies()
    async with operated.packs.lease(reference) as analyser:
        request = AnalysisRequest(StudyRef(study.study_instance_uid), report=False)
        events = [event async for event in analyser.analyse(request, Deadline.after(None))]
    assert isinstance(events[-1], Analysis)
    return events[-1]


async def test_at_first_the_first_version_answers_and_the_others_are_not_loaded(operated: Operated) -> None:
    assert operated.states() == {"1.0.0": "active", "1.1.0": "available", "1.2.0": "available"}
    assert await operated.version("") == await operated.version("tiny") == "1.0.0"
    with pytest.raises(PackError, match=r"version 1\.1\.0 is not loaded") as caught:
        await operated.version("tiny@1.1.0")
    assert caught.value.code is ErrorCode.PACK_NOT_LOADED


async def test_a_version_that_comes_later_answers_neither_now_nor_after_a_restart(operated: Operated) -> None:
    make_tiny_pack(operated.folder / "packs" / "0.9.0", version="0.9.0", seed=9)  # its folder is the first of all
    await operated.packs.load("tiny@0.9.0")
    assert operated.states()["1.0.0"] == "active"
    again = Operated(operated.folder)
    assert again.states()["0.9.0"] == "loaded"
    assert await again.version() == "1.0.0"


async def test_without_the_version_that_answered_first_the_first_one_found_answers(operated: Operated) -> None:
    shutil.rmtree(operated.folder / "packs" / "1.0.0")
    assert await Operated(operated.folder).version() == "1.1.0"


async def test_the_version_that_answers_unpromoted_can_be_promoted_by_its_record(operated: Operated) -> None:
    await promote(operated, "1.0.0")
    (entry,) = verify(operated.folder / "audit.jsonl")
    assert (entry["action"], entry["version"], entry["profile"]) == ("promote", "1.0.0", "site 1.0")
    again = Operated(operated.folder, default_pack="tiny@1.1.0")  # the settings count until somebody promotes
    assert await again.version("") == "1.0.0"
    await promote(again, "1.0.0")
    assert len(verify(operated.folder / "audit.jsonl")) == 1


async def test_the_settings_may_name_the_first_version(tmp_path: Path) -> None:
    make_versions(tmp_path / "packs", "1.0.0", "1.1.0")
    operated = Operated(tmp_path, default_pack="tiny@1.1.0")
    assert operated.packs.default_pack == "tiny"
    assert await operated.version("") == "1.1.0"


@pytest.mark.parametrize("reference", ["tiny@9.9.9", "nothing", "nothing@1.0.0"])
async def test_unknown_packs_and_versions_are_told_as_such(operated: Operated, reference: str) -> None:
    with pytest.raises(PackError) as caught:
        await operated.version(reference)
    assert caught.value.code is ErrorCode.UNKNOWN_PACK
    with pytest.raises(RadserveError) as caught_too:
        await operated.packs.load(reference if "@" in reference else f"{reference}@1.0.0")
    assert caught_too.value.code is ErrorCode.UNKNOWN_PACK


async def test_a_loaded_version_answers_who_names_it_with_a_warning(operated: Operated) -> None:
    status = await operated.packs.load("tiny@1.1.0")
    assert status.state == "loaded"
    assert operated.host.diary == ["load 1.1.0"]
    result = (await analysed(operated, "tiny@1.1.0")).result
    assert result.pack.version == "1.1.0"
    assert WarningCode.PACK_NOT_PROMOTED in {warning.code for warning in result.warnings}
    assert (await analysed(operated)).result.pack.version == "1.0.0"


async def test_promotion_switches_new_requests_and_keeps_the_former_version_ready(operated: Operated) -> None:
    await promote(operated, "1.1.0")
    assert operated.states() == {"1.0.0": "previous", "1.1.0": "active", "1.2.0": "available"}
    assert await operated.version() == "1.1.0"
    await promote(operated, "1.2.0")
    await settle()
    assert operated.states() == {"1.0.0": "available", "1.1.0": "previous", "1.2.0": "active"}
    assert operated.host.diary == ["load 1.1.0", "load 1.2.0", "unload 1.0.0"]


async def test_a_refused_promotion_changes_nothing_and_loads_nothing(operated: Operated) -> None:
    digest = operated.catalogue.get("tiny@1.1.0").digest
    for record in (b"", evaluation_record(digest, auroc=0.5), operated.record("1.2.0")):
        with pytest.raises(RadserveError) as caught:
            await operated.packs.promote("tiny@1.1.0", Evidence(record))
        assert caught.value.code is ErrorCode.PROMOTION_REFUSED
    assert operated.states()["1.1.0"] == "available"
    assert operated.host.diary == []
    assert verify(operated.folder / "audit.jsonl") == []


async def test_a_version_that_does_not_load_is_not_switched_to(operated: Operated) -> None:
    operated.host.broken.add("1.1.0")
    with pytest.raises(ModelError, match="does not load"):
        await promote(operated, "1.1.0")
    assert await operated.version() == "1.0.0"
    assert verify(operated.folder / "audit.jsonl") == []


async def test_a_request_keeps_its_version_and_the_version_waits_for_the_request(operated: Operated) -> None:
    async with operated.packs.lease("tiny") as analyser:
        await promote(operated, "1.1.0")
        await promote(operated, "1.2.0")
        await settle()
        assert analyser.pack.version == "1.0.0"
        assert "unload 1.0.0" not in operated.host.diary
        assert (await operated.packs.unload("tiny@1.1.0")).state == "available"  # nobody used it
        assert operated.host.diary[-1] == "unload 1.1.0"
    await settle()
    assert "unload 1.0.0" in operated.host.diary


async def test_a_version_that_waits_for_its_last_request_can_be_called_back(operated: Operated) -> None:
    await operated.packs.load("tiny@1.1.0")
    async with operated.packs.lease("tiny@1.1.0"):
        unloading = asyncio.create_task(operated.packs.unload("tiny@1.1.0"))
        await eventually(lambda: operated.states()["1.1.0"] == "available")
        assert not unloading.done()
        await operated.packs.load("tiny@1.1.0")
        await unloading
        assert operated.states()["1.1.0"] == "loaded"
    await settle()
    assert operated.host.diary == ["load 1.1.0"]
    assert await operated.version("tiny@1.1.0") == "1.1.0"


async def test_rolling_back_goes_to_the_version_promoted_before_and_unloads_the_withdrawn_one(
    operated: Operated,
) -> None:
    await promote(operated, "1.1.0")
    status = await operated.packs.roll_back("tiny")
    await settle()
    assert (status.pack.version, status.state) == ("1.0.0", "active")
    assert await operated.version() == "1.0.0"
    assert operated.host.diary == ["load 1.1.0", "unload 1.1.0"]
    with pytest.raises(RadserveError, match="no version to roll back to") as caught:
        await operated.packs.roll_back("tiny")
    assert caught.value.code is ErrorCode.PROMOTION_REFUSED


async def test_the_active_version_is_not_unloaded(operated: Operated) -> None:
    with pytest.raises(PackError, match="is active"):
        await operated.packs.unload("tiny@1.0.0")


async def test_a_pack_that_waits_for_an_operator_is_loaded_and_unloaded_again(tmp_path: Path) -> None:
    make_versions(tmp_path / "packs", "1.0.0")
    make_tiny_pack(tmp_path / "packs" / "volumes", "volumes")
    operated = Operated(tmp_path, waiting=frozenset(("volumes",)))
    await operated.packs.load("volumes@1.0.0")
    assert await operated.version("volumes") == "1.0.0"
    again = Operated(tmp_path, waiting=frozenset(("volumes",)))
    assert [pack.name for pack in again.at_start] == ["tiny", "volumes"]  # what was loaded is loaded after a restart
    assert (await operated.packs.unload("volumes@1.0.0")).state == "available"
    with pytest.raises(PackError, match="is not loaded"):
        await operated.version("volumes")
    again = Operated(tmp_path, waiting=frozenset(("volumes",)))
    assert [pack.name for pack in again.at_start] == ["tiny"]


async def test_operations_name_a_version(operated: Operated) -> None:
    with pytest.raises(RadserveError, match="expected NAME@VERSION"):
        await operated.packs.load("tiny")


async def test_a_deprecated_version_warns_with_its_reason_until_the_mark_is_taken_away(operated: Operated) -> None:
    await operated.packs.deprecate("tiny@1.0.0", "trained on one hospital")
    warnings = (await analysed(operated)).result.warnings
    (warning,) = [each for each in warnings if each.code is WarningCode.PACK_DEPRECATED]
    assert "trained on one hospital" in warning.message
    await operated.packs.deprecate("tiny@1.0.0", "")
    codes = {each.code for each in (await analysed(operated)).result.warnings}
    assert WarningCode.PACK_DEPRECATED not in codes


async def test_a_pack_that_came_after_the_start_can_be_promoted(operated: Operated) -> None:
    make_tiny_pack(operated.folder / "packs" / "new", version="2.0.0", seed=9)
    await promote(operated, "2.0.0")
    assert await operated.version() == "2.0.0"


async def test_an_altered_pack_is_not_loaded(operated: Operated) -> None:
    (operated.folder / "packs" / "1.1.0" / "MODEL_CARD.md").write_text("another")
    seal(operated.folder / "packs" / "1.1.0")
    with pytest.raises(PackError, match="changed on disk"):
        await operated.packs.load("tiny@1.1.0")


async def test_what_was_decided_holds_after_a_restart(operated: Operated) -> None:
    await promote(operated, "1.1.0")
    await operated.packs.shadow("tiny@1.2.0", on=True)
    await operated.packs.deprecate("tiny@1.0.0", "old")
    again = Operated(operated.folder)
    assert {pack.version for pack in again.at_start} == {"1.0.0", "1.1.0", "1.2.0"}
    assert again.states() == {"1.0.0": "previous", "1.1.0": "active", "1.2.0": "shadow"}
    assert [status.deprecated for status in again.packs.listing()] == ["old", "", ""]
    await again.packs.roll_back("tiny")
    assert await again.version() == "1.0.0"
    actions = [(entry["action"], entry["version"]) for entry in verify(operated.folder / "audit.jsonl")]
    assert actions == [
        ("promote", "1.1.0"),
        ("shadow on", "1.2.0"),
        ("deprecate", "1.0.0"),
        ("rollback", "1.0.0"),
    ]


async def test_an_active_version_exchanged_on_disk_is_not_served_and_no_other_takes_its_place(
    operated: Operated, caplog: pytest.LogCaptureFixture
) -> None:
    await promote(operated, "1.1.0")
    make_tiny_pack(operated.folder / "packs" / "1.1.0", version="1.1.0", seed=77)
    with caplog.at_level(logging.ERROR):
        again = Operated(operated.folder)
    assert "1.1.0" in caplog.text
    with pytest.raises(PackError) as caught:
        await again.version()
    assert caught.value.code is ErrorCode.PACK_HASH_MISMATCH


async def test_a_shadow_sees_what_the_active_version_answers_and_delivers_nothing(operated: Operated) -> None:
    async with operated.shadows.running():
        await operated.packs.shadow("tiny@1.1.0", on=True)
        delivered = (await analysed(operated)).result
        await operated.shadows.settled()
        shadow = operated.catalogue.get("tiny@1.1.0")
        summary = operated.shadows.store.summary(shadow)
    assert delivered.pack.version == "1.0.0"
    assert (summary.studies, summary.failures) == (1, 0)
    (label,) = summary.labels
    expected = (await analysed(operated, "tiny@1.1.0")).result.findings[0].probability
    assert label.mean_difference == pytest.approx(expected - delivered.findings[0].probability, abs=1e-12)
    assert operated.packs.listing()[1].users == 0


async def test_a_shadow_does_not_watch_itself_nor_go_on_when_it_is_promoted_or_ended(operated: Operated) -> None:
    with pytest.raises(RadserveError, match="its own shadow"):
        await operated.packs.shadow("tiny@1.0.0", on=True)
    await operated.packs.shadow("tiny@1.1.0", on=True)
    await promote(operated, "1.1.0")
    assert operated.states()["1.1.0"] == "active"
    await operated.packs.shadow("tiny@1.2.0", on=True)
    await operated.packs.shadow("tiny@1.2.0", on=False)
    await settle()
    assert operated.states()["1.2.0"] == "available"
    async with operated.shadows.running():
        await analysed(operated)
        await operated.shadows.settled()
        assert operated.shadows.store.summary(operated.catalogue.get("tiny@1.2.0")).studies == 0


async def test_a_shadow_that_fails_is_counted_and_the_answer_stands(operated: Operated) -> None:
    async with operated.shadows.running():
        await operated.packs.shadow("tiny@1.1.0", on=True)
        read = operated.source.read_image
        images_read = 0

        async def read_twice(instance: object) -> object:
            nonlocal images_read
            images_read += 1
            if images_read > 2:  # the answer reads it once, and once for its overlay
                raise ModelError(ErrorCode.MODEL_UNAVAILABLE, "gone")
            return await read(instance)  # type: ignore[arg-type]

        operated.source.read_image = read_twice  # type: ignore[method-assign,assignment]
        (await analysed(operated)).result  # noqa: B018
        images_read = 2
        await operated.shadows.settled()
    summary = operated.shadows.store.summary(operated.catalogue.get("tiny@1.1.0"))
    assert (summary.studies, summary.failures) == (0, 1)
