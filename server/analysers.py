"""Makes the StudyAnalyser of a pack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from radserve.models.pack import ModelPack
from radserve.models.prompt_cache import PromptCache
from radserve.models.tokenizer import pack_tokenizer
from radserve.pipelines.intended_use import IntendedUsePolicy
from radserve.pipelines.prompts import embed_prompts
from radserve.pipelines.study import StudyAnalyser
from radserve.ports import InstanceSource, ModelRunner, Preprocessor
from radserve.server.writing import Writing


@dataclass(frozen=True, slots=True)
class AnalyserMaker:
    """What analysers of all packs share."""

    source: InstanceSource
    preprocessor_of: Callable[[ModelPack], Preprocessor]
    runner: ModelRunner
    policy: IntendedUsePolicy
    writing: Writing
    prompts: PromptCache | None = None

    async def make(self, pack: ModelPack) -> StudyAnalyser:
        """The analyser of a pack whose graphs answer; prompts that are not cached are embedded. Raises ModelError."""
        tokenizer = pack_tokenizer(pack)
        return StudyAnalyser(
            pack=pack,
            author=self.writing.author(pack, tokenizer),
            prompts=await embed_prompts(pack, tokenizer, self.runner, self.prompts),
            source=self.source,
            preprocessor=self.preprocessor_of(pack),
            runner=self.runner,
            policy=self.policy,
            remote=self.writing.remote(pack),
            templates=self.writing.templates_of(pack),
        )
