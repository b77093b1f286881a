"""The values that pack.toml and prompts.toml state. Unknown keys are refused, numbers are never guessed from text.

Schema 2 is written; schema 1, in which every label is scored by prompts, is read as the same values (`migrated`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.dataclasses import dataclass

from radserve.findings import CodedConcept
from radserve.models.pack_graphs import IMAGE_ENCODER

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

Text = Annotated[str, StringConstraints(min_length=1)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Scale = Annotated[Number, Field(gt=0)]
Probability = Annotated[Number, Field(ge=0, le=1)]


def _in_order(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] <= limits[1]:
        raise ValueError("a range goes from the least to the greatest")
    return limits


Range = Annotated[tuple[Number, Number], AfterValidator(_in_order)]
Ranges = tuple[Range, Range, Range]  # along slices, rows, columns
Probabilities = Annotated[tuple[Probability, Probability], AfterValidator(_in_order)]
Age = Annotated[Number, Field(ge=0)]


def _concept(value: object) -> CodedConcept:
    if isinstance(value, CodedConcept):
        return value
    if not isinstance(value, dict) or set(value) != {"value", "scheme", "meaning"}:
        raise ValueError("a code has exactly the keys value, scheme and meaning")
    if not all(isinstance(text, str) and text for text in value.values()):
        raise ValueError("value, scheme and meaning of a code are texts")
    return CodedConcept(**value)


def _transform(value: object) -> object:
    if not isinstance(value, dict):
        return value
    arguments = {key: item for key, item in value.items() if key != "transform"}
    return {"transform": value.get("transform", ""), "arguments": arguments}


def _frozen_arguments(value: Mapping[str, Any]) -> Mapping[str, Any]:
    for key, item in value.items():
        for scalar in item if isinstance(item, list | tuple) else (item,):
            if not isinstance(scalar, str | int | float | bool):
                raise ValueError(f"argument {key!r} is neither a scalar nor a list of scalars")
    return MappingProxyType({key: tuple(item) if isinstance(item, list) else item for key, item in value.items()})


@dataclass(frozen=True, slots=True, config=STRICT)
class TransformSpec:
    """One step of a preprocessing chain: its name and its keyword arguments (scalars or tuples of scalars)."""

    transform: Text
    arguments: Annotated[Mapping[str, Any], AfterValidator(_frozen_arguments)] = field(default_factory=dict)


Steps = Annotated[tuple[Annotated[TransformSpec, BeforeValidator(_transform)], ...], Field(min_length=1)]
Concept = BeforeValidator(_concept)


@dataclass(frozen=True, slots=True, config=STRICT)
class IntendedUse:
    """Whom and what an input is meant for. `age_years` is (youngest, oldest), both inside; nothing means no limit."""

    age_years: Annotated[tuple[Age, Age], AfterValidator(_in_order)] | None = None
    views: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True, config=STRICT)
class InputGate:
    """How an input tells foreign images: `file` holds its statistics (safetensors), an image whose score is above
    `threshold` counts as foreign, and `false_alarm_rate` is the share of validation images that do.
    """

    file: Text
    threshold: Number
    false_alarm_rate: Probability


@dataclass(frozen=True, slots=True, config=STRICT)
class ValueShare:
    """The share of the values of a volume that lie in `values` (the first in, the last out), of those that count."""

    name: Text
    values: Range
    share: Probabilities


@dataclass(frozen=True, slots=True, config=STRICT)
class VolumeLimits:
    """What a volume has to be like to resemble those of the training; what is not stated is not looked at.

    `extent_mm` is the field of view. Of the values (HU of a CT) those from `floor` on count, so that the air around the
    patient does not.
    """

    spacing_mm: Ranges | None = None
    extent_mm: Ranges | None = None
    floor: Number = float(np.finfo(np.float32).min)
    shares: tuple[ValueShare, ...] = ()


@dataclass(frozen=True, slots=True, config=STRICT)
class PackInput:
    """What the pack reads: which series it takes, how they are prepared, which labels it answers.

    `kind` says whether the frames of a series are read one by one or its slices together as a volume. `image_encoder`
    names the graph that embeds them, where the pack has one: inputs may have towers of their own in one space of texts.
    """

    name: Text
    modalities: Texts
    body_parts: tuple[Text, ...]
    labels: Texts
    preprocess: Steps
    kind: Literal["image", "volume"] = "image"
    intended_use: IntendedUse = IntendedUse()
    gate: InputGate | None = None
    image_encoder: Text = IMAGE_ENCODER
    limits: VolumeLimits | None = None

    @model_validator(mode="after")
    def _limits_of_volumes(self) -> PackInput:
        if self.limits is not None and self.kind != "volume":
            raise ValueError("limits are for inputs of the kind volume")
        return self


@dataclass(frozen=True, slots=True, config=STRICT)
class Assertions:
    """Sentences or words that state a finding's presence and absence in a report."""

    positive: Texts
    negative: Texts


