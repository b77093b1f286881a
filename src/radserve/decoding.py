"""How report text is to be written: the choices of a request, and what a decoder is told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from radserve._checks import check_one_of, invalid, read_only

MOST_BEAMS = 16
MOST_TOKENS = 4096


class DecodingStrategy(StrEnum):
    """How tokens are chosen."""

    GREEDY = "greedy"
    BEAM = "beam"
    SAMPLE = "sample"


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Strategy and its parameters; those of another strategy stay at their defaults. Raises INVALID_ARGUMENT.

    Beam search keeps `beams` texts and divides a text's log-probability by (tokens ** `length_penalty`). Sampling draws
    at `temperature` from the `top_k` likeliest tokens (0: all) that hold the mass `top_p`, from `seed` on.
    `max_tokens` bounds a report below what the pack allows; 0 leaves the pack's bound.
    """

    strategy: DecodingStrategy = DecodingStrategy.GREEDY
    beams: int = 4
    length_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int = 0

    def __post_init__(self) -> None:
        check_one_of("decoding strategy", self.strategy, tuple(DecodingStrategy))
        if not 1 <= self.beams <= MOST_BEAMS:
            raise invalid("decoding beams", self.beams, f"1 to {MOST_BEAMS}")
        if not math.isfinite(self.length_penalty) or not 0 <= self.length_penalty <= 5:
            raise invalid("decoding length_penalty", self.length_penalty, "0 to 5")
        if not math.isfinite(self.temperature) or not 0 < self.temperature <= 5:
            raise invalid("decoding temperature", self.temperature, "above 0, at most 5 (greedy decoding is its limit)")
        if self.top_k < 0:
            raise invalid("decoding top_k", self.top_k, "0 for all tokens, or a number of them")
        if not 0 < self.top_p <= 1:
            raise invalid("decoding top_p", self.top_p, "above 0, at most 1")
        if not 0 <= self.seed < 2**63:
            raise invalid("decoding seed", self.seed, "0 to 2^63 - 1")
        if not 0 <= self.max_tokens <= MOST_TOKENS:
            raise invalid("decoding max_tokens", self.max_tokens, f"0 for the pack's bound, or 1 to {MOST_TOKENS}")

    @property
    def parameters(self) -> dict[str, float | int]:
        """The parameters that count for the strategy, by name."""
        names = {
            DecodingStrategy.GREEDY: (),
            DecodingStrategy.BEAM: ("beams", "length_penalty"),
            DecodingStrategy.SAMPLE: ("temperature", "top_k", "top_p", "seed"),
        }[self.strategy]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class TextRules:
    """What a text is held to while it is written, in a pack's token ids.

    It starts after `start_id`, ends at `end_id` or after `max_tokens`, never holds a token of `silent_ids`, has the
    sections that `heads` open, in their order, each once (no heads: no sections), and none of `phrases`.
    """

    start_id: int
    end_id: int
    silent_ids: tuple[int, ...]
    max_tokens: int
    heads: tuple[tuple[int, ...], ...] = ()
    phrases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """A report to be written: what the decoder sees, `image_tokens` (P, C) float32, and how it is to write."""

    image_tokens: npt.NDArray[np.float32] = field(repr=False)
    rules: TextRules
    options: DecodingOptions = DecodingOptions()

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_tokens", read_only(self.image_tokens))


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """A text as a text-generation service wrote it; `cut`: it ended at the greatest length."""

    text: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class DecodeProgress:
    """Tokens of job number `job` that are certain now, and whether its text is at its end."""

    job: int
    token_ids: tuple[int, ...]
    finished: bool
