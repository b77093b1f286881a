"""Result folders and true labels become one table of scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from radserve.errors import RadserveError
from radserve.evaluation.collect import collect
from radserve.evaluation.report_reader import PackReportReader
from radserve.evaluation.tables import Table, read_table
from radserve.models.catalogue import PackCatalogue
from radserve.pipelines.draft import WITHHELD
from radserve.server.result_json import result_to_json, to_bytes
from tests.support.dicoms import cr
from tests.support.packs import make_tiny_pack
from tests.support.results import sample_image, sample_result


def write_result(results: Path, study: str, **fields: object) -> str:
    """A result.json as the server writes it; returns the study's UID."""
    image = sample_image(cr(np.zeros((8, 8), np.uint8), study=study))
    result = sample_result(image, timings_ms=(("total", 123.5),), **fields)
    folder = results / result.study_instance_uid
    folder.mkdir(parents=True)
    (folder / "result.json").write_bytes(to_bytes(result_to_json(result)))
    return result.study_instance_uid


def labels(tmp_path: Path, *rows: tuple[str, str, str, str]) -> Table:
    text = "\n".join(",".join(row) for row in (("study_instance_uid", "finding", "label", "site"), *rows))
    (tmp_path / "labels.csv").write_text(text + "\n")
    return read_table(tmp_path / "labels.csv")


def says_present(pack: str, finding: str, text: str) -> str:
    return f"{pack}/{finding}/{bool(text)}"


def test_scores_join_the_labels_and_other_columns_are_kept(tmp_path: Path) -> None:
    one, two = (write_result(tmp_path / "results", study) for study in ("one", "two"))
    table = labels(tmp_path, (two, "Pneumonia", "1", "north"), (one, "Pneumonia", "0", "south"))
    collected = collect(tmp_path / "results", table, says_present)
    collected.write(tmp_path / "scores.csv")
    scores = read_table(tmp_path / "scores.csv")
    assert scores.text("study_instance_uid") == (two, one)
    assert scores.text("site") == ("north", "south")
    assert scores.numbers("score").tolist() == [0.75, 0.75]
    assert scores.numbers("probability").tolist() == [0.87, 0.87]
    assert scores.numbers("total_ms").tolist() == [123.5, 123.5]
    assert collected.warnings == ()


def test_a_study_without_a_result_is_left_out_and_counted(tmp_path: Path) -> None:
    one = write_result(tmp_path / "results", "one")
    table = labels(tmp_path, (one, "Pneumonia", "1", "n"), ("1.2.3", "Pneumonia", "0", "n"))
    collected = collect(tmp_path / "results", table, says_present)
    assert len(collected.rows) == 1
    assert collected.warnings == ("1 of 2 labelled rows have no result and are left out",)


def test_labels_of_no_study_at_all_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(RadserveError, match="none of the 1 labelled rows"):
        collect(tmp_path / "results", labels(tmp_path, ("1.2.3", "Pneumonia", "0", "n")), says_present)


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    one = write_result(tmp_path / "results", "one")
    (tmp_path / "results" / one / "result.json").write_text(json.dumps([1, 2]))
    with pytest.raises(RadserveError, match=r"result\.json is not a result file"):
        collect(tmp_path / "results", labels(tmp_path, (one, "Pneumonia", "0", "n")), says_present)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is pneumonia.", "present"),
        ("No pneumonia.", "absent"),
        ("Pneumonia. No pneumonia.", "both"),
        ("Nothing of note.", "nothing"),
        (WITHHELD, "withheld"),
    ],
)
def test_reports_are_read_by_the_phrases_of_their_pack(tmp_path: Path, text: str, expected: str) -> None:
    make_tiny_pack(tmp_path / "tiny")
    reader = PackReportReader(PackCatalogue([tmp_path / "tiny"], built_in=False))
    assert reader("tiny", "Pneumonia", text) == expected
