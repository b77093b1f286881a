"""The written part of a draft: the decoder's text of each series, held to the rules while it is written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from radserve.decoding import DecodeJob, DecodingOptions
from radserve.models.pack import ModelPack
from radserve.models.tokenizer import PackTokenizer
from radserve.pipelines.claims import NeverAllowed
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.decoders import ReportDecoder
from radserve.pipelines.report import WrittenText, text_rules


@dataclass(frozen=True, slots=True)
class ReportText:
    """A piece of the report of one series, as the decoder writes it. Preliminary: the draft in the result counts."""

    series_instance_uid: str
    text: str


@dataclass(frozen=True, slots=True)
class Written:
    """The text of one series: what the decoder wrote, and whether it was cut for its length."""

    series_instance_uid: str
    text: str
    cut: bool


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a request wants of the report: its language (ISO 639-1) and how it is decoded."""

    language: str = "en"
    decoding: DecodingOptions = field(default_factory=DecodingOptions)


@dataclass(frozen=True, slots=True)
class ReportAuthor:
    """Writes the texts of a study with a pack's decoder, and keeps `claims` out of them."""

    pack: ModelPack
    tokenizer: PackTokenizer
    decoder: ReportDecoder
    claims: NeverAllowed

    async def write(
        self, series: Sequence[tuple[str, npt.NDArray[np.float32]]], options: ReportOptions, deadline: Deadline
    ) -> AsyncGenerator[ReportText | Written, None]:
        """Write of each series, given as (UID, image tokens (P, C)): pieces, then each series' whole text.

        The series are decoded side by side; their pieces come one series after the other, so that what is read as one
        text makes sense. Raises as ReportDecoder.decode, LANGUAGE_NOT_AVAILABLE for a language the pack does not write.
        """
        if not series:
            return
        rules = text_rules(self.pack, self.tokenizer, options.language, options.decoding, self.claims.phrases())
        texts = [WrittenText(self.tokenizer, rules) for _ in series]
        jobs = [DecodeJob(image_tokens, rules, options.decoding) for _, image_tokens in series]
        waiting: list[list[str]] = [[] for _ in series]
        ended: set[int] = set()
        front = 0
        async with aclosing(self.decoder.decode(jobs, deadline)) as steps:
            async for step in steps:
                waiting[step.job] += texts[step.job].add(step.token_ids)
                ended |= {step.job} if step.finished else set()
                while front < len(series):
                    for piece in waiting[front]:
                        yield ReportText(series[front][0], piece)
                    waiting[front] = []
                    if front not in ended:
                        break
                    front += 1
        for (uid, _), text in zip(series, texts, strict=True):
            yield Written(uid, text.text, text.cut)
