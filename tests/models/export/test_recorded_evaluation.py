"""The test figures in the pack are those its weights give, and they are good enough."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from radserve.models.train.evaluate import EVALUATION_FILE, evaluate

_AUROC_AT_LEAST = {"Pneumonia": 0.94, "Malignant breast lesion": 0.85}


@pytest.mark.slow
def test_the_recorded_test_auroc_is_reproduced_and_reaches_its_target(
    tmp_path: Path, pack_folder: Path, data_folder: Path
) -> None:
    recorded = json.loads((pack_folder / EVALUATION_FILE).read_text())
    copy = Path(shutil.copytree(pack_folder, tmp_path / "pack"))
    results = evaluate(copy, data_folder)
    assert results.keys() == recorded.keys() == _AUROC_AT_LEAST.keys()
    for label, figures in results.items():
        assert figures.auroc == pytest.approx(recorded[label]["auroc"], abs=1e-3)
        assert figures.auroc >= _AUROC_AT_LEAST[label]
        assert figures.auroc_low < figures.auroc < figures.auroc_high
