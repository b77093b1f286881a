"""Pre-processors of other packages: what a pack may name, where they run, and what they are held to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.models.catalogue import PackCatalogue
from radserve.models.pack import load_pack
from radserve.models.pack_policy import PackPolicy
from radserve.models.pack_sources import add_pack
from radserve.pipelines.preprocess.adapter import PRELOAD, MonaiPreprocessor, prepare_now
from radserve.pipelines.preprocess.chain import TransformSpec, chain_of, input_chain
from radserve.preprocessors import resolve
from radserve.workers import WorkerLimits, WorkerPool
from tests.pipelines.preprocess.builders import image_of, radiograph
from tests.support.other_packs import make_classifier_pack
from tests.support.packs import seal
from tests.support.plugin_site import install

CODE = """
import os
import torch
from monai.transforms.transform import RandomizableTransform, Transform

class Gain(Transform):
    def __init__(self, gain=1.0):
        if gain <= 0:
            raise ValueError("gain")
        self.gain = gain
    def __call__(self, image):
        return image * self.gain

class Noise(RandomizableTransform):
    def __call__(self, image):
        return image + torch.rand_like(image)

def raising():
    def run(image):
        raise KeyError("a value of the patient")
    return run

def cropping():
    return lambda image: image.as_tensor()[:, 1:, 1:]

def no_tensor():
    return lambda image: "pixels"

def plain():
    return lambda image: image.as_tensor().numpy()[..., ::-1].copy()

def leaving():
    return lambda image: os._exit(3)

def nothing():
    return None
"""
NAMES = ("Gain", "Noise", "raising", "cropping", "no_tensor", "plain", "leaving", "nothing")
LINES = (
    "\n".join(f"{name.lower()} = filters_plugin:{name}" for name in NAMES) + "\nmedian = monai.transforms:MedianSmooth"
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path / "site")
    return install(tmp_path / "site", "filters", CODE, preprocessors=LINES)


def plugin_chain(*steps: tuple[str, dict[str, Any]], first: str = "VoiWindow") -> tuple[TransformSpec, ...]:
    named = [(f"plugin:{name}", arguments) for name, arguments in steps]
    found = resolve([name for name, _ in named], [name for name, _ in steps])
    return chain_of([(first, {}), *named], found)


def pack_with(folder: Path, transform: str) -> Path:
    """A classifier whose preprocessing ends with another package's transform."""
    pack = make_classifier_pack(folder)
    text = (pack / "pack.toml").read_text()
    old = 'mode = "area"}]'
    assert old in text
    (pack / "pack.toml").write_text(text.replace(old, f'mode = "area"}}, {{transform = "{transform}"}}]'))
    return seal(pack)


def test_a_transform_of_another_package_gives_what_it_gives_by_itself(site: Path) -> None:
    from monai.transforms import MedianSmooth

    image = image_of(radiograph(40, 30))
    (before,) = prepare_now(chain_of([("VoiWindow", {})]), image, [0])
    (after,) = prepare_now(plugin_chain(("median", {"radius": 2}), ("gain", {"gain": 0.5})), image, [0])
    expected = MedianSmooth(radius=2)(before.tensor).numpy() * np.float32(0.5)
    assert np.array_equal(after.tensor, expected)
    assert not np.array_equal(after.tensor, before.tensor)
    assert after.provenance.steps[-2:] == (
        "plugin:median(radius=2) of filters 1.0",
        "plugin:gain(gain=0.5) of filters 1.0",
    )


async def test_it_runs_in_the_worker_and_is_never_imported_by_who_serves(site: Path) -> None:
    chain, image = plugin_chain(("gain", {"gain": 2.0})), image_of(radiograph(40, 30))
    limits = WorkerLimits(None, None, 120.0)
    async with WorkerPool(name="preprocess", size=1, limits=limits, preload=(PRELOAD,)) as pool:
        chains = {"chest": chain, "leaving": plugin_chain(("leaving", {})), "raising": plugin_chain(("raising", {}))}
        preprocessor = MonaiPreprocessor(chains, pool)
        (prepared,) = await preprocessor.prepare(image, "chest", [0])
        with pytest.raises(RadserveError, match=r"plug-in 'raising' of filters 1\.0 failed: KeyError") as failed:
            await preprocessor.prepare(image, "raising", [0])
        with pytest.raises(RadserveError) as died:  # it takes its worker with it, and nothing else
            await preprocessor.prepare(image, "leaving", [0])
        (again,) = await preprocessor.prepare(image, "chest", [0])
    assert (failed.value.code, died.value.code) == (ErrorCode.PLUGIN_FAILED, ErrorCode.WORKER_DIED)
    assert "patient" not in str(failed.value)
    assert prepared.tensor.tobytes() == again.tensor.tobytes()
    assert "filters_plugin" not in sys.modules
    assert prepared.tensor.tobytes() == prepare_now(chain, image, [0])[0].tensor.tobytes()


