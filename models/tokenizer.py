"""The tokenizer of a model pack: prompts to token ids, and decoder tokens back to readable report text.

`tokenizer.json` is a file of Hugging Face's `tokenizers`, of any model: word-level, byte-pair (CLIP), WordPiece (BERT).
Which tokens begin, end and fill a text, the pack says itself ([tokenizer]); a post-processor in the file is not used.

Going back, a piece depends on the tokens before it only, so that text can be streamed token by token. A file with a
decoder (sub-words) says itself how pieces join; words without one get no space before `. , : ;` or between Chinese
words, a capital after the start, a full stop or a colon, and section heads a line of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from radserve.errors import ErrorCode, PackError
from radserve.models.pack import TOKENIZER_FILE, ModelPack
from radserve.models.pack_graphs import TEXT_ENCODER
from radserve.models.pack_types import TokenizerSpec

PAD, START, END, UNKNOWN = "<pad>", "<start>", "<end>", "<unk>"
SPECIAL_TOKENS = (PAD, START, END, UNKNOWN)
_SENTENCE_BREAKS = frozenset(".:")
_HALF = "\ufffd"  # what stands for a character that is not all there yet
_CLOSING_MARKS = frozenset(".,:;")
_CHINESE = (("\u4e00", "\u9fff"), ("\u3000", "\u303f"), ("\uff00", "\uffef"))  # words, then punctuation marks


class PackTokenizer:
    """Tokenizer read from the `tokenizer.json` of a pack, a path or what it holds.

    `context_length` is the fixed length T of encoded prompts; `sections` are the words that head a report section;
    `special` names the special tokens. Raises PackError (PACK_INVALID) when the file is not a tokenizer or lacks a
    special token.
    """

    def __init__(
        self,
        source: Path | bytes,
        *,
        context_length: int = 64,
        sections: Sequence[str] = ("Findings", "Impression"),
        special: TokenizerSpec | None = None,
    ) -> None:
        name = source.name if isinstance(source, Path) else TOKENIZER_FILE
        try:
            self._tokenizer = Tokenizer.from_buffer(source if isinstance(source, bytes) else source.read_bytes())
        except Exception as error:  # the library raises bare Exception for every kind of bad file
            message = f"tokenizer file {name!r} cannot be read"
            raise PackError(ErrorCode.PACK_INVALID, message, detail=f"{message}: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.context_length = context_length
        self._sections = frozenset(name.lower() for name in sections)
        names = special or TokenizerSpec()
        self.pad_id, self.end_id = self.special_id(names.pad), self.special_id(names.end)
        self._starts = [self.special_id(names.start)] if names.start else []
        self.start_id = (*self._starts, self.end_id)[0]  # what a report is written from
        self.unknown_id = self.special_id(names.unknown) if names.unknown else None
        self._special = frozenset(filter(None, (names.pad, names.start, names.end, names.unknown)))

    @property
    def vocabulary_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary by token id."""
        return tuple(self._word(token_id) for token_id in range(self.vocabulary_size))

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Tokens that no text holds."""
        return tuple(each for each in (self.pad_id, self.start_id, self.unknown_id) if each is not None)

    def encode_words(self, text: str) -> list[int]:
        """Token ids of the words of a text, without special tokens; an unknown word becomes `unknown_id`."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_prompt(self, text: str) -> npt.NDArray[np.int64]:
        """Token ids, shape (context_length,), int64: start, words, end, padding; too long a text loses its tail."""
        words = self.encode_words(text)[: max(0, self.context_length - len(self._starts) - 1)]
        whole = [*self._starts, *words, self.end_id][-self.context_length :]
        ids = np.full(self.context_length, self.pad_id, dtype=np.int64)
        ids[: len(whole)] = whole
        return ids

    def piece(self, token_id: int, previous: Sequence[int]) -> str:
        """The text that `token_id` adds after the tokens `previous`; empty for special tokens.

        A token that is part of a character adds nothing, the one that ends it adds the character.
        """
        if self._tokenizer.decoder is not None:
            before = self._decoded(previous)
            return self._decoded([*previous, token_id]).removeprefix(before)
        return _piece(self._word(token_id), [self._word(each) for each in previous], self._sections)

    def pieces(self, token_ids: Sequence[int]) -> str:
        """The whole text of a token sequence: the pieces of its tokens, one after the other."""
        if self._tokenizer.decoder is not None:
            return self._decoded(token_ids)
        return self.detokenise([self._word(each) for each in token_ids])

    def detokenise(self, words: Sequence[str]) -> str:
        """Readable text from lower-case words and punctuation marks; special tokens vanish."""
        return "".join(_piece(word, words[:index], self._sections) for index, word in enumerate(words))

    def _decoded(self, token_ids: Sequence[int]) -> str:
        kept = [each for each in token_ids if self._word(each) not in self._special]
        # The library's decoders are not made for a text without tokens: one of them panics.
        return str(self._tokenizer.decode(kept, skip_special_tokens=False)).rstrip(_HALF) if kept else ""

    def _word(self, token_id: int) -> str:
        word = self._tokenizer.id_to_token(int(token_id)) if token_id >= 0 else None
        if word is None:
            raise PackError(
                ErrorCode.MODEL_OUTPUT_INVALID,
                f"token id {token_id} is outside the vocabulary of {self.vocabulary_size} words",
            )
        return str(word)

    def special_id(self, token: str) -> int:
        """The id of a special token; raises PackError (PACK_INVALID) when the tokenizer has none of this name."""
        token_id = self._tokenizer.token_to_id(token)
        if token_id is None:
            raise PackError(ErrorCode.PACK_INVALID, f"tokenizer has no special token {token!r}")
        return int(token_id)


def pack_tokenizer(pack: ModelPack) -> PackTokenizer | None:
    """The tokenizer of a pack, its prompts as long as the text encoder takes; None for a pack without texts."""
    content = pack.read_tokenizer()
    if content is None:
        return None
    text = pack.graphs.get(TEXT_ENCODER)
    length = text.inputs[0].shape[1] if text else pack.decoder.max_tokens if pack.decoder else 1
    sections = pack.decoder.sections if pack.decoder else ()
    return PackTokenizer(content, context_length=length, sections=sections, special=pack.tokenizer)


def is_chinese(text: str) -> bool:
    """Whether a word or text holds a Chinese character or punctuation mark."""
    return any(first <= character <= last for character in text for first, last in _CHINESE)


def _piece(word: str, previous: Sequence[str], sections: frozenset[str]) -> str:
    if _is_special(word):
        return ""
    last = next((each for each in reversed(previous) if not _is_special(each)), None)
    if last is None:
        return _capitalised(word)
    if word in sections:
        return "\n" + _capitalised(word)
    if word in _CLOSING_MARKS:
        return word
    if word == "-" or last == "-" or (is_chinese(word) and is_chinese(last)):
        return word
    return " " + (_capitalised(word) if last in _SENTENCE_BREAKS else word)


def _is_special(word: str) -> bool:
    return word.startswith("<") and word.endswith(">") and len(word) > 2


def _capitalised(word: str) -> str:
    return word[:1].upper() + word[1:]
