"""Data without a card, with a patient on both sides, or unreadable are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radserve.errors import ErrorCode, RadserveError
from radserve.models.adapt.dataset import read_images
from radserve.models.adapt.manifest import read_manifest
from tests.support.planted import CARD, write_manifest

TASK = '[task]\nlabel = "Pneumonia"\ninput = "chest radiograph"\n'


def written(folder: Path, file: str = "data.csv", *, task: str = TASK, card: str = CARD) -> Path:
    return write_manifest(folder / "manifest.toml", file, task, card=card)


def table(folder: Path, *, patient_of_last: str = "p11") -> Path:
    rows = ["image,label,patient,split"]
    for number in range(12):
        pixels = np.full((4, 5), number, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        patient = patient_of_last if number == 11 else f"p{number}"
        rows.append(f"{number}.png,{number % 2},{patient},{('train', 'val', 'test')[number // 4]}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    return written(folder)


@pytest.mark.parametrize("field", ["name", "source", "licence", "consent_basis"])
def test_a_card_with_a_field_missing_or_empty_refuses_the_run(tmp_path: Path, field: str) -> None:
    kept = [line for line in CARD.splitlines() if not line.startswith(field)]
    for card in ("\n".join(kept), "\n".join([*kept, f'{field} = ""'])):
        with pytest.raises(RadserveError, match=rf"card\.{field}") as caught:
            read_manifest(written(tmp_path, card=card))
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_manifest_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    for extra, cause in (
        ("shotz = 1", "task.shotz: unknown key"),
        ("seeds = [1, 2]", r"task\.seeds"),
        ('method = "svm"', r"task\.method: .*'prototype'.*, got 'svm'"),
    ):
        with pytest.raises(RadserveError, match=cause):
            read_manifest(written(tmp_path, task=TASK + extra))


def test_a_table_of_files_is_read_with_its_splits(tmp_path: Path) -> None:
    images = read_images(read_manifest(table(tmp_path)))
    assert [image[0, 0] for image in images.images] == list(range(12))
    assert images.positive.tolist() == [False, True] * 6
    assert images.of("val").tolist() == [4, 5, 6, 7]
    assert images.warnings == ()


def test_a_patient_in_two_splits_is_refused_without_being_named(tmp_path: Path) -> None:
    with pytest.raises(RadserveError, match="row 12: its patient is in the splits 'train' and 'test'") as caught:
        read_images(read_manifest(table(tmp_path, patient_of_last="p0")))
    assert "p0" not in caught.value.client_message


def test_a_file_outside_the_folder_and_one_that_is_no_image_are_refused(tmp_path: Path) -> None:
    manifest = table(tmp_path)
    text = (tmp_path / "data.csv").read_text()
    for name, cause in (("../secret.png", "outside the table's folder"), ("data.csv", "cannot be read")):
        (tmp_path / "data.csv").write_text(text.replace("3.png", name))
        with pytest.raises(RadserveError, match=f"row 4: the image .*{cause}"):
            read_images(read_manifest(manifest))
