"""How well a model does at each site, and without it: the leave-one-site-out table.

Data of several institutions hide a site where the model fails in a good pooled number. Each site has its own AUROC and
that of all the other sites together. Several images of one patient are not independent: give the patients as
`clusters`, and whole patients are drawn instead of images.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve.evaluation.bootstrap import bootstrap
from radserve.evaluation.roc import auc, checked
from radserve.evaluation.roc_options import DEFAULT_REPLICATES
from radserve.evaluation.tables import BoolArray, FloatArray, check_same_length, refusal

MINIMUM_CLASS = 2  # positives and negatives that an AUROC needs here


@dataclass(frozen=True)
class SiteArea:
    """The AUROC of some of the rows with its percentile interval; NaN, with the reason in the table's warnings."""

    n: int
    n_positive: int
    n_negative: int
    n_clusters: int | None
    auroc: float
    ci: tuple[float, float]


@dataclass(frozen=True)
class SiteRow:
    """One site: itself, all the others, and AUROC there - AUROC of the others."""

    site: str
    on: SiteArea
    without: SiteArea
    difference: float


@dataclass(frozen=True)
class SiteTable:
    """The whole table; `clusters_at_several_sites` counts patients who are on both sides of a comparison."""

    method: str
    replicates: int
    seed: int
    ci_level: float
    pooled: SiteArea
    sites: tuple[SiteRow, ...]
    clusters_at_several_sites: int | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Cohort:
    labels: BoolArray
    scores: FloatArray
    clusters: npt.NDArray[np.str_] | None
    replicates: int
    seed: int
    level: float
    warnings: list[str]

    def area(self, title: str, rows: BoolArray) -> SiteArea:
        labels, scores = self.labels[rows], self.scores[rows]
        clusters = None if self.clusters is None else self.clusters[rows]
        n_positive = int(labels.sum())
        n_negative = len(labels) - n_positive
        value, ci = math.nan, (math.nan, math.nan)
        if min(n_positive, n_negative) < MINIMUM_CLASS:
            self.warnings.append(
                f"{title}: the AUROC is null, {n_positive} positives and {n_negative} negatives are not at least "
                f"{MINIMUM_CLASS} of each"
            )
        else:
            value = auc(scores, labels)
            drawn = bootstrap(scores, labels, replicates=self.replicates, seed=self.seed, clusters=clusters)
            interval = drawn.interval(0, self.level)
            ci = (interval.low, interval.high)
            self.warnings.extend(f"{title}: {note}" for note in interval.warnings)
        n_clusters = None if clusters is None else len(np.unique(clusters))
        return SiteArea(len(labels), n_positive, n_negative, n_clusters, value, ci)


def leave_one_site_out(
    labels: BoolArray,
    scores: FloatArray,
    sites: Sequence[str],
    *,
    clusters: Sequence[str] | None = None,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    ci_level: float = 0.95,
) -> SiteTable:
    """Return the AUROC on each site and pooled without it; all inputs have one entry for each of n rows.

    Intervals are of the stratified bootstrap, or of the cluster bootstrap over `clusters` (patients), seeded.

    Raises INVALID_ARGUMENT for different lengths, one site only, and as `roc.checked` does.
    """
    check_same_length({"label": labels, "site": sites, "cluster": sites if clusters is None else clusters})
    values, positive = checked(scores, labels)
    members = np.array(sites)
    names = sorted(set(sites))
    if len(names) < 2:
        raise refusal(f"sites: got one site only, {names[0]!r}, expected at least two")
    owners = None if clusters is None else np.array(clusters)
    warnings: list[str] = []
    cohort = _Cohort(positive, values, owners, replicates, seed, ci_level, warnings)
    pooled = cohort.area("all sites", np.ones(len(values), np.bool_))
    rows = []
    for name in names:
        on = cohort.area(f"site {name}", members == name)
        without = cohort.area(f"without site {name}", members != name)
        rows.append(SiteRow(name, on, without, on.auroc - without.auroc))
    several = None if clusters is None else _at_several(sites, clusters)
    if several:
        warnings.append(f"{several} clusters have rows at several sites: a site and the others are not independent")
    if clusters is None:
        warnings.append("no clusters are given: every row counts as a patient of its own")
    method = "bootstrap" if clusters is None else "cluster-bootstrap"
    return SiteTable(method, replicates, seed, ci_level, pooled, tuple(rows), several, tuple(warnings))


def _at_several(sites: Sequence[str], clusters: Sequence[str]) -> int:
    places = Counter(cluster for cluster, _ in set(zip(clusters, sites, strict=True)))
    return sum(count > 1 for count in places.values())
