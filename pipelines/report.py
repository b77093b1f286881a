"""The report decoder: text from an image, one token after the other, each handed on before the next is computed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, ModelError
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackLabel
from radserve.models.tokenizer import PackTokenizer
from radserve.pipelines.classify import EncodedFrame
from radserve.pipelines.deadline import Deadline
from radserve.ports import ModelRunner
from radserve.tensors import InferenceRequest


@dataclass(frozen=True, slots=True)
class DecodedToken:
    """A token the decoder chose and the text that it adds."""

    token_id: int
    text: str


async def decode_report(
    pack: ModelPack, tokenizer: PackTokenizer, runner: ModelRunner, frame: EncodedFrame, deadline: Deadline
) -> AsyncIterator[DecodedToken]:
    """Greedy decoding with the key-value cache of the decoder graph; ends at the end token or at `max_tokens`.

    Nothing runs ahead of the consumer: closing the iterator stops the decoder before its next step.
    """
    if pack.decoder is None:
        raise ModelError(ErrorCode.MODEL_UNAVAILABLE, f"pack {pack.name!r} has no report decoder")
    graph = pack.graphs["decoder_step"]
    cache_spec = next(spec for spec in graph.inputs if spec.name == "cache")
    cache = np.zeros((1, *cache_spec.shape[1:]), dtype=np.float32)
    image_tokens = frame.image_tokens[np.newaxis]
    chosen = [tokenizer.start_id]
    for position in range(pack.decoder.max_tokens):
        inputs: dict[str, npt.NDArray[Any]] = {
            "token": np.array([[chosen[-1]]], dtype=np.int64),
            "position": np.array([[position]], dtype=np.int64),
            "image_tokens": image_tokens,
            "cache": cache,
        }
        response = await runner.infer(InferenceRequest(pack.model("decoder_step"), inputs, deadline.remaining_s()))
        logits, cache = response.outputs["logits"][0], response.outputs["cache_out"]
        if not np.isfinite(logits).all():
            raise ModelError(ErrorCode.MODEL_OUTPUT_INVALID, "the report decoder returned values that are not numbers")
        token_id = int(np.argmax(logits))
        if token_id == tokenizer.end_id:
            return
        yield DecodedToken(token_id, tokenizer.piece(token_id, chosen))
        chosen.append(token_id)


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
    words = "".join(character if character.isalnum() else " " for character in text.lower()).split()
    left = f" {' '.join(words)} "
    phrases = [(phrase, True) for phrase in label.assertions.positive]
    phrases += [(phrase, False) for phrase in label.assertions.negative]
    states = set()
    for phrase, state in sorted(phrases, key=lambda each: -len(each[0])):
        if f" {phrase} " in left:
            states.add(state)
            left = left.replace(f" {phrase} ", " | ")
    return frozenset(states)


def contradicts(text: str, label: PackLabel, positive: bool) -> bool:
    """Whether the text asserts the opposite of the finding (or both, which is as bad)."""
    return (not positive) in asserted_states(text, label)
