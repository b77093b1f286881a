"""Whether findings can be there together, by the ontology's exclusions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from radserve.findings import Finding
from radserve.models.ontology import Ontology, built_in_ontology
from radserve.results import ResultWarning, WarningCode


def consistency_warnings(findings: Sequence[Finding], ontology: Ontology | None = None) -> list[ResultWarning]:
    """A warning for each pair of positive findings of one series that exclude each other."""
    ontology = ontology or built_in_ontology()
    nodes = [
        (each.label, node.id)
        for each in findings
        if each.positive and (node := ontology.of_label(each.label, (each.code.scheme, each.code.value)))
    ]
    return [
        ResultWarning(
            WarningCode.INCONSISTENT_FINDINGS,
            f"{one!r} and {other!r} are both positive and exclude each other (finding ontology {ontology.version}).",
        )
        for (one, first), (other, second) in combinations(nodes, 2)
        if ontology.exclusive(first, second)
    ]
