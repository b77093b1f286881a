"""From a decoder's tokens to the text of a report and its sections; what a text says of a label."""

from __future__ import annotations

from collections.abc import Sequence

from radserve.decoding import DecodingOptions, TextRules
from radserve.errors import ErrorCode, ModelError, RequestError
from radserve.models.decoding.constraint import is_ideograph, normalised
from radserve.models.pack import ModelPack
from radserve.models.pack_types import DecoderSpec, PackLabel
from radserve.models.tokenizer import PackTokenizer

ENGLISH = "en"


def decoder_of(pack: ModelPack) -> DecoderSpec:
    """What the pack states of its decoder. Raises MODEL_UNAVAILABLE for a pack that writes no text."""
    if pack.decoder is None:
        raise ModelError(ErrorCode.MODEL_UNAVAILABLE, f"pack {pack.name!r} has no report decoder")
    return pack.decoder


def languages(pack: ModelPack) -> tuple[str, ...]:
    """The languages a pack writes, ISO 639-1; a pack that states none writes English."""
    return tuple(decoder_of(pack).start_tokens) or (ENGLISH,)


def check_language(pack: ModelPack, language: str) -> None:
    """Raise LANGUAGE_NOT_AVAILABLE, naming those it writes, where a pack does not write a language."""
    if language not in languages(pack):
        raise RequestError(
            ErrorCode.LANGUAGE_NOT_AVAILABLE,
            f"language: got {language!r}, expected one of {list(languages(pack))}, which pack {pack.name} writes",
        )


def section_names(pack: ModelPack, language: str) -> tuple[str, ...]:
    """The heads of the sections in a language: those with Chinese characters are the Chinese ones."""
    chinese = tuple(name for name in decoder_of(pack).sections if any(map(is_ideograph, name)))
    others = tuple(name for name in decoder_of(pack).sections if name not in chinese)
    return (chinese or others) if language == "zh" else (others or chinese)


def text_rules(
    pack: ModelPack, tokenizer: PackTokenizer, language: str, options: DecodingOptions, phrases: Sequence[str]
) -> TextRules:
    """What a report of this pack is held to. Raises LANGUAGE_NOT_AVAILABLE for a language that the pack does not write.

    A pack whose vocabulary lacks a word of a section's head writes without sections, and so it is not held to them.
    """
    check_language(pack, language)
    decoder = decoder_of(pack)
    word = decoder.start_tokens.get(language)
    starts = {each: tokenizer.special_id(each) for each in decoder.start_tokens.values()}
    heads = tuple(tuple(tokenizer.encode_words(f"{name}:")) for name in section_names(pack, language))
    if any(tokenizer.unknown_id in head or not head for head in heads):
        heads = ()
    bound = decoder.max_tokens
    return TextRules(
        start_id=starts[word] if word else tokenizer.start_id,
        end_id=tokenizer.end_id,
        silent_ids=tuple(sorted({*tokenizer.special_ids, *starts.values()})),
        max_tokens=min(options.max_tokens or bound, bound),
        heads=heads,
        phrases=tuple(phrases),
    )


class WrittenText:
    """The text of one report as its tokens come."""

    def __init__(self, tokenizer: PackTokenizer, rules: TextRules) -> None:
        self._tokenizer, self._rules = tokenizer, rules
        self._tokens = [rules.start_id]
        self._pieces: list[str] = []

    def add(self, token_ids: Sequence[int]) -> list[str]:
        """Take tokens in and return the piece of text that each adds."""
        added = []
        for token_id in token_ids:
            added.append(self._tokenizer.piece(token_id, self._tokens))
            self._tokens.append(token_id)
        self._pieces += added
        return added

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def cut(self) -> bool:
        """Whether it is as long as it may get."""
        return len(self._tokens) > self._rules.max_tokens


def split_sections(text: str, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Split generated text at its section heads ("Findings: ...") into (name, text); what has no head is "Findings"."""
    parts: dict[str, list[str]] = {}
    current = names[0]
    for line in text.splitlines():
        head, colon, rest = line.partition(":")
        name = next((each for each in names if each.lower() == head.strip().lower()), None) if colon else None
        current, body = (name, rest) if name else (current, line)
        parts.setdefault(current, []).append(body.strip())
    return tuple((name, " ".join(filter(None, parts[name]))) for name in names if name in parts)


def asserted_states(text: str, label: PackLabel) -> frozenset[bool]:
    """What the text says of the label by the pack's own phrases: asserts (True), denies (False), both or nothing.

    Longer phrases count first and use up their words, so that "no pneumonia" does not assert "pneumonia".
    """
    if label.assertions is None:
        return frozenset()
    left = normalised(text)
    phrases = [(normalised(phrase), True) for phrase in label.assertions.positive]
    phrases += [(normalised(phrase), False) for phrase in label.assertions.negative]
    states = set()
    for phrase, state in sorted(phrases, key=lambda each: -len(each[0])):
        if phrase in left:
            states.add(state)
            left = left.replace(phrase, " | ")
    return frozenset(states)
