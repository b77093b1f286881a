"""What must fit together in a pack: labels, prompts and inputs, and the tensors of the graphs that score them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from radserve.models.pack_files import invalid
from radserve.models.pack_graphs import DECODER_STEP, IMAGE_ENCODER, TEXT_ENCODER, GraphSpec
from radserve.models.pack_types import (
    MaskScoring,
    OutputScoring,
    PackInput,
    PackLabel,
    PackTable,
    PromptScoring,
    PromptSet,
)
from radserve.tensors import TensorSpec

# name -> inputs, outputs that must be there, outputs that may be there
_CONTRACTS = {
    IMAGE_ENCODER: (("pixels",), ("embedding",), ("image_tokens", "patch_embeddings")),
    TEXT_ENCODER: (("tokens",), ("embedding",), ()),
    DECODER_STEP: (("token", "position", "image_tokens", "cache"), ("logits", "cache_out"), ()),
}
_AXES = {"image": 4, "volume": 5}  # of the tensor that a graph gets: batch, channels, (slices,) rows, columns


def check_labels(table: PackTable, prompts: PromptSet | None) -> None:
    """Raise PACK_INVALID for names stated twice, unknown labels, and labels and prompts that do not match."""
    for what, names in (("label", [each.name for each in table.labels]), ("input", [i.name for i in table.inputs])):
        for name, count in Counter(names).items():
            if count > 1:
                raise invalid(f"{what} {name!r} is stated {count} times")
    labels = {label.name for label in table.labels}
    for entry in table.inputs:
        for name in entry.labels:
            if name not in labels:
                raise invalid(f"input {entry.name!r} names the unknown label {name!r}")
    if table.decoder:
        for label in table.labels:
            if label.assertions is None:
                raise invalid(f"label {label.name!r} has no assertions, which a pack with a decoder needs")
    if prompts:
        _check_prompts(table, prompts)


def _check_prompts(table: PackTable, prompts: PromptSet) -> None:
    scorings = {label.name: label.scoring for label in table.labels}
    prompted = {name: scoring for name, scoring in scorings.items() if isinstance(scoring, PromptScoring)}
    for name in sorted(prompted ^ prompts.labels.keys()):
        what = "has no prompts" if name in prompted else "has prompts and is not a label of the pack scored by prompts"
        raise invalid(f"label {name!r} {what}")
    for name, scoring in prompted.items():
        if bool(prompts.labels[name].negative) != (scoring.contrast == "pair"):
            expected = "at least one for a pair" if scoring.contrast == "pair" else "none for a single contrast"
            raise invalid(f"prompts.toml: labels.{name}.negative: expected {expected}")


def check_graphs(table: PackTable, graphs: Mapping[str, GraphSpec]) -> None:
    """Raise PACK_INVALID unless graphs have the tensors of their role and those of joined graphs fit each other."""
    encoders = _encoders(table)
    for name, graph in graphs.items():
        _check_tensors(name, graph, IMAGE_ENCODER if name in encoders else name)
    prompted = {label.name for label in table.labels if isinstance(label.scoring, PromptScoring)}
    needed = {TEXT_ENCODER} if prompted else set()
    needed |= {each.image_encoder for each in table.inputs if prompted.intersection(each.labels)}
    needed |= {DECODER_STEP, *encoders} if table.decoder else encoders - {IMAGE_ENCODER}
    for name in sorted(needed - graphs.keys()):
        raise invalid(f"graphs.{name} is missing, which the labels or the decoder need")
    if DECODER_STEP in graphs and table.decoder is None:
        raise invalid("[decoder] is missing, which graphs.decoder_step needs")
    for name in sorted(encoders & graphs.keys()):
        _check_joints(graphs, name)
    if table.decoder:
        cache = graphs[DECODER_STEP].tensor("cache").shape
        if len(cache) != 4 or cache[2] < table.decoder.max_tokens:
            expected = f"(N, layers, tokens, width) for the {table.decoder.max_tokens} tokens of decoder.max_tokens"
            raise invalid(f"graphs.{DECODER_STEP}: cache: got {cache}, expected {expected}")


def _encoders(table: PackTable) -> set[str]:
    """The names that image encoders have, of which only the standard one may stand for no graph."""
    return {IMAGE_ENCODER, *(each.image_encoder for each in table.inputs)}


def check_scoring(table: PackTable, use: PackInput, graphs: Mapping[str, GraphSpec]) -> None:
    """Raise PACK_INVALID unless every label of an input names an output that its graph has, of the shape it needs."""
    labels = [label for label in table.labels if label.name in use.labels]
    entries = {}
    for label in labels:
        scoring = label.scoring
        name = use.image_encoder if isinstance(scoring, PromptScoring) else scoring.graph
        if name not in graphs or name in (TEXT_ENCODER, DECODER_STEP):
            raise invalid(f"label {label.name!r} is scored by {name!r}, which is no graph for images of this pack")
        entries[name] = graphs[name].inputs[0]
        if isinstance(scoring, OutputScoring):
            _check_output(label, scoring, graphs[name])
        elif isinstance(scoring, MaskScoring):
            _check_mask(label, scoring, graphs[name])
    for name, spec in entries.items():
        if len(spec.shape) != _AXES[use.kind]:
            raise invalid(f"input {use.name!r} is of kind {use.kind}, graph {name!r} takes {spec.shape}")
    if len({spec.shape for spec in entries.values()}) > 1:
        shapes = {name: spec.shape for name, spec in entries.items()}
        raise invalid(f"input {use.name!r} goes through graphs that take different shapes: {shapes}")


def _check_tensors(name: str, graph: GraphSpec, role: str) -> None:
    found = [spec.name for spec in graph.inputs], [spec.name for spec in graph.outputs]
    if role in _CONTRACTS:
        inputs, required, optional = _CONTRACTS[role]
        given = set(found[1])
        if sorted(found[0]) != sorted(inputs) or not set(required) <= given <= {*required, *optional}:
            expected = f"{list(inputs)} and {list(required)}" + (f", perhaps {list(optional)}" if optional else "")
            raise invalid(f"graphs.{name}: inputs and outputs are {found[0]} and {found[1]}, expected {expected}")
        return
    if len(found[0]) != 1 or len(graph.inputs[0].shape) not in _AXES.values():
        expected = "one, (N, channels, rows, columns) or (N, channels, slices, rows, columns)"
        raise invalid(f"graphs.{name}: inputs are {[(i.name, i.shape) for i in graph.inputs]}, expected {expected}")
    if any(spec.dtype != "float32" for spec in (*graph.inputs, *graph.outputs)):
        raise invalid(f"graphs.{name}: a tensor is not float32")


def _check_joints(graphs: Mapping[str, GraphSpec], encoder: str) -> None:
    pairs: list[tuple[str, TensorSpec, TensorSpec]] = []
    image, text, decoder = graphs[encoder], graphs.get(TEXT_ENCODER), graphs.get(DECODER_STEP)
    standard = encoder == IMAGE_ENCODER
    if text:
        pairs.append(
            (
                f"embedding of {'image' if standard else encoder} and text encoder",
                image.tensor("embedding"),
                text.tensor("embedding"),
            )
        )
    if decoder:
        pairs.append(("cache and cache_out of the decoder", decoder.tensor("cache"), decoder.tensor("cache_out")))
    if decoder:
        if not image.has_output("image_tokens"):
            raise invalid(f"graphs.{encoder} has no output 'image_tokens', which the decoder needs")
        tokens = image.tensor("image_tokens"), decoder.tensor("image_tokens")
        pairs.append((f"image_tokens of {'image encoder' if standard else encoder} and decoder", *tokens))
    for what, one, other in pairs:
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            raise invalid(f"{what} differ: {one.dtype} {one.shape} and {other.dtype} {other.shape}")


def _check_output(label: PackLabel, scoring: OutputScoring, graph: GraphSpec) -> None:
    spec = _output(label, scoring.output, graph)
    if len(spec.shape) != 2 or scoring.index >= spec.shape[1]:
        _refuse(label, f"index {scoring.index} of output {spec.name!r} {spec.shape}", "(N, K) with index < K")
    if scoring.map:
        maps = _output(label, scoring.map, graph)
        if len(maps.shape) != 4 or len(graph.inputs[0].shape) != 4 or maps.shape[1] != spec.shape[1]:
            _refuse(label, f"map {maps.name!r} {maps.shape}", f"(N, {spec.shape[1]}, rows, columns) of an image")


def _check_mask(label: PackLabel, scoring: MaskScoring, graph: GraphSpec) -> None:
    spec = _output(label, scoring.output, graph)
    if len(spec.shape) != len(graph.inputs[0].shape) or scoring.channel >= spec.shape[1]:
        expected = f"(N, K, ...) of as many axes as the input {graph.inputs[0].shape}, with channel < K"
        _refuse(label, f"channel {scoring.channel} of output {spec.name!r} {spec.shape}", expected)


def _output(label: PackLabel, name: str, graph: GraphSpec) -> TensorSpec:
    if not graph.has_output(name):
        names: Sequence[str] = [spec.name for spec in graph.outputs]
        raise invalid(f"label {label.name!r}: graph {graph.name!r} has no output {name!r}, only {names}")
    return graph.tensor(name)


def _refuse(label: PackLabel, got: str, expected: str) -> None:
    raise invalid(f"label {label.name!r}: got {got}, expected {expected}")
