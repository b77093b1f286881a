"""A package of someone else adds a kind by its entry point, and a second checkpoint stands beside the first."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from radserve.errors import ErrorCode, RadserveError
from radserve.models.catalogue import PackCatalogue
from radserve.models.importing.run import import_model, readers
from radserve.models.onnx_runner import OnnxRunner
from radserve.tensors import InferenceRequest
from tests.support.checkpoints import labels_file
from tests.support.other_packs import make_classifier_pack
from tests.support.plugin_site import install

PLUGIN = '''
from dataclasses import replace
from radserve.models.importing.onnx_kind import read_onnx

def read(source, labels, options):
    """A format of its own: an ONNX file with a line before it."""
    from pathlib import Path
    plain = Path(source).with_suffix(".onnx")
    plain.write_bytes(Path(source).read_bytes().split(b"\\n", 1)[1])
    return replace(read_onnx(str(plain), labels, options), kind="thirdparty")
'''


def test_a_third_party_kind_loads_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    (site / "thirdparty-1.0.dist-info").mkdir(parents=True)
    (site / "thirdparty_importer.py").write_text(PLUGIN)
    (site / "thirdparty-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n"
    )
    entry = "[radserve.importers]\nthirdparty = thirdparty_importer:read\n"
    (site / "thirdparty-1.0.dist-info" / "entry_points.txt").write_text(entry)
    assert "thirdparty" not in readers()
    monkeypatch.syspath_prepend(site)
    assert "thirdparty" in readers()
    onnx_file = make_classifier_pack(tmp_path / "halves") / "classifier.onnx"
    (tmp_path / "model.odd").write_bytes(b"ODD 1\n" + onnx_file.read_bytes())
    labels = labels_file(tmp_path, "Left", "Right")
    pack = import_model(str(tmp_path / "model.odd"), labels, tmp_path / "pack", kind="thirdparty")
    assert pack.initialised_from.startswith("thirdparty: model.odd")


async def test_a_second_checkpoint_is_a_new_version_the_old_one_is_served_and_the_card_shows_the_parent(
    tmp_path: Path,
) -> None:
    source = make_classifier_pack(tmp_path / "halves") / "classifier.onnx"
    first = import_model(str(source), labels_file(tmp_path, "Left", "Right"), tmp_path / "packs" / "one")
    model = onnx.load(source)
    bias = next(each for each in model.graph.initializer if each.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(np.array([-1.0, -1.0], np.float32), "bias"))
    onnx.save(model, tmp_path / "next.onnx")
    labels = labels_file(tmp_path, "Left", "Right", head='version = "2.0.0"')
    second = import_model(str(tmp_path / "next.onnx"), labels, tmp_path / "packs" / "two")
    found = PackCatalogue([tmp_path / "packs"], built_in=False).versions("imported")
    assert {pack.version: pack.digest for pack in found} == {"1.0.0": first.digest, "2.0.0": second.digest}
    assert first.digest != second.digest
    runner = OnnxRunner([first, second])
    image = np.linspace(0, 1, 28 * 28, dtype=np.float32).reshape(1, 1, 28, 28)
    logits = []
    for pack, parent in ((first, source), (second, tmp_path / "next.onnx")):
        stated = f"onnx: {parent.name} (sha256 {hashlib.sha256(parent.read_bytes()).hexdigest()})"
        assert pack.initialised_from == stated
        card = (pack.folder / "MODEL_CARD.md").read_text()
        assert f"- initialised from: onnx: {parent.name}" in card
        assert hashlib.sha256(parent.read_bytes()).hexdigest() in card
        answer = await runner.infer(InferenceRequest(pack.model("classifier"), {"image": image}))
        logits.append(answer.outputs["logits"])
    np.testing.assert_allclose(logits[1] - logits[0], 1.0, atol=1e-6)  # the biases differ by that


def test_a_broken_third_party_kind_is_named_and_our_kinds_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def read(source, labels, options):\n    raise KeyError(source)\n"
    lines = "raising = faulty_plugin:read\nmissing = faulty_plugin:other\nonnx = faulty_plugin:read"
    monkeypatch.syspath_prepend(install(tmp_path / "site", "faulty", code, importers=lines))
    source = make_classifier_pack(tmp_path / "halves") / "classifier.onnx"
    labels = labels_file(tmp_path, "Left", "Right")
    for kind, cause in (("raising", "failed: KeyError"), ("missing", "cannot be used: AttributeError")):
        with pytest.raises(RadserveError, match=f"plug-in '{kind}' of faulty 1.0 {cause}") as refusal:
            import_model(str(source), labels, tmp_path / "pack", kind=kind)
        assert refusal.value.code is ErrorCode.PLUGIN_FAILED
    assert import_model(str(source), labels, tmp_path / "pack", kind="onnx").name == "imported"