Activation = Literal["sigmoid", "softmax", "none"]
"""How an output becomes a probability: the sigmoid of a logit, softmax over the channels, or it is one already."""


@dataclass(frozen=True, slots=True, config=STRICT)
class PromptScoring:
    """Zero-shot: logit = `logit_scale` x (cosine to the positive prompts - cosine to the negative ones) + `logit_bias`.

    `contrast` "single" has no negative prompts and leaves the second cosine out: the sigmoid head of SigLIP.
    """

    kind: Literal["prompts"]
    logit_scale: Scale
    logit_bias: Number = 0.0
    contrast: Literal["pair", "single"] = "pair"


@dataclass(frozen=True, slots=True, config=STRICT)
class OutputScoring:
    """One number of a classifier: `index` of the output (N, K); `map` names an output (N, K, rows, columns) or none.

    The values of the map add up to the logit, less the bias of the last layer.
    """

    kind: Literal["output"]
    graph: Text
    output: Text
    index: Annotated[int, Field(strict=True, ge=0)]
    activation: Activation
    map: Text = ""


@dataclass(frozen=True, slots=True, config=STRICT)
class MaskScoring:
    """A channel of a segmentation (N, K, rows, columns), of a volume (N, K, slices, rows, columns).

    The score is the mean of the `least_voxels` greatest probabilities: what is smaller than that is not a finding.
    """

    kind: Literal["mask"]
    graph: Text
    output: Text
    channel: Annotated[int, Field(strict=True, ge=0)]
    activation: Activation
    least_voxels: Count = 1


Scoring = Annotated[PromptScoring | OutputScoring | MaskScoring, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True, config=STRICT)
class ExemplarSpec:
    """Labelled examples that speak for or against a label beside its score (models/exemplars.py).

    `file` (safetensors) holds them; `alpha` and `beta` weigh them; a finding names the `shown` nearest ones.
    """

    file: Text
    alpha: Annotated[Number, Field(ge=0)]
    beta: Scale
    shown: Annotated[int, Field(strict=True, ge=0)] = 0


@dataclass(frozen=True, slots=True, config=STRICT)
class PackLabel:
    """A question the pack answers: its codes, how it is scored, operating point and calibration.

    score = sigmoid(logit), probability = sigmoid(logit / `temperature` + `offset`); positive is probability >=
    `threshold`. A probability inside `cannot_assess` (lowest, highest) is no answer: too many of the validation images
    there were decided wrongly. `assertions` are needed where a decoder writes reports.
    """

    name: Text
    code: Annotated[CodedConcept, Concept]
    site: Annotated[CodedConcept, Concept]
    scoring: Scoring
    threshold: Probability
    temperature: Scale = 1.0
    assertions: Assertions | None = None
    offset: Number = 0.0
    cannot_assess: Probabilities | None = None
    exemplars: ExemplarSpec | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class DecoderSpec:
    """How long a report may get, in tokens, the heads of its sections, and the token that starts a text by language.

    `start_tokens` maps ISO 639-1 codes to words of tokenizer.json; a pack without it writes English from `<start>`.
    """

    max_tokens: Count
    sections: Texts
    start_tokens: Annotated[Mapping[Text, Text], AfterValidator(MappingProxyType)] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, config=STRICT)
