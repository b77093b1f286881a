"""LABELS.toml: what a checkpoint does not say of itself: the pack's name, its inputs, its labels with their codes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from radserve.errors import ErrorCode, PackError
from radserve.findings import CodedConcept
from radserve.models.pack_types import (
    PACK_NAME,
    PACK_VERSION,
    STRICT,
    Activation,
    Assertions,
    Concept,
    Count,
    DecoderSpec,
    IntendedUse,
    Number,
    Probability,
    Scale,
    Steps,
    Text,
    Texts,
)
from radserve.models.schema_faults import first_fault

NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True, config=STRICT)
class ImportLabel:
    """A label: its codes, and what its kind of model needs: prompts, or the `index` of its output or channel.

    Without an `index` it is the place of the label in the file, or that of the same name in the model's own list.
    """

    name: Text
    code: Annotated[CodedConcept, Concept]
    site: Annotated[CodedConcept, Concept]
    threshold: Probability | None = None
    temperature: Scale = 1.0
    offset: Number = 0.0
    index: Annotated[int, Field(strict=True, ge=0)] | None = None
    activation: Activation | None = None
    least_voxels: Count = 1
    positive: tuple[Text, ...] = ()
    negative: tuple[Text, ...] = ()
    assertions: Assertions | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class ImportInput:
    """An input: no `labels` are all of them, no `preprocess` is what the model's own configuration says."""

    name: Text
    modalities: Texts
    body_parts: tuple[Text, ...] = ()
    labels: tuple[Text, ...] = ()
    intended_use: IntendedUse = IntendedUse()
    preprocess: Steps | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class LabelsFile:
    """The whole file."""

    name: Annotated[str, StringConstraints(pattern=PACK_NAME, max_length=64)]
    inputs: Annotated[tuple[ImportInput, ...], Field(min_length=1)]
    labels: Annotated[tuple[ImportLabel, ...], Field(min_length=1)]
    version: Annotated[str, StringConstraints(pattern=PACK_VERSION, max_length=96)] = "1.0.0"
    model_version: Count = 1
    licence: Text = NOT_STATED
    description: Text = NOT_STATED
    risk_tier: Annotated[str, StringConstraints(pattern="^(I|II|III|IV)$")] = "III"
    max_batch_size: Count = 16
    decoder: DecoderSpec | None = None
    training: Annotated[Mapping[str, str], AfterValidator(dict)] = field(default_factory=dict)


def read_labels(path: Path) -> LabelsFile:
    """Read LABELS.toml. Raises PackError PACK_INVALID naming the key at fault."""
    try:
        return TypeAdapter(LabelsFile).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        cause = first_fault(error)
    except OSError as error:
        cause = f"cannot be read: {error.strerror or 'I/O error'}"
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        cause = f"is not TOML: {error}"
    raise PackError(ErrorCode.PACK_INVALID, f"{path.name}: {cause}")
