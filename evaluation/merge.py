"""Site summaries merged: the pooled counts are those of the pooled cases, exactly, without any row leaving a site."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from radserve.evaluation.output import without_repeats
from radserve.evaluation.rates import Confusion, Rates, rates
from radserve.evaluation.site_summary import Counts, Histogram, SiteSummary
from radserve.evaluation.tables import refusal

SCHEMA = "radserve-merged-summary/1"


@dataclass(frozen=True)
class BinnedAuc:
    """The AUC of binned scores. The AUC of the scores themselves lies between `low` and `high`; `value` is midway."""

    value: float
    low: float
    high: float


def merge_sites(summaries: Sequence[SiteSummary]) -> dict[str, Counts]:
    """Return the pooled counts by finding.

    Histograms are pooled where every site with the finding sends one with the same edges, else left out.

    Raises RadserveError INVALID_ARGUMENT for no summary, a site given twice, another model, or another threshold.
    """
    _check_alike(summaries)
    names = dict.fromkeys(name for each in summaries for name in each.findings)
    return {name: _pool(name, [each.findings[name] for each in summaries if name in each.findings]) for name in names}


def merge_groups(summaries: Sequence[SiteSummary]) -> dict[str, dict[str, Counts]]:
    """Return the pooled counts by group and finding. A group that some site suppressed is pooled over the others."""
    names = dict.fromkeys(group for each in summaries for group in each.groups)
    merged: dict[str, dict[str, Counts]] = {}
    for group in names:
        parts = [each.groups[group] for each in summaries if group in each.groups]
        findings = dict.fromkeys(name for part in parts for name in part)
        merged[group] = {name: _pool(name, [part[name] for part in parts if name in part]) for name in findings}
    return merged


def binned_auc(histogram: Histogram) -> BinnedAuc | None:
    """Return the AUC of a histogram: pairs in one bin count half, and from none to all in the bounds. None: one class.

    The halves are the Mann-Whitney count with ties, so bins are as good as the scores when these take few values.
    """
    positive, negative = np.array(histogram.positive, dtype=object), np.array(histogram.negative, dtype=object)
    pairs = int(positive.sum()) * int(negative.sum())
    if not pairs:
        return None
    below = np.concatenate([[0], np.cumsum(negative)[:-1]])
    sure, tied = int((positive * below).sum()), int((positive * negative).sum())
    return BinnedAuc((sure + tied / 2) / pairs, sure / pairs, (sure + tied) / pairs)


def homogeneity(counts: Sequence[tuple[int, int]]) -> float | None:
    """Return the p value of Pearson's chi-square test that `hits` of `hits + misses` is one rate at all sites.

    None where a rate is 0 or 1 at all sites together, or fewer than two sites have cases.
    """
    table = np.array([each for each in counts if sum(each)], dtype=np.float64)
    if len(table) < 2 or not table.sum(axis=0).all():
        return None
    return float(stats.chi2_contingency(table, correction=False).pvalue)


def merged_to_json(summaries: Sequence[SiteSummary], level: float = 0.95) -> dict[str, Any]:
    """Return the merged evaluation: per finding the pooled counts and rates, those by site, and a test across sites."""
    pooled, warnings = merge_sites(summaries), []
    findings = {}
    for name, counts in pooled.items():
        sites = {each.site: each.findings[name].confusion for each in summaries if name in each.findings}
        content, found = _finding(counts, level)
        warnings += [f"finding {name!r}: {text}" for text in found]
        tests = {
            "sensitivity": homogeneity([(each.tp, each.fn) for each in sites.values()]),
            "specificity": homogeneity([(each.tn, each.fp) for each in sites.values()]),
        }
        warnings += [
            f"finding {name!r}: homogeneity of {rate} is null: fewer than two sites, or the rate is 0 or 1 throughout"
            for rate, p in tests.items()
            if p is None
        ]
        by_site = {site: _rates_to_json(rates(each, level)) for site, each in sites.items()}
        findings[name] = content | {"sites": by_site, "homogeneity_p": tests}
    groups = {
        group: {name: _finding(counts, level)[0] for name, counts in each.items()}
        for group, each in merge_groups(summaries).items()
    }
    for each in summaries:
        warnings += [f"group {group!r} is without site {each.site!r}: too few cases" for group in each.suppressed]
    return {
        "schema": SCHEMA,
        "model": summaries[0].model,
        "sites": [each.site for each in summaries],
        "ci_level": level,
        "findings": findings,
        "groups": groups,
        "warnings": without_repeats(warnings),
    }


def _check_alike(summaries: Sequence[SiteSummary]) -> None:
    if not summaries:
        raise refusal("site summaries: got none, expected at least one")
    seen: set[str] = set()
    for each in summaries:
        if each.site in seen:
            raise refusal(f"site summaries: site {each.site!r} is given twice: its cases would count double")
        seen.add(each.site)
        if each.model != summaries[0].model:
            raise refusal(f"site {each.site!r}: measured model {each.model!r}, others {summaries[0].model!r}")


def _pool(name: str, parts: Sequence[Counts]) -> Counts:
    thresholds = {each.threshold for each in parts}
    if len(thresholds) != 1:
        raise refusal(f"finding {name!r}: sites used thresholds {sorted(thresholds)}, expected one")
    cells = [each.confusion for each in parts]
    confusion = Confusion(
        sum(each.tp for each in cells),
        sum(each.fp for each in cells),
        sum(each.tn for each in cells),
        sum(each.fn for each in cells),
    )
    return Counts(thresholds.pop(), confusion, _pool_histograms([each.histogram for each in parts]))


def _pool_histograms(parts: Sequence[Histogram | None]) -> Histogram | None:
    known = [each for each in parts if each is not None]
    if len(known) < len(parts) or len({each.edges for each in known}) != 1:
        return None
    return Histogram(
        known[0].edges,
        tuple(map(sum, zip(*(each.positive for each in known), strict=True))),
        tuple(map(sum, zip(*(each.negative for each in known), strict=True))),
    )


def _finding(counts: Counts, level: float) -> tuple[dict[str, Any], list[str]]:
    measured = rates(counts.confusion, level)
    warnings = list(measured.warnings)
    auc = binned_auc(counts.histogram) if counts.histogram is not None else None
    if auc is None:
        reason = "no common histogram" if counts.histogram is None else "one class only"
        warnings.append(f"auc is null: {reason}")
    area = None if auc is None else {"value": auc.value, "low": auc.low, "high": auc.high}
    return {"threshold": counts.threshold, **_rates_to_json(measured), "auc": area}, warnings


def _rates_to_json(measured: Rates) -> dict[str, Any]:
    matrix = measured.confusion
    names = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
    each = {name: getattr(measured, name) for name in names}
    return {
        "n": matrix.n,
        "counts": {"tp": matrix.tp, "fp": matrix.fp, "tn": matrix.tn, "fn": matrix.fn},
        **{name: {"value": rate.value, "ci": _interval(rate.low, rate.high)} for name, rate in each.items()},
        "f1": measured.f1,
    }


def _interval(low: float, high: float) -> list[float] | None:
    return None if math.isnan(low) else [low, high]
