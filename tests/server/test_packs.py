"""Which packs a server loads by its settings, and which one a study goes to that names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.errors import ErrorCode, PackError
from radserve.models.catalogue import PackCatalogue
from radserve.pipelines.rules import SeriesFacts, StudyFacts, match
from radserve.references import AcquisitionContext
from radserve.server.packs import site_versions
from radserve.server.settings import Settings
from radserve.server.study_work import site_rules
from tests.support.operation import Operated
from tests.support.other_packs import make_classifier_pack, make_segmenter_pack

AS_IT_IS = '{transform = "Orientation", axcodes = "RAS"}'


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    """A pack for chest radiographs and one for CT."""
    make_classifier_pack(tmp_path / "packs" / "halves")
    make_segmenter_pack(tmp_path / "packs" / "densities", (6, 8, 10), AS_IT_IS)
    return tmp_path / "packs"


def loaded(settings: Settings) -> list[str]:
    versions = site_versions(settings, PackCatalogue(settings.pack_dirs))
    return sorted(pack.name for pack in versions.at_start({}))


def test_a_pack_of_radserve_that_nobody_named_is_known_and_not_loaded() -> None:
    assert "ct-chest-mini" in PackCatalogue().names()
    assert loaded(Settings()) == ["cxr-bus-mini"]


@pytest.mark.parametrize("reference", ["no-such-pack", "no-such-pack@1.0.0"])
def test_a_default_pack_that_is_not_there_ends_the_start(reference: str) -> None:
    with pytest.raises(PackError, match=r"'no-such-pack' is unknown; known packs: .*cxr-bus-mini"):
        loaded(Settings(default_pack=reference))


def test_packs_of_the_site_are_loaded_without_being_named(packs: Path) -> None:
    assert loaded(Settings(pack_dirs=(packs,))) == ["cxr-bus-mini", "densities", "halves"]


def test_a_pack_of_radserve_is_loaded_where_it_is_named(tmp_path: Path) -> None:
    both = ["ct-chest-mini", "cxr-bus-mini"]
    assert loaded(Settings(packs=("ct-chest-mini",))) == both
    assert loaded(Settings(default_pack="ct-chest-mini")) == both
    (tmp_path / "rules.toml").write_text('[[rule]]\nname = "ct"\npack = "ct-chest-mini"\n')
    assert loaded(Settings(workflow=True, rules_file=tmp_path / "rules.toml")) == both


def test_a_named_pack_that_is_not_there_is_refused() -> None:
    with pytest.raises(PackError) as caught:
        site_versions(Settings(packs=("ct-head",)), PackCatalogue())
    assert caught.value.code is ErrorCode.UNKNOWN_PACK


def test_a_study_that_names_no_pack_goes_to_the_one_that_takes_its_modality(packs: Path, tmp_path: Path) -> None:
    operated = Operated(tmp_path, default_pack="halves", beside=("densities",))
    radiograph, ct, mr = (AcquisitionContext(modality=each) for each in ("CR", "CT", "MR"))
    assert operated.packs.fitting([radiograph]) == "halves"
    assert operated.packs.fitting([ct]) == "densities"
    assert operated.packs.fitting([radiograph, ct]) == "halves"  # the default pack first
    assert operated.packs.fitting([mr]) == "halves"  # which then says that it does not take it
    alone = Operated(tmp_path, default_pack="halves")
    assert alone.packs.fitting([ct]) == "halves"  # a pack that was not put beside it is asked for by name


def test_without_rules_received_series_go_where_requests_without_a_pack_go(packs: Path) -> None:
    settings = Settings(pack_dirs=(packs,), default_pack="halves", packs=("densities",))
    rules = site_rules(settings, PackCatalogue(settings.pack_dirs))
    study = StudyFacts("1.2", (SeriesFacts("1.2.1", modality="CT"), SeriesFacts("1.2.2", modality="CR")))
    decisions = {each.pack: each.series_instance_uids for each in match(rules, study).decisions}
    assert decisions == {"densities": ("1.2.1",), "halves": ("1.2.2",)}
    (only,) = site_rules(Settings(pack_dirs=(packs,)), PackCatalogue((packs,))).rules
    assert only.pack == "cxr-bus-mini" and only.when.judge(study.series[0]).holds
