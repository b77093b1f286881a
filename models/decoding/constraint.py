"""What a report may say, token by token: its sections in order, each once, and no phrase that is never allowed.

Needs the standard library and numpy only and imports nothing of radserve: this file is copied into the Triton model
repository.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

_WORD_END = "</w>"  # how CLIP's byte pairs mark a token that ends a word
_BYTE_BLANK = "\u0120"  # the blank before a word where tokens are of bytes, each shown as a character
_BLANK = "\u2581"  # the same where they are of characters (SentencePiece)
_GOES_ON = "##"  # a token that goes on with a word (WordPiece)
_SHOWN = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))  # bytes that are shown as themselves
_BREAKS = frozenset(".:;!?。")  # of their wide forms NFKC makes these


def normalised(text: str) -> str:
    """Text as phrases are compared: lower case, a blank on each side of a word, none between Chinese characters.

    The end of a sentence becomes "|", so that no phrase reaches over it; other marks count as blanks.
    """
    units: list[str] = []
    for character in unicodedata.normalize("NFKC", text).lower():
        if is_ideograph(character):
            units.append(character)
        elif character.isalnum():
            if units and units[-1][-1:].isalnum() and not is_ideograph(units[-1][-1]):
                units[-1] += character
            else:
                units.append(character)
        elif character in _BREAKS:
            units.append("|")
        else:
            units.append("")
    words = [each for each in units if each]
    return "".join(each if is_ideograph(each[0]) else f" {each} " for each in words).replace("  ", " ")


def is_ideograph(character: str) -> bool:
    """Whether a character is one of the Chinese ones (CJK unified and compatibility ideographs)."""
    return "\u3400" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff"


def pieces(words: Sequence[str]) -> tuple[list[str | None], bool]:
    """What each token of a vocabulary adds to the normalised text, and whether words are open at their end.

    None for a token that holds part of a character. Vocabularies of whole words, of byte pairs (CLIP: a mark after a
    word; GPT-2: one before it), WordPiece and SentencePiece tell by their marks what they are; with those that mark
    the beginning a word may always go on.
    """
    if any(word.endswith(_WORD_END) for word in words):
        return [
            _spelled(_of_bytes(word.removesuffix(_WORD_END)), after=word.endswith(_WORD_END)) for word in words
        ], False
    if any(word.startswith(_BYTE_BLANK) for word in words):
        return [_spelled(_of_bytes(word)) for word in words], True
    if any(word.startswith(_BLANK) for word in words):
        return [_spelled(word.replace(_BLANK, " ")) for word in words], True
    if any(word.startswith(_GOES_ON) for word in words):
        return [_spelled(word.removeprefix(_GOES_ON), before=not word.startswith(_GOES_ON)) for word in words], True
    return [_spelled(word, before=True, after=True) for word in words], False


def _spelled(text: str | None, *, before: bool = False, after: bool = False) -> str | None:
    """A token's text as it joins the normalised text, with a blank before or after it where it says so."""
    if text is None:
        return None
    spelled = normalised(text) or " "
    if text[:1].isalnum() and not before:
        spelled = spelled.removeprefix(" ")
    return spelled.removesuffix(" ") if text[-1:].isalnum() and not after else spelled


def _of_bytes(token: str) -> str | None:
    """The text of a token of bytes, as GPT-2 and CLIP show them; None where it ends within a character."""
    hidden = [byte for byte in range(0x100) if byte not in _SHOWN]
    byte_of = {chr(byte): byte for byte in _SHOWN} | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}
    try:
        return bytes([byte_of[letter] for letter in token]).decode()
    except KeyError:
        return token
    except UnicodeDecodeError:
        return None


class _Place(NamedTuple):
    """Where the text so far stands in the phrases: a node of the automaton, and whether a blank was fed last."""

    node: int
    blank: bool


