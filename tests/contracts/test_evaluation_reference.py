"""docs/evaluation-reference.md names every key that the commands write, and its example runs."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from radserve.evaluation.cli import evaluate_app

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation-reference.md").read_text()
# Where the input names the keys: columns, groups, readers, labels.
NAMED_BY_THE_INPUT = frozenset(
    {"scores", "groups", "auc", "fom", "means", "curves", "sites", "strategies", "hypotheses"}
)
LISTED_ELSEWHERE = frozenset({"n_by_split", "inside", "labels", "heavy", "calibrated"})

CASES = """y,a,b,site,clean,noise@1,reference,text
""" + "".join(
    f"{case % 2},{(case % 7 + case % 2) / 9},{(case % 5) / 9},{'NS'[case // 3 % 2]},{(case % 7) / 9},{(case % 5) / 9}"
    f",{('No effusion.', 'Pneumonia.')[case % 2]},{('No effusion.', 'Pneumonia on the left.')[case % 3 % 2]}\n"
    for case in range(24)
)
READINGS = "reader,treatment,case,truth,rating\n" + "".join(
    f"{reader},{treatment},{case},{case % 2},{(case * 7 + reader * 5 + treatment * 3) % 11 + 3 * (case % 2)}\n"
    for reader in (1, 2, 3)
    for treatment in (1, 2)
    for case in range(12)
)
FREE_CASES = "case\n" + "".join(f"{case}\n" for case in range(6))
LESIONS = "case,lesion\n0,1\n1,1\n2,1\n"
MARKS = "modality,reader,case,type,lesion,rating\n" + "".join(
    f"{modality},{reader},{case},{'LL,1' if case < 3 else 'NL,'},{(case * 5 + reader + modality) % 7}\n"
    for modality in (1, 2)
    for reader in (1, 2)
    for case in range(6)
)
ROC = "--label y --score a --score b --compare a:b --partial-auc 1,0.9 --threshold 0.5 --prevalence 0.1 --group site"
COMMANDS = {
    "roc": f"roc cases.csv {ROC} --bootstrap 20 --at-sensitivity 0.9 --at-specificity 0.9",
    "mrmc": "mrmc readings.csv --reader reader --treatment treatment --case case --truth truth --rating rating",
    "froc": "froc --marks marks.csv --lesions lesions.csv --cases free.csv",
    "calibration": "calibration cases.csv --label y --score a --site site --fit temperature --fit platt --fit isotonic",
    "decision-curve": "decision-curve cases.csv --label y --score a",
    "fairness": "fairness cases.csv --label y --score a --group site --minimum-size 5 --minimum-class 2",
    "robustness": "robustness cases.csv --label y",
    "report-text": "report-text cases.csv --reference reference --hypothesis text --hypothesis reference --bootstrap 9",
    "duplicates": "duplicates images.npz --allow-overlap",
    "compare": "compare cases.csv cases.csv --label y --score a",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tables = {"cases": CASES, "readings": READINGS, "free": FREE_CASES, "lesions": LESIONS, "marks": MARKS}
    for name, text in tables.items():
        (tmp_path / f"{name}.csv").write_text(text)
    images = np.random.default_rng(0).integers(0, 255, (2, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", train_images=images, test_images=images)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys_of(value: object, key: str = "") -> Iterator[str]:
    """Every key of the contract at any depth; not the names that the input gave."""
    if isinstance(value, dict):
        if key not in NAMED_BY_THE_INPUT | LISTED_ELSEWHERE:
            yield from value
        # Below a name of the input stand keys of the contract again, or readers, whose names here are numbers.
        for name, each in value.items():
            yield from keys_of(each, name if key not in NAMED_BY_THE_INPUT else "")
    elif isinstance(value, list):
        for each in value:
            yield from keys_of(each)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("folder")
def test_every_key_that_a_command_writes_is_in_its_section(command: str) -> None:
    run = CliRunner().invoke(evaluate_app, [*COMMANDS[command].split(), "--json", "-"])
    assert run.exit_code == 0, (run.output, run.exception)
    result = json.loads(run.stdout)
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (text,) = (each for each in section if each.startswith(f"{command}\n"))
    if command in ("froc", "compare"):
        text += next(each for each in section if each.startswith({"froc": "mrmc", "compare": "roc"}[command]))
    documented = set(re.findall(r"`([\w@-]+)`", text))
    written = {key for key in keys_of(result) if not re.fullmatch(r"\d+", key)}
    assert written - documented == set()


def test_the_example_of_the_library_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    run = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert re.fullmatch(r"AUROC 0\.\d{4} \(0\.\d{4} to 0\.\d{4}\), A - B -?0\.\d{4}, p \d\.\d{4}\n", run.stdout), (
        run.stderr
    )


def test_the_functions_that_the_page_names_exist() -> None:
    for modules, functions in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (`\w+.*) \|$", PAGE, re.MULTILINE):
        found: set[str] = set()
        for module in re.findall(r"`(\w+)`", modules):
            found |= set(vars(importlib.import_module(f"radserve.evaluation.{module}")))
        assert set(re.findall(r"`(\w+)`", functions)) <= found, modules