@pytest.mark.parametrize(
    ("step", "code", "message"),
    [
        (("noise", {}), ErrorCode.PLUGIN_FAILED, "'noise' of filters 1.0 is random"),
        (("cropping", {}), ErrorCode.PLUGIN_FAILED, "(40, 30) into one of (39, 29) and does not say where"),
        (("no_tensor", {}), ErrorCode.PLUGIN_FAILED, "gave a str, expected a tensor of 3 axes"),
        (("nothing", {}), ErrorCode.PLUGIN_FAILED, "made a NoneType, expected a transform"),
        (("gain", {"gain": -1.0}), ErrorCode.PACK_INVALID, "plugin:gain(gain=-1.0) of filters 1.0 does not take"),
        (("gain", {"loss": 1.0}), ErrorCode.PACK_INVALID, "plugin:gain(loss=1.0) of filters 1.0 does not take"),
    ],
)
def test_one_that_does_not_keep_to_the_rules_is_named(
    site: Path, step: tuple[str, dict[str, Any]], code: ErrorCode, message: str
) -> None:
    with pytest.raises(RadserveError) as refusal:
        prepare_now(plugin_chain(step), image_of(radiograph(40, 30)), [0])
    assert refusal.value.code is code
    assert message in refusal.value.client_message


def test_a_plain_array_of_the_same_grid_keeps_its_place(site: Path) -> None:
    image = image_of(radiograph(40, 30))
    (before,) = prepare_now(chain_of([("VoiWindow", {})]), image, [0])
    (after,) = prepare_now(plugin_chain(("plain", {})), image, [0])
    assert np.array_equal(after.tensor, before.tensor[..., ::-1])
    assert np.array_equal(after.transform.matrix, before.transform.matrix)


def test_a_window_stays_first_and_an_unresolved_name_is_refused(site: Path) -> None:
    with pytest.raises(PackError, match="VoiWindow stands at place 2"):
        chain_of([("plugin:gain", {}), ("VoiWindow", {})], resolve(["plugin:gain"], ["gain"]))
    with pytest.raises(PackError, match="the pre-processor 'gain' is not allowed here") as refusal:
        chain_of([("plugin:gain", {})])
    assert refusal.value.code is ErrorCode.PACK_PLUGIN


@pytest.mark.parametrize(
    ("transform", "allowed", "message"),
    [
        ("plugin:gain", (), "the pre-processor 'gain' is not one that this site allows (none)"),
        ("plugin:gain", ("median",), "the pre-processor 'gain' is not one that this site allows (['median'])"),
        ("plugin:other", ("other",), "the pre-processor 'other' is not installed"),
        ("plugin:gain@2.0", ("gain",), "'gain' is asked for in version 2.0, installed is filters 1.0"),
        ("plugin:twice", ("twice",), "the pre-processor 'twice' is in more than one package: one, two"),
    ],
)
def test_a_pack_that_names_one_that_is_not_allowed_is_refused_by_name(
    site: Path, tmp_path: Path, transform: str, allowed: tuple[str, ...], message: str
) -> None:
    for package in ("one", "two"):
        install(site, package, CODE, preprocessors=f"twice = {package}_plugin:Gain")
    pack, policy = pack_with(tmp_path / "packs" / "halves", transform), PackPolicy(preprocessors=allowed)
    with pytest.raises(PackError) as refusal:
        PackCatalogue([pack.parent], built_in=False, policy=policy).get("halves")
    assert refusal.value.code is ErrorCode.PACK_PLUGIN
    assert message in refusal.value.client_message
    with pytest.raises(PackError, match="PACK_PLUGIN"):
        add_pack(str(pack), tmp_path / "store", policy=policy)
    assert list((tmp_path / "store").glob("halves*")) == []


def test_the_plug_in_is_part_of_the_digest_and_of_the_provenance(site: Path, tmp_path: Path) -> None:
    folder = pack_with(tmp_path / "packs" / "halves", "plugin:gain@1.0")
    pack = PackCatalogue([folder.parent], built_in=False, policy=PackPolicy(preprocessors=("gain",))).get("halves")
    assert [str(each) for each in pack.provenance.plugins] == ["plug-in 'gain' of filters 1.0"]
    assert str(input_chain(pack, pack.inputs[0])[-1]) == "plugin:gain@1.0() of filters 1.0"
    assert pack.digest != load_pack(folder).digest
    other = {name: type(ref)(ref.group, name, ref.package, "1.1", ref.value) for name, ref in pack.plugins.items()}
    assert load_pack(folder).with_plugins(other).digest != pack.digest


def test_a_package_that_was_changed_since_the_server_looked_is_not_run(site: Path) -> None:
    chain = plugin_chain(("gain", {}))
    metadata = site / "filters-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 1.1"))
    with pytest.raises(RadserveError, match=r"is no longer what it was: installed is 1\.1") as refusal:
        prepare_now(chain, image_of(radiograph(20, 20)), [0])
    assert refusal.value.code is ErrorCode.PLUGIN_FAILED
