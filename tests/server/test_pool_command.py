"""The stored studies as a pool: the probability of each finding with the embedding that it came from."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from radserve.dicom_io.store import StudyStore
from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.models.adapt.selection import read_pool
from radserve.models.pack import load_pack
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.study import Analysis, AnalysisRequest
from radserve.references import StudyRef
from radserve.server import pool_command
from radserve.server.app import decoder_pool
from radserve.server.cli import app
from radserve.server.pool_command import gather, write_pool
from radserve.server.records import opened_records
from radserve.server.settings import Settings
from tests.support.dicoms import cr, part10
from tests.support.other_packs import make_classifier_pack
from tests.support.packs import make_tiny_pack
from tests.support.pipeline import MemorySource, analyser_of, images_of


@pytest.fixture
def images() -> list:
    return [*images_of(3, study="one"), *images_of(1, study="two", series="b")]


async def test_a_case_has_the_probability_of_the_studys_finding_and_a_unit_embedding(
    images: list, tmp_path: Path
) -> None:
    pack = load_pack(make_tiny_pack(tmp_path / "tiny"))
    analyser, _, source = await analyser_of(pack, images)
    cases, unread = await gather(pack, "Pneumonia", source)
    assert unread == []
    assert len(cases) == 2
    for case in cases:
        request = AnalysisRequest(StudyRef(case.study_instance_uid), report=False)
        events = [event async for event in analyser.analyse(request, Deadline())]
        assert isinstance(events[-1], Analysis)
        (finding,) = events[-1].result.findings
        assert case.probability == pytest.approx(finding.probability, abs=1e-6)
        label = pack.label("Pneumonia")
        direction = analyser.prompts.directions["Pneumonia"]
        logit = label.scoring.logit_scale * (case.embedding @ direction) / label.temperature
        assert case.probability == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    write_pool(tmp_path / "pool.csv", cases)
    pool = read_pool(tmp_path / "pool.csv")
    assert pool.cases == tuple(case.study_instance_uid for case in cases)
    np.testing.assert_array_equal(pool.embeddings.astype(np.float32), np.stack([case.embedding for case in cases]))
    with pytest.raises(RadserveError, match="cannot be written"):
        write_pool(tmp_path / "pool.csv", cases)


async def test_a_study_that_cannot_be_read_is_named_with_its_cause_and_the_others_are_there(
    images: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = load_pack(make_tiny_pack(tmp_path / "tiny"))
    source = MemorySource(images)
    broken = images[-1].instance
    read = source.read_image

    async def read_image(instance: object) -> object:
        if instance == broken:
            raise RadserveError(ErrorCode.INVALID_ARGUMENT, "broken")
        return await read(instance)  # type: ignore[arg-type]

    monkeypatch.setattr(source, "read_image", read_image)
    cases, unread = await gather(pack, "Pneumonia", source)
    assert [case.study_instance_uid for case in cases] == [images[0].instance.study_instance_uid]
    assert [(study, str(error.code)) for study, error in unread] == [(broken.study_instance_uid, "INVALID_ARGUMENT")]


def test_a_pack_without_an_encoder_an_unknown_label_and_no_case_are_refused(images: list, tmp_path: Path) -> None:
    classifier = load_pack(make_classifier_pack(tmp_path / "halves"))
    with pytest.raises(PackError, match="no image encoder"):
        asyncio.run(gather(classifier, "Bright left", MemorySource(images)))
    tiny = load_pack(make_tiny_pack(tmp_path / "tiny"))
    with pytest.raises(PackError, match="no label 'Mass'"):
        asyncio.run(gather(tiny, "Mass", MemorySource(images)))
    with pytest.raises(RadserveError, match="no stored study"):
        write_pool(tmp_path / "pool.csv", asyncio.run(gather(tiny, "Malignant breast lesion", MemorySource(images)))[0])


def test_the_table_is_what_select_reads(images: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tiny_pack(tmp_path / "tiny")

    async def on_store(settings: SimpleNamespace, pack: object, label: str) -> object:
        del settings
        return await gather(pack, label, MemorySource(images))  # type: ignore[arg-type]

    monkeypatch.setattr(pool_command, "_on_store", on_store)
    where = ["--pack", "tiny", "--pack-dir", str(folder), "--label", "Pneumonia", "--out", str(tmp_path / "pool.csv")]
    made = CliRunner().invoke(app, ["pool", *where])
    assert made.exit_code == 0, made.output
    chosen = CliRunner().invoke(
        app, ["select", str(tmp_path / "pool.csv"), "--count", "1", "--out", str(tmp_path / "chosen.csv")]
    )
    assert chosen.exit_code == 0, chosen.output
    with (tmp_path / "chosen.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["case"] in {image.instance.study_instance_uid for image in images}


def test_studies_that_a_server_has_stored_are_read(tmp_path: Path) -> None:
    folder, settings = make_tiny_pack(tmp_path / "tiny"), Settings(data_dir=tmp_path / "data")
    pixels = np.random.default_rng(4).integers(0, 256, (64, 48)).astype(np.uint8)

    async def store() -> None:
        async with opened_records(settings) as records, decoder_pool(settings) as workers:
            made = StudyStore(settings.data_dir / "studies", workers, None, records.index, records.options)
            await made.open()
            async with made.receive() as incoming:
                incoming.write(part10(cr(pixels, study="stored", PatientAge="003Y", BodyPartExamined="CHEST")))
                await incoming.commit()
            await made.close()

    asyncio.run(store())
    where = ["--pack", "tiny", "--pack-dir", str(folder), "--label", "Pneumonia", "--out", str(tmp_path / "pool.csv")]
    run = CliRunner().invoke(app, ["pool", *where, "--data-dir", str(settings.data_dir)])
    assert run.exit_code == 0, run.output
    pool = read_pool(tmp_path / "pool.csv")
    assert len(pool.cases) == 1
    assert np.linalg.norm(pool.embeddings[0]) == pytest.approx(1, abs=1e-5)


def test_an_empty_data_folder_is_told_as_such(tmp_path: Path) -> None:
    where = ["--pack", "cxr-bus-mini", "--label", "Pneumonia", "--out", str(tmp_path / "pool.csv")]
    run = CliRunner().invoke(app, ["pool", *where, "--data-dir", str(tmp_path / "data")])
    assert isinstance(run.exception, RadserveError)
    assert "no stored study" in run.exception.client_message