class PhraseAutomaton:
    """Finds phrases in a text that is fed piece by piece (Aho and Corasick, 1975, over normalised characters)."""

    def __init__(self, phrases: Iterable[str], *, open_words: bool = False) -> None:
        """With `open_words` a phrase counts whatever its last word goes on to."""
        self._next: list[dict[str, int]] = [{}]
        self._ends = [False]
        self._fall = [0]
        for phrase in phrases:
            self._add(normalised(phrase).rstrip() if open_words else normalised(phrase))
        self._link()

    @property
    def start(self) -> _Place:
        """Before the first word, where a blank is taken as fed."""
        return _Place(self._move(0, " "), True)

    def feed(self, place: _Place, piece: str) -> _Place | None:
        """The place after a piece of normalised text; None where it completes a phrase."""
        node, blank = place
        for character in piece:
            if character == " " and blank:
                continue
            node, blank = self._move(node, character), character == " "
            if self._ends[node]:
                return None
        return _Place(node, blank)

    def _add(self, phrase: str) -> None:
        node = 0
        for character in phrase:
            if character not in self._next[node]:
                self._next[node][character] = len(self._next)
                self._next.append({})
                self._ends.append(False)
                self._fall.append(0)
            node = self._next[node][character]
        if node:
            self._ends[node] = True

    def _link(self) -> None:
        queue = deque(self._next[0].values())
        while queue:
            node = queue.popleft()
            for character, child in self._next[node].items():
                self._fall[child] = self._move(self._fall[node], character)
                self._ends[child] = self._ends[child] or self._ends[self._fall[child]]
                queue.append(child)

    def _move(self, node: int, character: str) -> int:
        while node and character not in self._next[node]:
            node = self._fall[node]
        return self._next[node].get(character, 0)


@dataclass(frozen=True)
class _State:
    """Of one text: its place in the phrases, its section (-1 before the first), the words in it, its last tokens."""

    place: _Place
    section: int = -1
    body: int = 0
    recent: tuple[int, ...] = ()


class ReportConstraint:
    """Holds a text to its sections and keeps phrases out of it (a search.Constraint).

    `words` are the vocabulary by token id. `heads` are the token sequences that open the sections, in order: the text
    begins with the first, each may come once and after the one before it, none is empty, and the text ends in the
    last. Without heads any order goes. `silent_ids` are special tokens: of them only `end_id` may be chosen. `phrases`
    may not occur, whatever tokens would spell them: so a token that is part of a character is not chosen.
    """

    def __init__(
        self,
        words: Sequence[str],
        end_id: int,
        silent_ids: Iterable[int],
        heads: Sequence[Sequence[int]] = (),
        phrases: Iterable[str] = (),
    ) -> None:
        silent, (spelled, open_words) = set(silent_ids) | {end_id}, pieces(words)
        self._pieces = ["" if number in silent else piece for number, piece in enumerate(spelled)]
        self._end_id = end_id
        self._heads = [tuple(head) for head in heads]
        self._memory = max([len(head) for head in self._heads], default=1)
        self._automaton = PhraseAutomaton(phrases, open_words=open_words)
        self._usual = np.array([number not in silent for number in range(len(words))])
        self._clean: dict[_Place, Mask] = {}

    def start(self) -> _State:
        """The state before the first token."""
        return _State(self._automaton.start)

    def step(self, state: _State, token: int) -> _State:
        """The state after an allowed token."""
        place = self._automaton.feed(state.place, self._pieces[token] or "") or state.place
        recent = (*state.recent, token)[-self._memory :]
        following = state.section + 1
        if following < len(self._heads) and recent[-len(self._heads[following]) :] == self._heads[following]:
            return _State(place, following, 0, recent)
        return _State(place, state.section, state.body + 1, recent)

    def allowed(self, state: _State) -> Mask:
        """For each token (V,) whether it may come next; the end may where the last section says something."""
        mask = self._without_phrases(state.place)
        may_end = state.body > 0 and self._automaton.feed(state.place, " ") is not None
        if not self._heads:
            mask[self._end_id] = may_end
            return mask
        if state.section < 0:
            opening = self._heads[0][min(state.body, len(self._heads[0]) - 1)]
            only = np.zeros_like(mask)
            only[opening] = True
            return only
        for number, head in enumerate(self._heads):
            if state.recent[len(state.recent) - len(head) + 1 :] == head[:-1]:
                says_something = state.body > len(head) - 1
                mask[head[-1]] &= number == state.section + 1 and says_something
        mask[self._end_id] = state.section == len(self._heads) - 1 and may_end
        return mask

    def _without_phrases(self, place: _Place) -> Mask:
        if place not in self._clean:
            fits = [piece is not None and self._automaton.feed(place, piece) is not None for piece in self._pieces]
            self._clean[place] = self._usual & np.array(fits)
        return self._clean[place].copy()
