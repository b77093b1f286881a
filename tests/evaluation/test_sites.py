"""The leave-one-site-out table: against scikit-learn by site, patient-level intervals, splits by patient."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.duplicates import check_split_by_patient
from radserve.evaluation.sites import SiteTable, leave_one_site_out
from radserve.evaluation.tables import BoolArray, FloatArray


def cohort(n: int = 300, seed: int = 0) -> tuple[BoolArray, FloatArray, list[str]]:
    """Three sites; at "south" the scores know less."""
    rng = np.random.default_rng(seed)
    sites = rng.choice(["east", "north", "south"], n)
    labels = rng.random(n) < 0.4
    return labels, rng.normal(labels * np.where(sites == "south", 0.3, 2.0), 1), sites.tolist()


def widths(table: SiteTable) -> dict[str, float]:
    blocks = {"all": table.pooled} | {row.site: row.on for row in table.sites}
    blocks |= {f"not {row.site}": row.without for row in table.sites}
    return {name: each.ci[1] - each.ci[0] for name, each in blocks.items()}


def test_each_site_and_the_rest_have_the_area_of_scikit_learn() -> None:
    labels, scores, sites = cohort()
    found = leave_one_site_out(labels, scores, sites, replicates=200, seed=1)
    assert [row.site for row in found.sites] == ["east", "north", "south"]
    for row in found.sites:
        on = np.array(sites) == row.site
        assert row.on.auroc == pytest.approx(roc_auc_score(labels[on], scores[on]), abs=1e-14)
        assert row.without.auroc == pytest.approx(roc_auc_score(labels[~on], scores[~on]), abs=1e-14)
        assert row.difference == row.on.auroc - row.without.auroc
        assert row.on.n + row.without.n == found.pooled.n == 300
        assert row.on.ci[0] < row.on.auroc < row.on.ci[1]
    assert found.pooled.auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-14)
    south = found.sites[2]
    assert south.on.ci[1] < south.without.ci[0]  # the planted weak site stands out
    assert found == leave_one_site_out(labels, scores, sites, replicates=200, seed=1)


def test_drawing_patients_is_wider_than_drawing_rows_when_each_patient_has_four_rows() -> None:
    labels, scores, sites = cohort()
    patients = np.repeat(np.arange(300), 4).astype(str).tolist()
    repeated = np.repeat(labels, 4), np.repeat(scores, 4), np.repeat(sites, 4).tolist()
    naive = widths(leave_one_site_out(*repeated, replicates=400, seed=2))
    clustered = leave_one_site_out(*repeated, clusters=patients, replicates=400, seed=2)
    assert clustered.method == "cluster-bootstrap"
    assert clustered.pooled.n_clusters == 300
    assert clustered.clusters_at_several_sites == 0
    assert not clustered.warnings
    for name, width in widths(clustered).items():
        assert width > 1.6 * naive[name], name  # in theory twice
    single = widths(leave_one_site_out(labels, scores, sites, replicates=400, seed=3))
    assert list(widths(clustered).values()) == pytest.approx(list(single.values()), rel=0.25)  # no false precision


def test_a_patient_at_two_sites_is_counted_and_warned_of() -> None:
    labels, scores, sites = cohort()
    patients = [str(number) for number in range(300)]
    there = next(place for place, site in enumerate(sites) if site != sites[0])
    patients[there] = patients[0]
    found = leave_one_site_out(labels, scores, sites, clusters=patients, replicates=20)
    assert found.clusters_at_several_sites == 1
    assert any("1 clusters have rows at several sites" in note for note in found.warnings)


def test_a_site_of_one_class_is_null_with_the_reason() -> None:
    labels, scores, sites = cohort()
    labels = labels & (np.array(sites) != "north")
    row = leave_one_site_out(labels, scores, sites, replicates=20).sites[1]
    assert (row.site, row.on.n_positive) == ("north", 0)
    assert math.isnan(row.on.auroc) and math.isnan(row.on.ci[0]) and math.isnan(row.difference)
    assert row.without.auroc > 0.5
    notes = leave_one_site_out(labels, scores, sites, replicates=20).warnings
    assert any(note.startswith("site north: the AUROC is null, 0 positives") for note in notes)


def test_one_site_and_columns_of_different_length_are_refused() -> None:
    labels, scores, sites = cohort()
    with pytest.raises(RadserveError, match="one site only, 'a'") as caught:
        leave_one_site_out(labels, scores, ["a"] * 300)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(RadserveError, match="differ in length"):
        leave_one_site_out(labels, scores, sites[:-1])


def test_a_patient_in_two_splits_is_refused_with_counts_and_without_a_name() -> None:
    splits = ["train", "train", "test", "val"]
    check_split_by_patient(splits, ["a", "a", "b", "c"])
    with pytest.raises(RadserveError) as caught:
        check_split_by_patient(splits, ["Doe", "x", "Doe", "x"])
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    message = caught.value.client_message
    assert message == "splits overlap: train and test share 1 patients; train and val share 1 patients"
