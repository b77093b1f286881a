"""The official test splits: what the pack records, what its weights give in PyTorch, what the whole served path gives.

Served means DICOM files, one `radserve infer`, result.json.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.served_auroc import ServedScores, measure
from radserve.models.catalogue import built_in_folder
from radserve.models.train.assess import Readings
from radserve.models.train.evaluate import EVALUATION_FILE, evaluate, read_test_splits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
TARGETS = {"Pneumonia": 0.975, "Malignant breast lesion": 0.9}
PACK = built_in_folder() / "cxr-bus-mini"


@pytest.fixture(scope="module")
def served(medmnist: Path, tmp_path_factory: pytest.TempPathFactory) -> ServedScores:
    return measure(medmnist, tmp_path_factory.mktemp("auroc"), "test")


@pytest.fixture(scope="module")
def direct(medmnist: Path) -> Mapping[str, Readings]:
    """PyTorch alone: no ONNX, no DICOM, no server."""
    return read_test_splits(PACK, medmnist)


def test_every_study_of_the_test_splits_has_a_result(served: ServedScores) -> None:
    assert served.exit_code == 0
    assert served.counts == {"Pneumonia": 624, "Malignant breast lesion": 156}


@pytest.mark.parametrize("finding", list(TARGETS))
def test_auroc_reaches_its_target(served: ServedScores, finding: str) -> None:
    assert served.auroc(finding) >= TARGETS[finding]


@pytest.mark.parametrize("finding", list(TARGETS))
def test_served_scores_are_those_of_pytorch(served: ServedScores, direct: Mapping[str, Readings], finding: str) -> None:
    scores = direct[finding].scores
    assert max(abs(served.scores[finding] - scores)) < 1e-4
    assert served.auroc(finding) == pytest.approx(served.auroc_of(finding, scores), abs=1e-3)


def test_the_recorded_test_auroc_is_reproduced_and_reaches_its_target(
    direct: Mapping[str, Readings], medmnist: Path, tmp_path: Path
) -> None:
    recorded = json.loads((PACK / EVALUATION_FILE).read_text())
    copy = Path(shutil.copytree(PACK, tmp_path / "pack"))
    results = evaluate(copy, medmnist, direct)
    assert results.keys() == recorded.keys() == TARGETS.keys()
    for label, figures in results.items():
        assert figures.auroc == pytest.approx(recorded[label]["auroc"], abs=1e-3)
        assert figures.auroc >= TARGETS[label]
        assert figures.auroc_low < figures.auroc < figures.auroc_high
        assert figures.text_accuracy == pytest.approx(recorded[label]["text_accuracy"], abs=2e-2)
    assert json.loads((copy / EVALUATION_FILE).read_text()).keys() == recorded.keys()
