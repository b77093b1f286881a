"""Tokenizers of open_clip and Hugging Face as one tokenizer.json, and the shape of a BERT from its weights."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor

from radserve.models.importing.imported import refused
from radserve.models.pack_types import TokenizerSpec
from radserve.models.tokenizer import PackTokenizer

HEAD_WIDTH = 64  # of every BERT that was published
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def pack_tokenizer_of(tokenizer: Any, length: int, texts: Sequence[str]) -> tuple[str, TokenizerSpec]:
    """A tokenizer of open_clip as JSON with its special tokens; raises PACK_INVALID where the two differ on `texts`."""
    if hasattr(tokenizer, "bpe_ranks"):
        text, special = _byte_pairs(tokenizer)
    else:
        text, special = hugging_face(tokenizer.tokenizer)
    with tempfile.TemporaryDirectory(prefix="radserve-import-") as scratch:
        path = Path(scratch) / "tokenizer.json"
        path.write_text(text, encoding="utf-8")
        ours = PackTokenizer(path, context_length=length, special=special)
    for each in texts:
        theirs = np.asarray(tokenizer([each], context_length=length))[0]
        if not np.array_equal(ours.encode_prompt(each), theirs):
            raise refused(f"the tokenizer in the pack reads {each!r} differently than the model's own")
    return text, special


def hugging_face(tokenizer: Any) -> tuple[str, TokenizerSpec]:
    """A fast tokenizer of transformers as JSON, and the tokens that it puts before, after and behind a text."""
    if not getattr(tokenizer, "is_fast", False):
        raise refused("the tokenizer has no fast form (tokenizer.json)")
    bare = tokenizer("chest", add_special_tokens=False).input_ids
    whole = tokenizer("chest").input_ids
    before = whole[: len(whole) - len(bare) - 1]
    if whole[len(before) : -1] != bare or len(before) > 1:
        raise refused("the tokenizer puts more than one token before or after a text")
    name = tokenizer.convert_ids_to_tokens
    return tokenizer.backend_tokenizer.to_str(), TokenizerSpec(
        start=name(before)[0] if before else "",
        end=name([whole[-1]])[0],
        pad=tokenizer.pad_token,
        unknown=tokenizer.unk_token or "",
    )


def _byte_pairs(tokenizer: Any) -> tuple[str, TokenizerSpec]:
    """CLIP's own byte-pair tokenizer: lower case, pieces that end a word marked, padded with token 0."""
    ranked = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    built = Tokenizer(BPE(dict(tokenizer.encoder), ranked, end_of_word_suffix="</w>", fuse_unk=False))
    built.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    # The mark of a word's end becomes the blank of the byte alphabet; behind the last word it is none.
    built.decoder = decoders.Sequence(
        [decoders.Replace("</w>", "\u0120"), decoders.ByteLevel(), decoders.Strip(" ", 0, 1)]
    )
    padding = tokenizer.decoder[0]
    special = TokenizerSpec(start="<start_of_text>", end="<end_of_text>", pad=padding, unknown="")
    return built.to_str(), special


def bert_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """The configuration of a BERT by the shapes of its weights, for a text tower that names only where it came from."""
    prefix = "text.transformer."
    words = state.get(f"{prefix}embeddings.word_embeddings.weight")
    first = state.get(f"{prefix}encoder.layer.0.intermediate.dense.weight")
    if words is None or first is None:
        raise refused(f"the text tower {name!r} is no BERT and its config.json is not in the folder")
    layer = f"{prefix}encoder.layer."
    layers = {key.removeprefix(layer).split(".")[0] for key in state if key.startswith(layer)}
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": words.shape[0],
        "hidden_size": words.shape[1],
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, words.shape[1] // HEAD_WIDTH),
        "intermediate_size": first.shape[0],
        "max_position_embeddings": state[f"{prefix}embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state[f"{prefix}embeddings.token_type_embeddings.weight"].shape[0],
        "pad_token_id": 0,
    }


def read_json(data: str) -> dict[str, Any]:
    """JSON of a configuration file. Raises PACK_INVALID."""
    try:
        found = json.loads(data)
    except ValueError as error:
        raise refused("a configuration file is not JSON", error) from error
    if not isinstance(found, dict):
        raise refused("a configuration file holds no object")
    return found
