"""The commands calibration, decision-curve, fairness, robustness, duplicates and drift, from file to JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.evaluation.published import published
from tests.support.evaluating import invoke, refused, run, texture, write_csv


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    true = rng.normal(-0.5, 1.5, 400)
    labels = (rng.random(400) < 1 / (1 + np.exp(-true))).astype(int)
    noisy = {f"noise@{s}": 1 / (1 + np.exp(-(true + s * rng.normal(size=400)))) for s in (1, 3, 5)}
    columns = {
        "y": labels.tolist(),
        "p": (1 / (1 + np.exp(-2.5 * true))).tolist(),
        "logit": (2.5 * true).tolist(),
        "clean": (1 / (1 + np.exp(-true))).tolist(),
        **{name: values.tolist() for name, values in noisy.items()},
        "site": rng.choice(["north", "south"], 400).tolist(),
        "sex": rng.choice(["F", "M", "NA"], 400, p=[0.45, 0.45, 0.1]).tolist(),
        "age": rng.integers(1, 95, 400).tolist(),
    }
    return write_csv(tmp_path / "scores.csv", columns)


def test_calibration_gives_errors_before_and_after_by_site_and_the_same_bytes_again(scores: Path) -> None:
    command = ("calibration", scores, "--label", "y", "--score", "p", "--site", "site")
    fits = ("--fit", "temperature", "--fit", "platt", "--fit", "isotonic", "--fit-on", scores)
    result = run(*command, *fits)
    block = result["scores"]["p"]
    assert set(block["sites"]) == {"north", "south"}
    assert block["calibration"]["n"] == sum(site["n"] for site in block["sites"].values()) == 400
    assert result["fitted_on"]["rows"] == 400
    before = block["calibration"]["errors"]["l1"]
    for method in ("temperature", "platt", "isotonic"):
        assert block["calibrated"][method]["calibration"]["errors"]["l1"] < before
    assert block["calibrated"]["temperature"]["auroc"] == pytest.approx(block["auroc"], abs=1e-15)
    assert block["calibrated"]["temperature"]["parameters"]["temperature"] == pytest.approx(2.5, abs=0.5)
    assert invoke(*command, *fits).stdout == invoke(*command, *fits).stdout


def test_logits_give_what_their_probabilities_give(scores: Path) -> None:
    one = run("calibration", scores, "--label", "y", "--score", "p", "--fit", "temperature")
    other = run("calibration", scores, "--label", "y", "--score", "logit", "--logits", "--fit", "temperature")
    assert "same rows" in one["warnings"][0]
    a, b = one["scores"]["p"], other["scores"]["logit"]
    assert a["calibration"]["errors"]["l1"] == pytest.approx(b["calibration"]["errors"]["l1"], abs=1e-12)
    assert a["calibrated"]["temperature"]["parameters"]["temperature"] == pytest.approx(
        b["calibrated"]["temperature"]["parameters"]["temperature"], rel=1e-9
    )


def test_calibration_refuses_a_score_that_is_no_probability(scores: Path) -> None:
    message = refused("calibration", scores, "--label", "y", "--score", "logit")
    assert message.startswith("column 'logit', row ")
    assert "expected a probability from 0 to 1" in message


def test_decision_curve_gives_the_numbers_of_dcurves() -> None:
    file = published("dca_df_binary.csv")
    result = run(
        *("decision-curve", file, "--label", "cancer", "--score", "famhistory", "--score", "marker"),
        *("--as-probability", "marker", "--harm", "marker=0.0333", "--thresholds", "0:0.35:0.01"),
    )
    at = result["thresholds"].index(0.2)
    assert result["strategies"]["famhistory"]["net_benefit"][at] == pytest.approx(0.0016666666666666635, abs=1e-12)
    assert result["strategies"]["marker"]["net_benefit"][at] == pytest.approx(-0.004300000000000002, abs=1e-12)
    assert result["strategies"]["treat_all"]["interventions_avoided"][0] is None
    assert "threshold 0" in result["warnings"][0]
    assert "optimistic" in result["warnings"][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--thresholds", "a:b"), "--thresholds: got 'a:b'"),
        (("--thresholds", "0.5:0.1:0.1"), "thresholds: got 0.5:0.1:0.1"),
        (("--harm", "p"), "--harm: got 'p'"),
        (("--as-probability", "age"), "expected one of the --score columns"),
        (("--as-probability", "p", "--prevalence", "0.1"), "case-control"),
    ],
)
def test_decision_curve_refuses_bad_options(scores: Path, options: tuple[str, ...], message: str) -> None:
    assert message in refused("decision-curve", scores, "--label", "y", "--score", "p", *options)


def test_fairness_reports_groups_bands_and_intersections(scores: Path) -> None:
    result = run(
        *("fairness", scores, "--label", "y", "--score", "clean", "--group", "sex", "--group", "site"),
        *("--age", "age", "--permutations", "99", "--seed", "1"),
    )
    attributes = {each["attribute"] for each in result["groups"]}
    assert {"sex", "site", "age band", "sex x site", "sex x age band", "site x age band"} == attributes
    assert {"F", "M", "(missing)"} == {each["group"] for each in result["groups"] if each["attribute"] == "sex"}
    assert any(each["status"] == "insufficient" for each in result["groups"])
    assert any(each["method"].startswith("permutation") for each in result["tests"])
    assert all(each["p_adjusted"] >= each["p"] for each in result["tests"])
    plain = run("fairness", scores, "--label", "y", "--score", "clean", "--group", "sex", "--no-intersections")
    assert {each["attribute"] for each in plain["groups"]} == {"sex"}


def test_fairness_refuses_no_group_and_an_impossible_age(scores: Path, tmp_path: Path) -> None:
    assert "no group column" in refused("fairness", scores, "--label", "y", "--score", "p")
    bad = write_csv(tmp_path / "bad.csv", {"y": [0, 1], "p": [0.1, 0.2], "age": [5, "old"]})
    message = refused("fairness", bad, "--label", "y", "--score", "p", "--age", "age")
    assert message == "column 'age', row 2: got 'old', expected an age from 0 to 150 years"


def test_robustness_reads_the_conditions_from_the_columns(scores: Path) -> None:
    command = ("robustness", scores, "--label", "y", "--clean", "clean")
    result = run(*command, "--baseline", scores)
    assert [(each["corruption"], each["severity"]) for each in result["conditions"]] == [
        ("noise", 1),
        ("noise", 3),
        ("noise", 5),
    ]
    drops = [each["auroc_drop"] for each in result["conditions"]]
    assert drops == sorted(drops)
    assert drops[0] > 0
    assert (result["mean_relative_error"], result["mean_corruption_error"]) == (1.0, 1.0)
    named = run(*command, "--corrupted", "blur@2=p")
    assert [(each["corruption"], each["severity"]) for each in named["conditions"]] == [("blur", 2)]
    assert named["mean_relative_error"] is None
    assert "no baseline" in named["warnings"][0]


def test_robustness_refuses_columns_it_cannot_place(scores: Path, tmp_path: Path) -> None:
    command = ("robustness", scores, "--label", "y", "--clean", "clean")
    assert "got 'blur@9'" in refused(*command, "--corrupted", "blur@9=p")
    plain = write_csv(tmp_path / "plain.csv", {"y": [0, 1], "clean": [0.1, 0.2]})
    assert "no column named CORRUPTION@SEVERITY" in refused("robustness", plain, "--label", "y")
    other = write_csv(tmp_path / "other.csv", {"y": [1, 0], "clean": [0.1, 0.2], "blur@1": [0.1, 0.2]})
    mine = write_csv(tmp_path / "mine.csv", {"y": [0, 1], "clean": [0.1, 0.2], "blur@1": [0.1, 0.2]})
    assert "labels in other.csv" in refused("robustness", mine, "--label", "y", "--baseline", other)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for seed in range(4):
        PillowImage.fromarray(texture(seed)).save(tmp_path / f"{seed}.png")
    PillowImage.fromarray(texture(0)).save(tmp_path / "again.jpg", quality=70)
    np.save(tmp_path / "array.npy", texture(5))
    columns = {
        "file": ["0.png", "1.png", "2.png", "3.png", "again.jpg", "array.npy"],
        "split": ["train", "train", "train", "test", "test", "test"],
        "patient": ["a", "b", "c", "d", "a", "e"],
    }
    return write_csv(tmp_path / "manifest.csv", columns)


def test_duplicates_refuses_an_overlap_with_exit_code_1_and_writes_what_it_found(manifest: Path) -> None:
    out = manifest.with_name("found.json")
    command = [sys.executable, "-m", "radserve.evaluation", "duplicates", str(manifest), "--patient", "patient"]
    done = subprocess.run([*command, "--json", str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("INVALID_ARGUMENT: splits overlap: train and test share 0 exact and 1 near")
    found = json.loads(out.read_text())
    assert [(each["rows"], each["kind"], each["same_patient"]) for each in found["pairs"]] == [([1, 5], "near", True)]
    assert found["overlaps"] == [{"splits": ["train", "test"], "exact": 0, "near": 1, "shared_patients": 1}]


def test_duplicates_goes_on_with_allow_overlap_and_without_an_overlap(manifest: Path) -> None:
    assert run("duplicates", manifest, "--allow-overlap")["overlaps"]
    clean = write_csv(manifest.with_name("clean.csv"), {"file": ["0.png", "3.png"], "split": ["train", "test"]})
    assert run("duplicates", clean)["overlaps"] == []


def test_duplicates_reads_npz_splits(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    one, two = np.stack([texture(1), texture(2)]), np.stack([texture(3), texture(1)])
    np.savez(path, train_images=one, test_images=two, train_labels=np.zeros(2))
    result = run("duplicates", path, "--allow-overlap")
    assert [(each["rows"], each["kind"]) for each in result["pairs"]] == [([1, 4], "exact")]
    assert result["n_by_split"] == {"train": 2, "test": 2}


def test_duplicates_refuses_files_that_are_no_images(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    table = write_csv(tmp_path / "bad.csv", {"file": ["0.png", "text.png"], "split": ["train", "test"]})
    assert refused("duplicates", table).startswith("column 'file', row 2: got 'text.png', expected a PNG")
    (tmp_path / "bad.npz").write_text("no arrays")
    assert "not a .npz" in refused("duplicates", tmp_path / "bad.npz")


def test_drift_alarms_on_a_shift_and_names_the_window(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    before = write_csv(tmp_path / "before.csv", {"score": rng.normal(size=400), "age": rng.normal(size=400)})
    shifted = np.concatenate([rng.normal(size=200), rng.normal(1.0, 1, size=200)])
    after = write_csv(tmp_path / "after.csv", {"score": shifted, "age": rng.normal(size=400)})
    options = ("--column", "score", "--column", "age", "--permutations", "399", "--window", "50")
    result = run("drift", before, after, *options)
    assert result["alarm"] is True
    assert result["features"]["score"]["alarm"] is True
    assert result["features"]["age"]["alarm"] is False
    assert 200 < result["monitoring"]["score"]["first_alarm_study"] <= 300
    assert result["monitoring"]["age"]["first_alarm_study"] is None
    assert "row 1: got 'x'" in refused(
        "drift", write_csv(tmp_path / "x.csv", {"score": ["x"]}), after, "--column", "score"
    )
