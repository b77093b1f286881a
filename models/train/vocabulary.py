"""Builds the tokenizer file of the pack from the words its sentences use."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from radserve.models.tokenizer import SPECIAL_TOKENS, UNKNOWN
from radserve.models.train.wordings import START_TOKENS, vocabulary


def write_tokenizer(path: Path) -> None:
    """Write `tokenizer.json`: special tokens first (<pad> is 0), then the words in alphabetical order."""
    special = [*SPECIAL_TOKENS, *(token for token in START_TOKENS.values() if token not in SPECIAL_TOKENS)]
    words = [*special, *vocabulary()]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(path), pretty=True)
