"""One StudyAnalyser for each pack, made when it is first asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from radserve.models.catalogue import PackCatalogue
from radserve.models.pack import ModelPack
from radserve.models.tokenizer import pack_tokenizer
from radserve.pipelines.intended_use import IntendedUsePolicy
from radserve.pipelines.prompts import embed_prompts
from radserve.pipelines.study import StudyAnalyser
from radserve.ports import InstanceSource, ModelRunner, Preprocessor


class Analysers:
    """Makes and keeps the analysers. The prompts of a pack go through its text encoder once."""

    def __init__(
        self,
        catalogue: PackCatalogue,
        source: InstanceSource,
        preprocessor_of: Callable[[ModelPack], Preprocessor],
        runner: ModelRunner,
        policy: IntendedUsePolicy,
        default_pack: str,
    ) -> None:
        self._catalogue = catalogue
        self._source = source
        self._preprocessor_of = preprocessor_of
        self._runner = runner
        self._policy = policy
        self._default_pack = default_pack
        self._made: dict[str, StudyAnalyser] = {}
        self._making = asyncio.Lock()

    async def get(self, pack_name: str) -> StudyAnalyser:
        """The analyser of the named pack, of the default pack for "". Raises PackError UNKNOWN_PACK, ModelError."""
        name = pack_name or self._default_pack
        async with self._making:
            if name not in self._made:
                self._made[name] = await self._make(self._catalogue.get(name))
            return self._made[name]

    async def _make(self, pack: ModelPack) -> StudyAnalyser:
        tokenizer = pack_tokenizer(pack)
        return StudyAnalyser(
            pack=pack,
            tokenizer=tokenizer,
            prompts=await embed_prompts(pack, tokenizer, self._runner),
            source=self._source,
            preprocessor=self._preprocessor_of(pack),
            runner=self._runner,
            policy=self._policy,
        )
