"""Annotations come in from tables and SRs and go out equal."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from radserve.dicom_io.annotations import COLUMNS, Annotation, AnnotationTable, Presence, read_csv, write_csv
from radserve.dicom_io.annotations_sr import read_sr
from radserve.dicom_io.write_sr import write_sr
from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.references import StudyRef
from tests.dicom_io.test_index import Site, postgres_url, site, url
from tests.dicom_io.test_store import instance, put
from tests.support.dicoms import cr, save, uid, us
from tests.support.results import sample_image, sample_result

__all__ = ["postgres_url", "site", "url"]  # fixtures


def annotation(number: int, **given: object) -> Annotation:
    values = {
        "annotation_uid": "",
        "study_instance_uid": f"1.2.{number % 7}",
        "series_instance_uid": "1.3",
        "sop_instance_uid": f"1.4.{number}",
        "frame": 1 + number % 3,
        "scheme": "SCT",
        "code": "233604007",
        "meaning": 'Pneumonia, "left"\nlower lobe; 肺炎',
        "presence": list(Presence)[number % 4],
        "outline": f"{number / 3} 0.1;7.25 1e-07;{number}.5 9" if number % 2 else "",
        "annotator": "",
    }
    return Annotation(**{**values, **given})  # type: ignore[arg-type]


def written(folder: Path, annotations: list[Annotation]) -> Path:
    path = folder / "table.csv"
    path.write_text(write_csv(annotations), encoding="utf-8", newline="")
    return path


def test_a_table_reads_back_as_it_was_written_and_in_one_order(tmp_path: Path) -> None:
    given = [annotation(number) for number in range(200)]
    read = read_csv(written(tmp_path, given[::-1]))
    assert sorted(read, key=lambda each: each.annotation_uid) == sorted(given, key=lambda each: each.annotation_uid)
    assert write_csv(read) == write_csv(given)
    assert len({each.annotation_uid for each in read}) == 200


async def test_what_is_imported_is_exported_equal_and_once(site: Site, tmp_path: Path) -> None:
    table = AnnotationTable(site.database)
    given = [annotation(number) for number in range(50)]
    assert await table.add(given) == 50
    assert await table.add([*given, annotation(50)]) == 1
    assert write_csv(await table.all()) == write_csv([*given, annotation(50)])
    other = replace(given[0], presence=Presence.UNDETERMINED)
    with pytest.raises(RadserveError, match="one that no other annotation has"):
        await table.add([annotation(60), other])
    assert len(await table.all()) == 51  # all or none


async def test_an_erased_study_takes_its_annotations_along(site: Site) -> None:
    await put(site.store, instance(study="s"))
    study = uid("study", "s")
    table = AnnotationTable(site.database)
    await table.add([annotation(1, study_instance_uid=study), annotation(2)])
    await site.store.erase(StudyRef(study))
    assert await table.all() == [annotation(2)]


@pytest.mark.parametrize("frames", [1, 5])
async def test_the_findings_of_an_sr_come_in_and_go_out_equal(site: Site, tmp_path: Path, frames: int) -> None:
    pixels = np.zeros((frames, 60, 80) if frames > 1 else (60, 80), dtype=np.uint8)
    image = sample_image(us(pixels) if frames > 1 else cr(pixels))
    result = sample_result(image)
    path = tmp_path / "sr.dcm"
    path.write_bytes(write_sr(result))
    found = read_sr(path)
    assert len(found) == len(result.findings)
    for each, finding in zip(found, result.findings, strict=True):
        assert (each.scheme, each.code, each.meaning) == (
            *(finding.code.scheme, finding.code.value),
            finding.code.meaning,
        )
        assert each.presence is (Presence.PRESENT if finding.positive else Presence.ABSENT)
        assert each.sop_instance_uid == finding.region.instance.sop_instance_uid
        assert each.series_instance_uid == finding.region.instance.series_instance_uid
        assert each.frame == finding.region.frame
        points = [tuple(map(float, point.split())) for point in each.outline.split(";")]
        np.testing.assert_allclose(points, finding.region.outline, rtol=1e-6)
        assert "Doe" not in repr(each)
    table = AnnotationTable(site.database)
    await table.add(found)
    assert sorted(read_csv(written(tmp_path, await table.all())), key=repr) == sorted(found, key=repr)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"frame": "0"}, "frame"),
        ({"frame": "one"}, "frame"),
        ({"presence": "perhaps"}, "presence"),
        ({"sop_instance_uid": "../../x"}, "sop_instance_uid"),
        ({"outline": "1 2;3 4"}, "at least 3 points"),
        ({"outline": "1 2;3 4;nan 2"}, "finite"),
        ({"outline": "1,2;3,4;5,6"}, "pairs"),
        ({"code": ""}, "code"),
    ],
)
def test_a_row_that_cannot_be_is_refused_by_its_number(tmp_path: Path, change: dict[str, str], named: str) -> None:
    rows = list(csv.DictReader(io.StringIO(write_csv([annotation(number) for number in range(3)]))))
    rows[1] |= change
    with (tmp_path / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(RadserveError, match=f"row 3: .*{named}") as caught:
        read_csv(tmp_path / "table.csv")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    for text in ("", "a,b\n1,2\n", ",".join((*COLUMNS, "more")) + "\n"):
        path.write_text(text)
        with pytest.raises(RadserveError, match="columns"):
            read_csv(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RadserveError, match="UTF-8"):
        read_csv(path)


def test_an_image_and_a_text_are_no_sr(tmp_path: Path) -> None:
    image = save(cr(np.zeros((8, 8), np.uint16)), tmp_path / "image.dcm")
    text = tmp_path / "text.dcm"
    text.write_text("Doe^Jane")
    for path in (image, text):
        with pytest.raises(DicomError) as caught:
            read_sr(path)
        assert caught.value.code is ErrorCode.NOT_DICOM
        assert "Doe" not in str(caught.value)
