"""The pack's tokenizer: fixed-length prompts, and report text that can be streamed piece by piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from radserve.errors import ErrorCode, PackError
from radserve.models.pack import load_pack
from radserve.models.pack_types import TokenizerSpec
from radserve.models.tokenizer import SPECIAL_TOKENS, PackTokenizer, pack_tokenizer
from tests.support.packs import make_tiny_pack

_WORDS = ("findings", "impression", ":", ".", ",", "-", "the", "lung", "is", "clear", "follow", "up")


def _write(path: Path, words: tuple[str, ...]) -> Path:
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(path))
    return path


@pytest.fixture
def tokenizer(tmp_path: Path) -> PackTokenizer:
    return PackTokenizer(_write(tmp_path / "tokenizer.json", (*SPECIAL_TOKENS, *_WORDS)), context_length=8)


def test_a_prompt_is_start_words_end_and_padding(tokenizer: PackTokenizer) -> None:
    ids = tokenizer.encode_prompt("The LUNG is clear.")
    assert ids.dtype == np.int64
    assert ids.tolist() == [1, 10, 11, 12, 13, 7, 2, 0]


def test_a_prompt_that_is_too_long_keeps_its_start_and_end(tokenizer: PackTokenizer) -> None:
    ids = tokenizer.encode_prompt("the lung is clear . " * 5)
    assert ids.tolist() == [1, 10, 11, 12, 13, 7, 10, 2]


def test_an_empty_prompt_is_start_and_end(tokenizer: PackTokenizer) -> None:
    assert tokenizer.encode_prompt("").tolist() == [1, 2, 0, 0, 0, 0, 0, 0]


def test_a_word_outside_the_vocabulary_is_unknown(tokenizer: PackTokenizer) -> None:
    assert tokenizer.encode_words("the spleen") == [10, tokenizer.unknown_id]


def test_text_gets_capitals_punctuation_and_a_line_for_each_section(tokenizer: PackTokenizer) -> None:
    text = "findings : the lung is clear , the lung is clear . follow - up . impression : clear ."
    expected = "Findings: The lung is clear, the lung is clear. Follow-up.\nImpression: Clear."
    assert tokenizer.detokenise(text.split()) == expected


def test_streamed_pieces_add_up_to_the_whole_text(tokenizer: PackTokenizer) -> None:
    ids = tokenizer.encode_words("findings : the lung is clear , is clear . follow - up . impression : the lung .")
    ids = [tokenizer.start_id, *ids, tokenizer.end_id, tokenizer.pad_id]
    streamed = [tokenizer.piece(token, ids[:index]) for index, token in enumerate(ids)]
    assert "".join(streamed) == tokenizer.pieces(ids)
    assert streamed[0] == streamed[-1] == ""


def test_other_section_heads_start_a_line_too(tmp_path: Path) -> None:
    path = _write(tmp_path / "tokenizer.json", (*SPECIAL_TOKENS, *_WORDS))
    tokenizer = PackTokenizer(path, sections=("Lung",))
    assert (
        tokenizer.detokenise(["findings", ":", "clear", ".", "lung", ":", "clear"]) == "Findings: Clear.\nLung: Clear"
    )


@pytest.mark.parametrize("token_id", [-1, 16, 10**6])
def test_a_token_outside_the_vocabulary_is_refused(tokenizer: PackTokenizer, token_id: int) -> None:
    with pytest.raises(PackError, match="outside the vocabulary of 16 words") as caught:
        tokenizer.piece(token_id, [])
    assert caught.value.code is ErrorCode.MODEL_OUTPUT_INVALID


@pytest.mark.parametrize("missing", SPECIAL_TOKENS)
def test_a_tokenizer_without_a_special_token_is_refused(tmp_path: Path, missing: str) -> None:
    words = tuple(word for word in (*SPECIAL_TOKENS, *_WORDS) if word != missing)
    with pytest.raises(PackError, match=missing) as caught:
        PackTokenizer(_write(tmp_path / "tokenizer.json", words))
    assert caught.value.code is ErrorCode.PACK_INVALID


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(PackError, match=r"'tokenizer.json' cannot be read") as caught:
        PackTokenizer(path)
    assert caught.value.code is ErrorCode.PACK_INVALID


def test_characters_of_several_tokens_are_streamed_once_and_whole(tmp_path: Path) -> None:
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "</s>", "<p>"]
    library = Tokenizer(BPE({word: index for index, word in enumerate(words)}, []))
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    library.save(str(tmp_path / "tokenizer.json"))
    bytewise = PackTokenizer(tmp_path / "tokenizer.json", special=TokenizerSpec("<s>", "</s>", "<p>", ""))
    ids = bytewise.encode_words("37 °C, 气胸")
    streamed = [bytewise.piece(token, ids[:index]) for index, token in enumerate(ids)]
    assert "".join(streamed) == bytewise.pieces(ids) == "37 °C, 气胸"
    assert bytewise.pieces(ids[:-1]) == "37 °C, 气"
    assert bytewise.pieces([]) == ""


def test_a_tokenizer_altered_after_loading_is_not_read(tmp_path: Path) -> None:
    pack = load_pack(make_tiny_pack(tmp_path / "tiny"))
    assert pack_tokenizer(pack) is not None
    (tmp_path / "tiny" / "tokenizer.json").write_text("{}")
    with pytest.raises(PackError) as caught:
        pack_tokenizer(pack)
    assert caught.value.code is ErrorCode.PACK_HASH_MISMATCH
