"""Model packs: a folder with graphs, prompts, thresholds and their hashes, read as one immutable value."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from radserve.errors import ErrorCode, PackError
from radserve.models.exemplars import ExemplarIndex, exemplars_of
from radserve.models.gate import Gate, read_gate
from radserve.models.learned_prompts import LearnedPrompts, learned_prompts_of
from radserve.models.onnx_signature import read_signature
from radserve.models.pack_checks import check_graphs, check_labels, check_scoring
from radserve.models.pack_files import (
    PACK_FILE,
    invalid,
    pipeline_digest,
    read_table,
    read_verified,
    tensors_in,
    verify_files,
)
from radserve.models.pack_graphs import DECODER_STEP, GRAPH_NAMES, IMAGE_ENCODER, TEXT_ENCODER, GraphSpec
from radserve.models.pack_parity import PARITY_FILE, parity_summary
from radserve.models.pack_types import (
    DecoderSpec,
    GraphTable,
    PackInput,
    PackLabel,
    PackTable,
    PromptScoring,
    PromptSet,
    TokenizerSpec,
    migrated,
)
from radserve.models.schema_faults import first_fault
from radserve.plugins import PluginRef
from radserve.results import PackRef, ProvenanceRecord
from radserve.tensors import ModelRef

__all__ = ["DECODER_STEP", "GRAPH_NAMES", "IMAGE_ENCODER", "TEXT_ENCODER", "GraphSpec", "ModelPack", "load_pack"]

PROMPTS_FILE, TOKENIZER_FILE, CARD_FILE = "prompts.toml", "tokenizer.json", "MODEL_CARD.md"
_Table = TypeVar("_Table")
_Named = TypeVar("_Named", PackInput, PackLabel)


@dataclass(frozen=True, slots=True)
class ModelPack:
    """A verified model pack. `digest`, the pipeline digest, is the SHA-256 over everything in it (pack_files.py).

    `decoder` is None for a pack that writes no report, `prompts` for one that scores no label by prompts. `parity` is
    parity.json in a few words. `gates` has the out-of-distribution gate of each input that states one, `learned` the
    sides of each label whose prompts were learned, `exemplars` the examples of each label that has some. `plugins` are
    the pre-processors of other packages that it names, found by the site's catalogue: load_pack looks for none.
    """

    name: str
    version: str
    model_version: int
    licence: str
    description: str
    initialised_from: str
    risk_tier: str
    training: Mapping[str, str]
    graphs: Mapping[str, GraphSpec]
    inputs: tuple[PackInput, ...]
    labels: tuple[PackLabel, ...]
    decoder: DecoderSpec | None
    tokenizer: TokenizerSpec
    prompts: PromptSet | None
    gates: Mapping[str, Gate]
    digest: str
    parity: str
    folder: Path = field(repr=False)
    learned: Mapping[str, LearnedPrompts] = field(default_factory=lambda: MappingProxyType({}))
    exemplars: Mapping[str, ExemplarIndex] = field(default_factory=lambda: MappingProxyType({}))
    plugins: Mapping[str, PluginRef] = field(default_factory=lambda: MappingProxyType({}))
    card_sha256: str = ""
    tokenizer_sha256: str = ""

    @property
    def ref(self) -> PackRef:
        return PackRef(self.name, self.version, self.model_version, self.digest, self.parity)

    @property
    def provenance(self) -> ProvenanceRecord:
        """Whose work this is, for the results that are made with it."""
        data, plugins = tuple(self.training.items()), tuple(self.plugins.values())
        return ProvenanceRecord(self.licence, self.initialised_from, data, self.card_sha256, plugins)

    def with_plugins(self, plugins: Mapping[str, PluginRef]) -> ModelPack:
        """The pack with the plug-ins that it names. What they are is part of what it does, and so of its digest."""
        if not plugins:
            return self
        lines = [self.digest, *(f"{ref.group} {ref.name} {ref.package} {ref.version}" for ref in plugins.values())]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return replace(self, plugins=plugins, digest=digest)

    @property
    def tokenizer_path(self) -> Path:
        return self.folder / TOKENIZER_FILE

    @property
    def models(self) -> Mapping[ModelRef, GraphSpec]:
        """Every graph under the name a model server knows it by."""
        return MappingProxyType({self.model(name): graph for name, graph in self.graphs.items()})

    def model(self, graph: str) -> ModelRef:
        """How a model server knows the graph of this name. It holds the version: versions stand side by side."""
        if graph not in self.graphs:
            raise invalid(f"pack {self.name!r} has no graph {graph!r}, only {sorted(self.graphs)}")
        return ModelRef(f"{self.name}--{self.version}--{graph}", self.model_version)

    def input(self, name: str) -> PackInput:
        """The input called `name`; raises PACK_INVALID."""
        return _named(self.inputs, name, "input")

    def label(self, name: str) -> PackLabel:
        """The label called `name`; raises PACK_INVALID."""
        return _named(self.labels, name, "label")

    def encodes(self, use: PackInput) -> bool:
        """Whether the pack embeds what is of this input."""
        return use.image_encoder in self.graphs

    def graphs_of(self, use: PackInput, *, embeds: bool = False) -> tuple[str, ...]:
        """The graphs that an image or volume of this input goes through, each once.

        With `embeds` the image encoder is among them, where the pack has one, also if no label needs it.
        """
        scored = [graph_of(self.label(name), use) for name in use.labels]
        needed = self.decoder or use.gate or any(name in self.exemplars for name in use.labels)
        first = (needed and use.kind == "image") or (embeds and self.encodes(use))
        return tuple(dict.fromkeys((*([use.image_encoder] if first else []), *scored)))

    def read(self, graph: str) -> bytes:
        """The ONNX file of a graph; raises PACK_HASH_MISMATCH when it was altered after the pack was loaded."""
        return read_verified(self.folder, self.graphs[graph].file, self.graphs[graph].sha256)

    def read_tokenizer(self) -> bytes | None:
        """tokenizer.json, None for a pack without texts; raises PACK_HASH_MISMATCH as `read` does."""
        return read_verified(self.folder, TOKENIZER_FILE, self.tokenizer_sha256) if self.tokenizer_sha256 else None


def load_pack(folder: Path) -> ModelPack:
    """Read and verify the pack in `folder`.

    Raises PackError: PACK_INVALID naming the key or file at fault, PACK_HASH_MISMATCH naming the file and both hashes.
    """
    try:
        return _load(folder)
    except PackError as error:
        raise PackError(error.code, f"pack {folder.name!r}: {error.client_message}") from error


def _load(folder: Path) -> ModelPack:
    raw = read_table(folder)
    table = _parse(PackTable, raw, PACK_FILE, migrated)
    verify_files(folder, table.files)
    prompts = None
    if any(isinstance(label.scoring, PromptScoring) for label in table.labels):
        _require(table.files, PROMPTS_FILE)
        prompts = _parse(PromptSet, read_verified(folder, PROMPTS_FILE, table.files[PROMPTS_FILE]), PROMPTS_FILE)
    _require(table.files, CARD_FILE)
    if table.graphs.keys() & {TEXT_ENCODER, DECODER_STEP}:
        _require(table.files, TOKENIZER_FILE)
    check_labels(table, prompts)
    graphs = {name: _graph(folder, name, graph, table.files) for name, graph in table.graphs.items()}
    check_graphs(table, graphs)
    for use in table.inputs:
        check_scoring(table, use, graphs)
    return ModelPack(
        **{name: getattr(table, name) for name in ("name", "version", "model_version", "licence", "description")},
        **{name: getattr(table, name) for name in ("initialised_from", "risk_tier", "inputs", "labels", "decoder")},
        tokenizer=table.tokenizer,
        training=MappingProxyType(dict(table.training)),
        graphs=MappingProxyType(graphs),
        prompts=prompts,
        gates=MappingProxyType(_gates(folder, table, graphs)),
        digest=pipeline_digest(raw, table.files),
        parity=_parity(folder, table.files),
        folder=folder,
        learned=MappingProxyType(_learned(folder, table, prompts, graphs)),
        exemplars=MappingProxyType(_exemplars(folder, table, graphs)),
        card_sha256=table.files[CARD_FILE],
        tokenizer_sha256=table.files.get(TOKENIZER_FILE, ""),
    )


def _parity(folder: Path, files: Mapping[str, str]) -> str:
    return parity_summary(read_verified(folder, PARITY_FILE, files[PARITY_FILE])) if PARITY_FILE in files else ""


def _require(files: Mapping[str, str], name: str) -> None:
    if name not in files:
        raise invalid(f"[files] does not list {name!r}")


def graph_of(label: PackLabel, use: PackInput) -> str:
    """The graph whose output scores a label on an input."""
    return use.image_encoder if isinstance(label.scoring, PromptScoring) else label.scoring.graph


def _parse(
    table: type[_Table], raw: bytes, file: str, migrate: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> _Table:
    try:
        return TypeAdapter(table).validate_python(migrate(tomllib.loads(raw.decode())))
    except ValidationError as error:
        raise invalid(f"{file}: {first_fault(error)}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise invalid(f"{file} is not TOML: {error}") from error


def _graph(folder: Path, name: str, table: GraphTable, files: Mapping[str, str]) -> GraphSpec:
    if table.file not in files:
        raise invalid(f"graphs.{name}: [files] does not list {table.file!r}")
    signature = read_signature(read_verified(folder, table.file, files[table.file]), table.file)
    sizes = table.max_batch_size, table.preferred_batch_sizes
    return GraphSpec(
        name, table.file, files[table.file], *sizes, signature.inputs, signature.outputs, precision=table.precision
    )


def _gates(folder: Path, table: PackTable, graphs: Mapping[str, GraphSpec]) -> dict[str, Gate]:
    found = {}
    for use in table.inputs:
        if use.gate:
            encoder = graphs.get(use.image_encoder)
            if use.kind != "image" or encoder is None or not encoder.has_output("image_tokens"):
                raise invalid(f"input {use.name!r}: a gate needs image tokens, which its graphs do not give")
            _require(table.files, use.gate.file)
            content = read_verified(folder, use.gate.file, table.files[use.gate.file])
            found[use.name] = read_gate(content, encoder.tensor("image_tokens").shape[-1])
    return found


def _learned(
    folder: Path, table: PackTable, prompts: PromptSet | None, graphs: Mapping[str, GraphSpec]
) -> dict[str, LearnedPrompts]:
    found = {}
    for name, each in (prompts.labels if prompts else {}).items():
        if each.learned:
            tensors = _tensors(folder, each.learned, table.files)
            width = graphs[TEXT_ENCODER].tensor("embedding").shape[1]
            where = f"label {name!r}: {each.learned}"
            found[name] = learned_prompts_of(tensors, width, pair=bool(each.negative), where=where)
    return found


def _exemplars(folder: Path, table: PackTable, graphs: Mapping[str, GraphSpec]) -> dict[str, ExemplarIndex]:
    found = {}
    for label in table.labels:
        if spec := label.exemplars:
            uses = [use for use in table.inputs if label.name in use.labels]
            encoders = {use.image_encoder for use in uses}
            if not encoders <= graphs.keys() or any(use.kind != "image" for use in uses):
                raise invalid(f"label {label.name!r}: exemplars need an image encoder and images")
            if len(encoders) != 1:
                raise invalid(f"label {label.name!r}: exemplars are of one image encoder, not {sorted(encoders)}")
            tensors = _tensors(folder, spec.file, table.files)
            width = graphs[encoders.pop()].tensor("embedding").shape[1]
            where = f"label {label.name!r}: {spec.file}"
            found[label.name] = exemplars_of(tensors, spec.alpha, spec.beta, width, where)
    return found


def _tensors(folder: Path, name: str, files: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    _require(files, name)
    return tensors_in(read_verified(folder, name, files[name]), repr(name))


def _named(items: Sequence[_Named], name: str, what: str) -> _Named:
    found = [item for item in items if item.name == name]
    if not found:
        raise PackError(
            ErrorCode.PACK_INVALID, f"the pack has no {what} {name!r}, only {[each.name for each in items]}"
        )
    return found[0]
