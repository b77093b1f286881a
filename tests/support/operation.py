"""Packs in service without a Triton: versions of the tiny pack, ONNX Runtime in process, a host that keeps a diary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radserve.errors import ErrorCode, ModelError
from radserve.evaluation.gates import Gate, Measurement, Profile, Statistic, apply_profile, gate_record
from radserve.models.catalogue import PackCatalogue
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import ModelPack
from radserve.pipelines.claims import built_in_claims
from radserve.pipelines.decoders import StepDecoder
from radserve.pipelines.intended_use import IntendedUsePolicy
from radserve.pipelines.study import StudyAnalyser
from radserve.server.analysers import AnalyserMaker
from radserve.server.operation.audit import AuditLog
from radserve.server.operation.registry import Registry
from radserve.server.operation.served import OperationRecords, ServedPacks
from radserve.server.operation.shadow_store import ShadowStore
from radserve.server.operation.shadows import Shadows
from radserve.server.operation.versions import Versions
from radserve.server.writing import Writing
from tests.support.packs import make_tiny_pack
from tests.support.pipeline import MemorySource, NearestPreprocessor, images_of

PROFILE = Profile("site", "1.0", (Gate("Pneumonia", "auroc", Statistic.VALUE, ">=", 0.9),))
PROFILE_TOML = """\
name = "site"
version = "1.0"
[[gate]]
finding = "Pneumonia"
metric = "auroc"
op = ">="
threshold = 0.90
"""


def evaluation_record(digest: str, *, auroc: float = 0.95, profile: Profile = PROFILE) -> bytes:
    """A record as `radserve evaluate gate` writes it, of the pack with this digest."""
    results = apply_profile(profile, {("Pneumonia", "auroc"): Measurement(auroc)})
    model: Mapping[str, str] = {"name": "tiny", "pipeline_digest": digest} if digest else {}
    return json.dumps(gate_record(profile, results, model=model, evaluation=b"{}")).encode()


def make_versions(folder: Path, *versions: str) -> None:
    """Packs `tiny` of these versions, each with other weights."""
    for seed, version in enumerate(versions):
        make_tiny_pack(folder / version, version=version, seed=seed)


class DiaryHost:
    """Loads nothing: every pack has ONNX Runtime already. `diary` has what was asked of it."""

    def __init__(self) -> None:
        self.diary: list[str] = []
        self.broken: set[str] = set()

    async def load(self, pack: ModelPack) -> None:
        if pack.version in self.broken:
            raise ModelError(ErrorCode.MODEL_UNAVAILABLE, f"version {pack.version} does not load")
        self.diary.append(f"load {pack.version}")

    async def unload(self, pack: ModelPack) -> None:
        self.diary.append(f"unload {pack.version}")


class Operated:
    """Packs in service over `folder`/packs, remembered in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        default_pack: str = "tiny",
        beside: tuple[str, ...] = (),
        waiting: frozenset[str] = frozenset(),
        **records: Any,
    ) -> None:
        self.folder = folder
        self.host = DiaryHost()
        self.source = MemorySource(list(images_of()))
        self.catalogue = PackCatalogue([folder / "packs"], built_in=False)
        self.shadows = Shadows(ShadowStore(folder / "shadow"))
        registry = Registry(folder / "models.json")
        kept = OperationRecords(registry, AuditLog(folder / "audit.jsonl"), **records)
        versions = Versions(self.catalogue, default_pack, beside, waiting)
        self.packs = ServedPacks(versions, kept, self.host, self._make, self.shadows)
        self.at_start = versions.at_start(registry.read())
        self.packs.adopt(self.at_start)

    def states(self) -> dict[str, str]:
        """The state of each version."""
        return {status.pack.version: status.state.value for status in self.packs.listing()}

    async def version(self, reference: str = "tiny") -> str:
        """The version that a request gets."""
        async with self.packs.lease(reference) as analyser:
            return analyser.pack.version

    def record(self, version: str, **given: Any) -> bytes:
        self.catalogue.refresh()
        return evaluation_record(self.catalogue.get(f"tiny@{version}").digest, **given)

    async def _make(self, pack: ModelPack) -> StudyAnalyser:
        runner = OnnxRunner([pack])
        policy = IntendedUsePolicy(strict=False)
        writing = Writing(lambda pack, tokenizer: StepDecoder(pack, tokenizer.words, runner), built_in_claims())
        return await AnalyserMaker(self.source, lambda _: NearestPreprocessor(), runner, policy, writing).make(pack)
