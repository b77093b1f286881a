"""The finding ontology as one immutable value, checked when it is read."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any

from radserve._checks import invalid

_KEYS = {"en", "zh", "label", "parents", "excludes", "codes"}


@dataclass(frozen=True, slots=True)
class FindingNode:
    """A finding: `names` by language (ISO 639-1), the first the usual one; `label` as data sets and packs call it.

    `parents` are the nodes it is a kind of, `excludes` those it cannot be there with; `codes` by scheme.
    """

    id: str
    names: Mapping[str, tuple[str, ...]]
    label: str
    parents: tuple[str, ...]
    excludes: tuple[str, ...]
    codes: Mapping[str, str]


class Ontology:
    """Findings by id. Raises INVALID_ARGUMENT for an unknown id, a circle of parents, or an exclusion of a kind."""

    def __init__(self, version: str, nodes: Iterable[FindingNode]) -> None:
        self.version = version
        self._nodes = {node.id: node for node in nodes}
        self._labels = {node.label.lower(): node for node in self._nodes.values() if node.label}
        self._codes = {code: node for node in self._nodes.values() for code in node.codes.items()}
        for node in self._nodes.values():
            for other in (*node.parents, *node.excludes):
                if other not in self._nodes:
                    raise invalid(f"ontology: {node.id!r} names", other, "a finding of the ontology")
        for node in self._nodes.values():
            lineage = self.ancestors(node.id)
            if node.id in lineage:
                raise invalid("ontology: parents", node.id, "no circle")
            if conflict := lineage & set(node.excludes):
                raise invalid(f"ontology: {node.id!r} excludes", sorted(conflict), "nothing that it is a kind of")

    @property
    def nodes(self) -> Mapping[str, FindingNode]:
        return MappingProxyType(self._nodes)

    def of_label(self, label: str, code: tuple[str, str] | None = None) -> FindingNode | None:
        """The node of a pack's label, by its code (scheme, value) or its name; None where there is none."""
        return self._codes.get(code) if code in self._codes else self._labels.get(label.lower())

    def ancestors(self, node_id: str) -> frozenset[str]:
        """Everything that the finding is a kind of."""
        found: set[str] = set()
        waiting = list(self._nodes[node_id].parents)
        while waiting:
            parent = waiting.pop()
            if parent not in found:
                found.add(parent)
                waiting += self._nodes[parent].parents
        return frozenset(found)

    def exclusive(self, one: str, other: str) -> bool:
        """Whether both cannot be there: they, or what they are kinds of, exclude each other."""
        ours, theirs = self.ancestors(one) | {one}, self.ancestors(other) | {other}
        pairs = ((a, b) for a in ours for b in theirs)
        return any(b in self._nodes[a].excludes or a in self._nodes[b].excludes for a, b in pairs)


def built_in_ontology() -> Ontology:
    """The ontology that comes with radserve."""
    raw = resources.files("radserve.models.ontology").joinpath("findings.toml").read_text(encoding="utf-8")
    return parse_ontology(tomllib.loads(raw))


def parse_ontology(table: Mapping[str, Any]) -> Ontology:
    """An ontology from its TOML table; raises as Ontology, and for an unknown key."""
    return Ontology(str(table["version"]), [_node(name, each) for name, each in table["findings"].items()])


def _node(name: str, table: Mapping[str, Any]) -> FindingNode:
    if unknown := set(table) - _KEYS:
        raise invalid(f"ontology: keys of {name!r}", sorted(unknown), f"some of {sorted(_KEYS)}")
    return FindingNode(
        id=name,
        names=MappingProxyType({language: tuple(table.get(language, ())) for language in ("en", "zh")}),
        label=table.get("label", ""),
        parents=tuple(table.get("parents", ())),
        excludes=tuple(table.get("excludes", ())),
        codes=MappingProxyType({code["scheme"]: code["value"] for code in table.get("codes", ())}),
    )
