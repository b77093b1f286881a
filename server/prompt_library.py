"""The prompt sets of the site, and analysers that use one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from radserve.errors import ErrorCode, RadserveError, RequestError
from radserve.models.prompts.prompt_set import PromptSetFile, read_prompt_set
from radserve.models.tokenizer import pack_tokenizer
from radserve.pipelines.prompts import PromptEmbeddings, embed_prompts
from radserve.pipelines.study import StudyAnalyser


class PromptLibrary:
    """The prompt sets (*.toml) of some folders, by id; embeddings of a set for a pack are kept by their hashes."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._sets: dict[str, PromptSetFile] = {}
        self._broken: dict[str, RadserveError] = {}
        self._embedded: dict[tuple[str, str], PromptEmbeddings] = {}
        self._embedding = asyncio.Lock()
        for path in (path for folder in folders for path in sorted(folder.glob("*.toml"))):
            try:
                found = read_prompt_set(path)
                if found.id in self._sets:
                    message = f"prompt set {path.name}: the id {found.id!r} is already known"
                    raise RequestError(ErrorCode.INVALID_ARGUMENT, message)
                self._sets[found.id] = found
            except RadserveError as error:
                self._broken[path.stem] = error

    @property
    def broken(self) -> Mapping[str, RadserveError]:
        """Why files cannot be used, by their name without its ending."""
        return MappingProxyType(self._broken)

    def get(self, name: str) -> PromptSetFile:
        """The set of an id; raises INVALID_ARGUMENT naming those that are known, or why its file cannot be used."""
        if name in self._sets:
            return self._sets[name]
        if name in self._broken:
            raise self._broken[name]
        known = ", ".join(sorted(self._sets)) or "none"
        raise RequestError(ErrorCode.INVALID_ARGUMENT, f"prompt set {name!r} is unknown; known prompt sets: {known}")

    async def applied(self, analyser: StudyAnalyser, name: str) -> StudyAnalyser:
        """The analyser with a prompt set in place of its pack's own; itself for "". Raises as get and embed_prompts."""
        if not name:
            return analyser
        chosen, pack = self.get(name), analyser.pack
        key = pack.digest, chosen.sha256
        async with self._embedding:
            if key not in self._embedded:
                found = await embed_prompts(pack, pack_tokenizer(pack), analyser.runner, prompts=chosen)
                self._embedded[key] = found
        return replace(analyser, prompts=self._embedded[key])
