"""The ontology is a sound one: acyclic, closed, with the labels of CheXpert and of the packs."""

from __future__ import annotations

import pytest

from radserve.errors import RadserveError
from radserve.models.catalogue import PackCatalogue
from radserve.models.ontology import FindingNode, Ontology, built_in_ontology
from radserve.models.ontology.ontology import parse_ontology

CHEXPERT = """No Finding;Enlarged Cardiomediastinum;Cardiomegaly;Lung Lesion;Lung Opacity;Edema;Consolidation;Pneumonia;
Atelectasis;Pneumothorax;Pleural Effusion;Pleural Other;Fracture;Support Devices""".replace("\n", "").split(";")


def test_the_fourteen_labels_of_chexpert_are_nodes_with_names_in_both_languages() -> None:
    ontology = built_in_ontology()
    for label in CHEXPERT:
        node = ontology.of_label(label)
        assert node is not None, label
        assert node.names["en"]
        assert node.names["zh"]


def test_no_finding_is_a_kind_of_itself_and_nothing_excludes_what_it_is() -> None:
    ontology = built_in_ontology()
    for name in ontology.nodes:
        assert name not in ontology.ancestors(name)
        assert not any(ontology.exclusive(name, parent) for parent in ontology.ancestors(name))


def test_kinds_go_all_the_way_up() -> None:
    assert built_in_ontology().ancestors("pneumonia") == {"consolidation", "lung opacity"}


def test_what_excludes_is_excluded_and_so_are_kinds_of_it() -> None:
    ontology = built_in_ontology()
    assert ontology.exclusive("benign breast lesion", "malignant breast lesion")
    assert ontology.exclusive("pneumonia", "no finding")
    assert not ontology.exclusive("pneumonia", "pleural effusion")


def test_every_label_with_prompts_in_the_default_pack_is_a_node_with_its_code() -> None:
    pack, ontology = PackCatalogue().get("cxr-bus-mini"), built_in_ontology()
    for label in pack.labels:
        node = ontology.of_label(label.name, (label.code.scheme, label.code.value))
        assert node is not None, label.name
        assert node.codes[label.code.scheme] == label.code.value


def test_no_name_belongs_to_two_findings() -> None:
    names = [name for node in built_in_ontology().nodes.values() for each in node.names.values() for name in each]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"a": ("b",), "b": ("a",)}, "no circle"),
        ({"a": ("missing",)}, "'a' names: got 'missing'"),
    ],
)
def test_circles_and_unknown_names_are_refused(nodes: dict, message: str) -> None:
    with pytest.raises(RadserveError, match=message):
        Ontology("1", [FindingNode(name, {}, "", parents, (), {}) for name, parents in nodes.items()])


def test_an_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(RadserveError, match="colour"):
        parse_ontology({"version": "1", "findings": {"a": {"colour": "red"}}})
