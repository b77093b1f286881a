"""The official test splits through the whole served path: DICOM files, one `radserve infer`, result.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.served_auroc import ServedScores, measure, pytorch_scores

TARGETS = {"Pneumonia": 0.94, "Malignant breast lesion": 0.85}


@pytest.fixture(scope="module")
def served(medmnist: Path, tmp_path_factory: pytest.TempPathFactory) -> ServedScores:
    return measure(medmnist, tmp_path_factory.mktemp("auroc"), "test")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_study_of_the_test_splits_has_a_result(served: ServedScores) -> None:
    assert served.exit_code == 0
    assert served.counts == {"Pneumonia": 624, "Malignant breast lesion": 156}


@pytest.mark.slow
@pytest.mark.parametrize("finding", list(TARGETS))
def test_auroc_reaches_its_target(served: ServedScores, finding: str) -> None:
    assert served.auroc(finding) >= TARGETS[finding]


@pytest.mark.slow
@pytest.mark.parametrize("finding", list(TARGETS))
def test_served_scores_are_those_of_pytorch(served: ServedScores, finding: str, medmnist: Path) -> None:
    direct = pytorch_scores(medmnist, "test", finding)
    assert max(abs(served.scores[finding] - direct)) < 1e-4
    assert served.auroc(finding) == pytest.approx(served.auroc_of(finding, direct), abs=1e-3)
