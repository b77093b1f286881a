"""A small ontology of imaging findings: names, kinds, exclusions and codes."""

from radserve.models.ontology.ontology import FindingNode, Ontology, built_in_ontology

__all__ = ["FindingNode", "Ontology", "built_in_ontology"]
