"""Model packs: a folder with graphs, tokenizer, prompts, thresholds and their hashes, read as one immutable value."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from radserve.errors import ErrorCode, PackError
from radserve.findings import PackRef
from radserve.models.onnx_signature import read_signature
from radserve.models.pack_files import PACK_FILE, invalid, pipeline_digest, read_verified, verify_files
from radserve.models.pack_types import DecoderSpec, GraphTable, PackInput, PackLabel, PackTable, PromptSet
from radserve.tensors import ModelRef, TensorSpec

IMAGE_ENCODER, TEXT_ENCODER, DECODER_STEP = "image_encoder", "text_encoder", "decoder_step"
GRAPH_NAMES = (IMAGE_ENCODER, TEXT_ENCODER, DECODER_STEP)
PROMPTS_FILE, TOKENIZER_FILE, CARD_FILE = "prompts.toml", "tokenizer.json", "MODEL_CARD.md"
_TENSORS = {
    IMAGE_ENCODER: (("pixels",), ("embedding", "image_tokens", "patch_embeddings")),
    TEXT_ENCODER: (("tokens",), ("embedding",)),
    DECODER_STEP: (("token", "position", "image_tokens", "cache"), ("logits", "cache_out")),
}
_Table = TypeVar("_Table")
_Named = TypeVar("_Named", PackInput, PackLabel)


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """One ONNX graph of a pack: its file and hash, batch sizes, and the tensors read from the graph itself."""

    name: str
    file: str
    sha256: str
    max_batch_size: int
    preferred_batch_sizes: tuple[int, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def tensor(self, name: str) -> TensorSpec:
        """The input or output called `name`."""
        return next(spec for spec in (*self.inputs, *self.outputs) if spec.name == name)


@dataclass(frozen=True, slots=True)
class ModelPack:
    """A verified model pack. `digest`, the pipeline digest, is the SHA-256 over everything in it (pack_files.py)."""

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
    decoder: DecoderSpec
    prompts: PromptSet
    digest: str
    folder: Path = field(repr=False)

    @property
    def ref(self) -> PackRef:
        return PackRef(self.name, self.version, self.model_version, self.digest)

    @property
    def tokenizer_path(self) -> Path:
        return self.folder / TOKENIZER_FILE

    @property
    def models(self) -> Mapping[ModelRef, GraphSpec]:
        """Every graph under the name a model server knows it by."""
        return MappingProxyType({self.model(name): graph for name, graph in self.graphs.items()})

    def model(self, graph: str) -> ModelRef:
        """How a model server knows one of `GRAPH_NAMES`; the name holds the version: versions stand side by side."""
        if graph not in self.graphs:
            raise invalid(f"pack {self.name!r} has no graph {graph!r}, only {sorted(self.graphs)}")
        return ModelRef(f"{self.name}--{self.version}--{graph}", self.model_version)

    def input(self, name: str) -> PackInput:
        """The input called `name`; raises PACK_INVALID."""
        return _named(self.inputs, name, "input")

    def label(self, name: str) -> PackLabel:
        """The label called `name`; raises PACK_INVALID."""
        return _named(self.labels, name, "label")

    def read(self, graph: str) -> bytes:
        """The ONNX file of a graph; raises PACK_HASH_MISMATCH when it was altered after the pack was loaded."""
        return read_verified(self.folder, self.graphs[graph].file, self.graphs[graph].sha256)


def load_pack(folder: Path) -> ModelPack:
    """Read and verify the pack in `folder`.

    Raises PackError: PACK_INVALID naming the key or file at fault, PACK_HASH_MISMATCH naming the file and both hashes.
    """
    try:
        return _load(folder)
    except PackError as error:
        raise PackError(error.code, f"pack {folder.name!r}: {error.client_message}") from error


def _load(folder: Path) -> ModelPack:
    try:
        raw = (folder / PACK_FILE).read_bytes()
    except OSError as error:
        raise invalid(f"{PACK_FILE} cannot be read: {error.strerror}") from error
    table = _parse(PackTable, raw, PACK_FILE)
    verify_files(folder, table.files)
    for required in (PROMPTS_FILE, TOKENIZER_FILE, CARD_FILE):
        if required not in table.files:
            raise invalid(f"[files] does not list {required!r}")
    prompts = _parse(PromptSet, read_verified(folder, PROMPTS_FILE, table.files[PROMPTS_FILE]), PROMPTS_FILE)
    _check_labels(table, prompts)
    graphs = {name: _graph(folder, name, getattr(table.graphs, name), table.files) for name in GRAPH_NAMES}
    _check_shapes(graphs)
    return ModelPack(
        **{name: getattr(table, name) for name in ("name", "version", "model_version", "licence", "description")},
        **{name: getattr(table, name) for name in ("initialised_from", "risk_tier", "inputs", "labels", "decoder")},
        training=MappingProxyType(dict(table.training)),
        graphs=MappingProxyType(graphs),
        prompts=prompts,
        digest=pipeline_digest(raw, table.files),
        folder=folder,
    )


def _parse(table: type[_Table], raw: bytes, file: str) -> _Table:
    try:
        return TypeAdapter(table).validate_python(tomllib.loads(raw.decode()))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        cause = "unknown key" if first["type"] == "unexpected_keyword_argument" else first["msg"]
        raise invalid(f"{file}: {key}: {cause}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise invalid(f"{file} is not TOML: {error}") from error


def _graph(folder: Path, name: str, table: GraphTable, files: Mapping[str, str]) -> GraphSpec:
    if table.file not in files:
        raise invalid(f"graphs.{name}: [files] does not list {table.file!r}")
    signature = read_signature(read_verified(folder, table.file, files[table.file]), table.file)
    found = tuple(tuple(spec.name for spec in side) for side in (signature.inputs, signature.outputs))
    if tuple(map(sorted, found)) != tuple(map(sorted, _TENSORS[name])):
        raise invalid(f"graphs.{name}: inputs and outputs are {found}, expected {_TENSORS[name]}")
    sizes = table.max_batch_size, table.preferred_batch_sizes
    return GraphSpec(name, table.file, files[table.file], *sizes, signature.inputs, signature.outputs)


def _check_labels(table: PackTable, prompts: PromptSet) -> None:
    for what, names in (
        ("label", [each.name for each in table.labels]),
        ("input", [each.name for each in table.inputs]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                raise invalid(f"{what} {name!r} is stated {count} times")
    labels = {label.name for label in table.labels}
    for entry in table.inputs:
        for label in entry.labels:
            if label not in labels:
                raise invalid(f"input {entry.name!r} names the unknown label {label!r}")
    for label in sorted(labels ^ prompts.labels.keys()):
        raise invalid(
            f"label {label!r} " + ("has no prompts" if label in labels else "has prompts and is not in the pack")
        )


def _check_shapes(graphs: Mapping[str, GraphSpec]) -> None:
    image, text, decoder = (graphs[name] for name in GRAPH_NAMES)
    pairs = (
        ("embedding of image and text encoder", image.tensor("embedding"), text.tensor("embedding")),
        ("image_tokens of image encoder and decoder", image.tensor("image_tokens"), decoder.tensor("image_tokens")),
        ("cache and cache_out of the decoder", decoder.tensor("cache"), decoder.tensor("cache_out")),
    )
    for what, one, other in pairs:
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            raise invalid(f"{what} differ: {one.dtype} {one.shape} and {other.dtype} {other.shape}")


def _named(items: Sequence[_Named], name: str, what: str) -> _Named:
    found = [item for item in items if item.name == name]
    if not found:
        raise PackError(
            ErrorCode.PACK_INVALID, f"the pack has no {what} {name!r}, only {[each.name for each in items]}"
        )
    return found[0]
