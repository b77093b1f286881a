"""Embedded prompts are kept by what they were made from, and a damaged file is as good as none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import load_pack
from radserve.models.prompt_cache import PromptCache, prompts_key
from radserve.models.tokenizer import pack_tokenizer
from radserve.pipelines.prompts import embed_prompts
from tests.support.packs import make_tiny_pack, seal
from tests.support.pipeline import RecordingRunner


async def test_a_second_start_runs_no_text_encoder_and_gives_the_same_directions(tmp_path: Path) -> None:
    pack, cache = load_pack(make_tiny_pack(tmp_path / "tiny")), PromptCache(tmp_path / "cache")
    first, second = RecordingRunner(OnnxRunner([pack])), RecordingRunner(OnnxRunner([pack]))
    made = await embed_prompts(pack, pack_tokenizer(pack), first, cache)
    kept = await embed_prompts(pack, pack_tokenizer(pack), second, cache)
    assert first.runs("text_encoder") > 0 and second.runs("text_encoder") == 0
    assert made.directions.keys() == kept.directions.keys()
    for name, direction in made.directions.items():
        np.testing.assert_array_equal(kept.directions[name], direction)


async def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    pack, cache = load_pack(make_tiny_pack(tmp_path / "tiny")), PromptCache(tmp_path / "cache")
    await embed_prompts(pack, pack_tokenizer(pack), OnnxRunner([pack]), cache)
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:50])
    runner = RecordingRunner(OnnxRunner([pack]))
    await embed_prompts(pack, pack_tokenizer(pack), runner, cache)
    assert runner.runs("text_encoder") > 0
    assert cache.get(pack) is not None


def test_another_wording_tokenizer_or_text_encoder_has_another_key_and_a_threshold_has_not(tmp_path: Path) -> None:
    def key(number: int, file: str = "", old: str = "", new: str = "") -> str:
        folder = make_tiny_pack(tmp_path / str(number) / "tiny")
        if file:
            data = (folder / file).read_bytes()
            assert old.encode() in data
            (folder / file).write_bytes(data.replace(old.encode(), new.encode(), 1))
        return prompts_key(load_pack(seal(folder)))

    assert key(0) == key(1) == key(2, "pack.toml", "threshold = 0.5", "threshold = 0.4")
    others = {
        key(3, "prompts.toml", "normal chest radiograph", "a normal chest radiograph"),
        key(4, "tokenizer.json", "Lowercase", "NFC"),
        key(5, "text_encoder.onnx", "tiny", "tony"),
    }
    assert len(others | {key(6)}) == 4
