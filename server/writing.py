"""How report text is written on this site: by which decoder, and without which claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from radserve.models.pack import ModelPack
from radserve.models.tokenizer import PackTokenizer
from radserve.models.triton.client import TritonRunner
from radserve.models.triton.repository import loop_of
from radserve.pipelines.authoring import ReportAuthor
from radserve.pipelines.claims import NeverAllowed, pack_claims
from radserve.pipelines.decoders import ReportDecoder, StepDecoder, StreamDecoder
from radserve.pipelines.remote_report import RemoteAuthor
from radserve.pipelines.template_report import SiteTemplate, TemplateAuthor
from radserve.ports import TextGenerator


@dataclass(frozen=True, slots=True)
class Writing:
    """Makes the authors of packs. `claims` are the site's never-allowed claims; a pack may add its own.

    `generator` is the site's text service, if it has one, `templates` its report templates by language.
    """

    decoder_of: Callable[[ModelPack, PackTokenizer], ReportDecoder]
    claims: NeverAllowed
    generator: TextGenerator | None = None
    templates: Mapping[str, SiteTemplate] = field(default_factory=dict)

    @classmethod
    def on(
        cls,
        runner: TritonRunner,
        *,
        loop: bool,
        claims: NeverAllowed,
        generator: TextGenerator | None = None,
        templates: Mapping[str, SiteTemplate] = MappingProxyType({}),
    ) -> Writing:
        """Writing on a Triton; with `loop` by the models there that write whole reports."""

        def decoder(pack: ModelPack, tokenizer: PackTokenizer) -> ReportDecoder:
            if loop:
                return StreamDecoder(pack, loop_of(pack), runner)
            return StepDecoder(pack, tokenizer.words, runner)

        return cls(decoder, claims, generator, templates)

    def remote(self, pack: ModelPack) -> RemoteAuthor | None:
        """The author who has the text service write, None without one. Raises as `author`."""
        if self.generator is None:
            return None
        return RemoteAuthor.of(pack, self.generator, self.claims.joined(pack_claims(pack.folder)))

    def templates_of(self, pack: ModelPack) -> Mapping[str, TemplateAuthor]:
        """The authors who word drafts by a template, by language. Raises as `author`."""
        claims = self.claims.joined(pack_claims(pack.folder))
        return {
            language: TemplateAuthor(pack, template, language, claims) for language, template in self.templates.items()
        }

    def author(self, pack: ModelPack, tokenizer: PackTokenizer | None) -> ReportAuthor | None:
        """The author of a pack, None for one that writes no text.

        Raises INVALID_ARGUMENT where the pack's own list of claims cannot be read.
        """
        if pack.decoder is None or tokenizer is None:
            return None
        claims = self.claims.joined(pack_claims(pack.folder))
        return ReportAuthor.of(pack, tokenizer, self.decoder_of(pack, tokenizer), claims)
