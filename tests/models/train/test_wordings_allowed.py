"""What the default pack is trained to write, the never-allowed list and the grammar let it write."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.models.decoding.constraint import ReportConstraint
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.vocabulary import write_tokenizer
from radserve.models.train.wordings import START_TOKENS, WORDINGS
from radserve.pipelines.claims import built_in_claims


@pytest.mark.parametrize("language", START_TOKENS)
def test_every_report_of_the_wordings_may_be_written_token_by_token(language: str, tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = PackTokenizer(tmp_path / "tokenizer.json")
    heads = [tokenizer.encode_words(f"{name}:") for name in ("Findings", "Impression")]
    silent = {*tokenizer.special_ids, *(tokenizer.special_id(each) for each in START_TOKENS.values())}
    rules = ReportConstraint(tokenizer.words, tokenizer.end_id, silent, heads, built_in_claims().phrases())
    for wording in WORDINGS:
        for state in (True, False):
            for text in wording.reports(state, language)[::7]:
                place = rules.start()
                for token in [*tokenizer.encode_words(text), tokenizer.end_id]:
                    assert rules.allowed(place)[token], text
                    place = rules.step(place, token)