class TokenizerSpec:
    """The special tokens of tokenizer.json. Without `start` texts begin with their first word."""

    start: str = "<start>"
    end: Text = "<end>"
    pad: Text = "<pad>"
    unknown: str = "<unk>"


@dataclass(frozen=True, slots=True, config=STRICT)
class LabelPrompts:
    """The wordings of one label; embeddings of the wordings of a side are averaged.

    `learned` names a safetensors file with the text embeddings of both sides: then the wordings describe what was
    learned and are not encoded (models/learned_prompts.py).
    """

    positive: Texts
    negative: tuple[Text, ...] = ()
    learned: str = ""


@dataclass(frozen=True, slots=True, config=STRICT)
class PromptSet:
    """The prompts of every label of a pack, under a version of their own."""

    version: Text
    labels: Annotated[Mapping[Text, LabelPrompts], AfterValidator(MappingProxyType)]


@dataclass(frozen=True, slots=True, config=STRICT)
class GraphTable:
    """A graph as pack.toml states it."""

    file: Text
    max_batch_size: Count
    preferred_batch_sizes: tuple[Count, ...] = ()
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"

    @model_validator(mode="after")
    def _preferred_fit(self) -> GraphTable:
        if any(size > self.max_batch_size for size in self.preferred_batch_sizes):
            raise ValueError("preferred_batch_sizes above max_batch_size")
        return self


SCHEMA = 2
# Names of folders are made of these three and have at most 255 bytes.
GRAPH_NAME = r"^[a-z0-9]+(_[a-z0-9]+)*$"
PACK_VERSION = r"^[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]*$"
PACK_NAME = r"^[a-z0-9]+([._-][a-z0-9]+)*$"  # no "--": it joins the names of pack and graph


@dataclass(frozen=True, slots=True, config=STRICT)
class PackTable:
    """The whole of pack.toml."""

    schema: Annotated[int, Field(strict=True, ge=SCHEMA, le=SCHEMA)]
    name: Annotated[str, StringConstraints(pattern=PACK_NAME, max_length=64)]
    version: Annotated[str, StringConstraints(pattern=PACK_VERSION, max_length=96)]
    model_version: Count
    licence: Text
    description: Text
    initialised_from: Text
    risk_tier: Annotated[str, StringConstraints(pattern="^(I|II|III|IV)$")]
    graphs: Annotated[
        Mapping[Annotated[str, StringConstraints(pattern=GRAPH_NAME, max_length=80)], GraphTable], Field(min_length=1)
    ]
    inputs: Annotated[tuple[PackInput, ...], Field(min_length=1)]
    labels: Annotated[tuple[PackLabel, ...], Field(min_length=1)]
    files: Mapping[Text, Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]]
    decoder: DecoderSpec | None = None
    tokenizer: TokenizerSpec = TokenizerSpec()
    training: Mapping[str, str] = field(default_factory=dict)


def migrated(table: dict[str, Any]) -> dict[str, Any]:
    """The table of pack.toml in schema 2: of schema 1, `logit_scale` of a label becomes its scoring by prompts."""
    if table.get("schema") != 1 or not isinstance(table.get("labels"), list):
        return table
    labels = []
    for label in table["labels"]:
        if isinstance(label, dict) and "logit_scale" in label:
            rest = {key: value for key, value in label.items() if key != "logit_scale"}
            label = {**rest, "scoring": {"kind": "prompts", "logit_scale": label["logit_scale"]}}  # noqa: PLW2901
        labels.append(label)
    return {**table, "schema": SCHEMA, "labels": labels}
