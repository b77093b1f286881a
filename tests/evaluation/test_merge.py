"""Site summaries: the merged counts are those of the pooled rows, and no row is in a summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import confusion_matrix, roc_auc_score
from typer.testing import CliRunner

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.cli import evaluate_app
from radserve.evaluation.merge import binned_auc, homogeneity, merge_groups, merge_sites, merged_to_json
from radserve.evaluation.rates import Confusion
from radserve.evaluation.site_summary import (
    Counts,
    Histogram,
    SiteSummary,
    SummaryColumns,
    count_cases,
    read_summary,
    summarise_site,
    summary_to_json,
)
from radserve.evaluation.tables import read_table

EDGES = np.linspace(0, 1, 21).tolist()
COLUMNS = SummaryColumns("label", None, "score", "0.5", "pneumonia", ("sex",))


def write_site(path: Path, seed: int, n: int = 120) -> Path:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    sexes = np.where(np.arange(n) < 6, "X", rng.choice(["F", "M"], n))
    rows = "".join(
        f"secret-{i},{label},{score!r},{sex}\n"
        for i, (label, score, sex) in enumerate(zip(labels, scores.tolist(), sexes, strict=True))
    )
    path.write_text("patient,label,score,sex\n" + rows)
    return path


@pytest.fixture
def sites(tmp_path: Path) -> list[Path]:
    return [write_site(tmp_path / f"{name}.csv", seed) for seed, name in enumerate(["north", "south", "west"])]


def pooled_rows(paths: list[Path]) -> tuple[Any, Any]:
    tables = [read_table(each) for each in paths]
    return np.concatenate([t.labels("label") for t in tables]), np.concatenate([t.numbers("score") for t in tables])


def summaries(paths: list[Path]) -> list[SiteSummary]:
    return [summarise_site(read_table(each), COLUMNS, site=each.stem, model="m 1") for each in paths]


def test_merged_counts_are_those_of_the_pooled_rows(sites: list[Path]) -> None:
    labels, scores = pooled_rows(sites)
    merged = merge_sites(summaries(sites))["pneumonia"]
    tn, fp, fn, tp = confusion_matrix(labels, scores >= 0.5).ravel()
    assert merged.confusion == Confusion(tp, fp, tn, fn)
    assert merged.histogram is not None
    assert list(merged.histogram.positive) == np.histogram(scores[labels], EDGES)[0].tolist()


def test_the_auc_of_the_pooled_rows_lies_in_the_bounds_of_the_histogram(sites: list[Path]) -> None:
    labels, scores = pooled_rows(sites)
    merged = merge_sites(summaries(sites))["pneumonia"]
    assert merged.histogram is not None
    area = binned_auc(merged.histogram)
    assert area is not None
    assert area.low <= roc_auc_score(labels, scores) <= area.high
    bins = np.clip(np.digitize(scores, EDGES) - 1, 0, 19)
    assert area.value == pytest.approx(roc_auc_score(labels, bins), abs=1e-14)


def test_no_row_and_no_patient_is_in_a_summary(sites: list[Path]) -> None:
    text = json.dumps(summary_to_json(summaries(sites)[0]))
    assert "secret" not in text
    scores = read_table(sites[0]).text("score")
    assert not any(score in text for score in scores if len(score) > 6)
    assert len(text) < 2500


def test_small_groups_are_left_out_and_named(sites: list[Path]) -> None:
    one = summaries(sites)[0]
    assert set(one.groups) == {"sex=F", "sex=M"}
    assert one.suppressed == ("sex=X, pneumonia",)
    warnings = merged_to_json(summaries(sites))["warnings"]
    assert "group 'sex=X, pneumonia' is without site 'north': too few cases" in warnings


def test_groups_are_pooled_like_findings(sites: list[Path]) -> None:
    women = merge_groups(summaries(sites))["sex=F"]["pneumonia"].confusion
    rows = [each for path in sites for each in path.read_text().splitlines()[1:] if each.endswith(",F")]
    assert women.n == len(rows)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6
    ),
    st.randoms(),
)
def test_the_order_of_sites_does_not_matter(cells: list[tuple[int, int, int, int]], random: Any) -> None:
    parts = [SiteSummary(str(i), "m", {"f": Counts(0.5, Confusion(*each))}, {}) for i, each in enumerate(cells)]
    mixed = parts.copy()
    random.shuffle(mixed)
    assert merge_sites(parts) == merge_sites(mixed)
    assert merge_sites(parts)["f"].confusion.n == sum(map(sum, cells))


def test_a_summary_survives_its_file(sites: list[Path], tmp_path: Path) -> None:
    one = summaries(sites)[0]
    path = tmp_path / "one.json"
    path.write_text(json.dumps(summary_to_json(one)))
    assert read_summary(path) == one


def changed(document: dict[str, Any], **entries: Any) -> dict[str, Any]:
    return {**document, **entries}


def test_a_summary_with_anything_but_counts_is_refused(sites: list[Path], tmp_path: Path) -> None:
    good = summary_to_json(summaries(sites)[0])
    finding = good["findings"]["pneumonia"]
    cases = [
        (changed(good, rows=[1, 2, 3]), "the entry 'rows' is not one of a summary"),
        (changed(good, schema="other/1"), "got schema 'other/1'"),
        (changed(good, site=""), "site: got ''"),
        (changed(good, findings={}), "it has no finding"),
        (changed(good, findings={"f": changed(finding, tp=1.5)}), "tp: got 1.5"),
        (changed(good, findings={"f": changed(finding, fn=-1)}), "fn: got -1"),
        (changed(good, findings={"f": changed(finding, scores=[0.1])}), "the entry 'scores' is not one of a summary"),
        (changed(good, findings={"f": changed(finding, tp=finding["tp"] + 1)}), "its cases are not as many"),
    ]
    for document, message in cases:
        path = tmp_path / "bad.json"
        path.write_text(json.dumps(document))
        with pytest.raises(RadserveError, match=message) as caught:
            read_summary(path)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_sites_that_do_not_go_together_are_refused() -> None:
    def site(name: str, model: str = "m", threshold: float = 0.5) -> SiteSummary:
        return SiteSummary(name, model, {"f": Counts(threshold, Confusion(1, 1, 1, 1))}, {})

    with pytest.raises(RadserveError, match="site 'a' is given twice"):
        merge_sites([site("a"), site("a")])
    with pytest.raises(RadserveError, match="site 'b': measured model 'other', others 'm'"):
        merge_sites([site("a"), site("b", "other")])
    with pytest.raises(RadserveError, match=r"thresholds \[0\.5, 0\.6\]"):
        merge_sites([site("a"), site("b", threshold=0.6)])
    with pytest.raises(RadserveError, match="got none"):
        merge_sites([])


def test_histograms_with_other_edges_are_left_out_of_the_pool() -> None:
    def site(name: str, edges: tuple[float, ...]) -> SiteSummary:
        bins = Histogram(edges, (1, 1), (1, 1))
        return SiteSummary(name, "m", {"f": Counts(0.5, Confusion(1, 1, 1, 1), bins)}, {})

    assert merge_sites([site("a", (0, 0.5, 1)), site("b", (0, 0.4, 1))])["f"].histogram is None
    merged = merged_to_json([site("a", (0, 0.5, 1)), site("b", (0, 0.4, 1))])
    assert merged["findings"]["f"]["auc"] is None
    assert "finding 'f': auc is null: no common histogram" in merged["warnings"]


def test_a_score_outside_the_edges_is_named_by_column_row_and_value() -> None:
    with pytest.raises(RadserveError, match=r"column 'p', row 2: got 1\.5"):
        count_cases(np.array([0.1, 1.5]), np.array([True, False]), 0.5, EDGES, name="p")


def test_homogeneity_is_pearsons_chi_square() -> None:
    assert homogeneity([(40, 10), (30, 20)]) == pytest.approx(
        stats.chi2_contingency([[40, 10], [30, 20]], correction=False)[1]
    )
    assert homogeneity([(40, 0), (30, 0)]) is None
    assert homogeneity([(40, 10), (0, 0)]) is None


def test_the_commands_summarise_and_merge_reproducibly(sites: list[Path], tmp_path: Path) -> None:
    for path in sites:
        options = ["--site", path.stem, "--model", "m 1", "--threshold", "0.5", "--finding", "pneumonia"]
        done = CliRunner().invoke(
            evaluate_app, ["site-summary", str(path), *options, "--json", str(path.with_suffix(".json"))]
        )
        assert done.exit_code == 0, done.output
    inputs = [str(each.with_suffix(".json")) for each in sites]
    for name in ("one.json", "two.json"):
        assert CliRunner().invoke(evaluate_app, ["merge", *inputs, "--json", str(tmp_path / name)]).exit_code == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    merged = json.loads((tmp_path / "one.json").read_text())
    labels, scores = pooled_rows(sites)
    tn, fp, fn, tp = confusion_matrix(labels, scores >= 0.5).ravel().tolist()
    finding = merged["findings"]["pneumonia"]
    assert finding["counts"] == {"tp": tp, "fp": fp, "tn": tn, "fn": fn}
    assert finding["sensitivity"]["value"] == tp / (tp + fn)
    assert set(finding["sites"]) == {"north", "south", "west"}
