"""How report text is written on this site: by which decoder, and without which claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from radserve.models.pack import ModelPack
from radserve.models.tokenizer import PackTokenizer
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.repository import loop_of
from radserve.pipelines.authoring import ReportAuthor
from radserve.pipelines.claims import NeverAllowed, pack_claims
from radserve.pipelines.decoders import ReportDecoder, StepDecoder, StreamDecoder
from radserve.pipelines.remote_report import RemoteAuthor
from radserve.ports import TextGenerator


@dataclass(frozen=True, slots=True)
class Writing:
    """Makes the authors of packs. `claims` are the site's never-allowed claims; a pack may add its own.

    `generator` is the site's text service, if it has one.
    """

    decoder_of: Callable[[ModelPack, PackTokenizer], ReportDecoder]
    claims: NeverAllowed
    generator: TextGenerator | None = None

    @classmethod
    def on(
        cls, runner: TritonRunner, *, loop: bool, claims: NeverAllowed, generator: TextGenerator | None = None
    ) -> Writing:
        """Writing on a Triton; with `loop` by the models there that write whole reports."""

        def decoder(pack: ModelPack, tokenizer: PackTokenizer) -> ReportDecoder:
            if loop:
                return StreamDecoder(pack, loop_of(pack), runner)
            return StepDecoder(pack, tokenizer.words, runner)

        return cls(decoder, claims, generator)

    def remote(self, pack: ModelPack) -> RemoteAuthor | None:
        """The author who has the text service write, None without one. Raises as `author`."""
        if self.generator is None:
            return None
        return RemoteAuthor.of(pack, self.generator, self.claims.joined(pack_claims(pack.folder)))

    def author(self, pack: ModelPack, tokenizer: PackTokenizer | None) -> ReportAuthor | None:
        """The author of a pack, None for one that writes no text.

        Raises INVALID_ARGUMENT where the pack's own list of claims cannot be read.
        """
        if pack.decoder is None or tokenizer is None:
            return None
        claims = self.claims.joined(pack_claims(pack.folder))
        return ReportAuthor.of(pack, tokenizer, self.decoder_of(pack, tokenizer), claims)
