"""What an adaptation is told: the task, where its data are and whose. A manifest is TOML (docs/adaptation.md).

A data set without its card (name, source, licence, consent basis) is not used.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from radserve.errors import ErrorCode, RadserveError
from radserve.findings import CodedConcept
from radserve.models.pack_signature import check_signature
from radserve.models.pack_types import STRICT, Assertions, Concept, Count, Number, Scale, Text
from radserve.models.schema_faults import first_fault

Shots = Annotated[int, Field(strict=True, ge=1)] | Literal["all"]
LEAST_SEEDS = 3  # fewer do not show how much an adaptation depends on chance
MethodName = Literal["logistic", "prototype", "context-vectors", "low-rank", "exemplars"]
Overlapping = Literal["refuse", "leave-out", "allow"]
METHODS: tuple[MethodName, ...] = get_args(MethodName)


@dataclass(frozen=True, slots=True, config=STRICT)
class DataCard:
    """Whose data these are: what has to be known before anything is learned from them."""

    name: Text
    source: Text
    licence: Text
    consent_basis: Text
    notes: str = ""
    deidentified: bool = False  # asked for where something of single images stays in the pack


@dataclass(frozen=True, slots=True, config=STRICT)
class NewLabel:
    """A finding that the base pack does not know: its codes, and for a pack with a decoder its assertions."""

    code: Annotated[CodedConcept, Concept]
    site: Annotated[CodedConcept, Concept]
    assertions: Assertions | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class ContextTable:
    """Learned context vectors: `length` of them stand before the words of each side, `positive` and `negative` (the
    label's first wordings where they are left out).

    `variant`: "unified" has the same vectors for both sides, "class-specific" each its own. `start` is a text whose
    word vectors they begin as, its words then give the length; without one they begin as small random numbers.
    """

    length: Count = 4
    variant: Literal["unified", "class-specific"] = "unified"
    positive: str = ""
    negative: str = ""
    start: str = ""
    steps: Count = 200
    rate: Scale = 0.01


@dataclass(frozen=True, slots=True, config=STRICT)
class LowRankTable:
    """Low-rank changes of a tower's products and 1 x 1 convolutions: weight + `scale` / `rank` x (B A).

    `towers` may hold "text" too, for a label that is scored by prompts.
    """

    rank: Count = 4
    scale: Scale = 8.0
    towers: Annotated[tuple[Literal["image", "text"], ...], Field(min_length=1)] = ("image",)
    steps: Count = 100
    batch: Count = 16
    rate: Scale = 0.001


@dataclass(frozen=True, slots=True, config=STRICT)
class ExemplarTable:
    """Labelled examples kept beside the pack: the `shown` nearest ones stand in a result, 0 for none."""

    shown: Annotated[int, Field(strict=True, ge=0)] = 3


@dataclass(frozen=True, slots=True, config=STRICT)
class TaskTable:
    """The label to learn on an input of the base pack, and how.

    `shots` of each class teach the model that is kept; those of `curve` are measured beside it. `strength` is C of
    scikit-learn's logistic regression. The gate asks that the new AUROC be above the base's by more than
    `least_gain`; below 0 it is a margin of non-inferiority.
    """

    label: Text
    input: Text
    method: MethodName = "logistic"
    shots: Shots = "all"
    curve: tuple[Shots, ...] = (1, 4, 16, "all")
    seeds: Annotated[tuple[Annotated[int, Field(strict=True, ge=0)], ...], Field(min_length=LEAST_SEEDS)] = (0, 1, 2)
    strength: Scale = 1.0
    least_gain: Number = 0.0
    new: NewLabel | None = None
    context: ContextTable = ContextTable()
    low_rank: LowRankTable = LowRankTable()
    exemplars: ExemplarTable = ExemplarTable()


@dataclass(frozen=True, slots=True, config=STRICT)
class DataTable:
    """Where the images are: an .npz in the form of MedMNIST, or a .csv whose `image` column names files beside it.

    `positive` is the cell of the `label` column, or the number in the labels' array, that means "present". `overlap`
    says what becomes of images that stand in two splits, the same or nearly (models/adapt/overlap.py). `reference` is
    an .npz with images that the pack learned from, to which grey values of the site are mapped (normalise.py).
    """

    file: Text
    positive: Annotated[str, BeforeValidator(str)] = "1"
    image: Text = "image"
    label: Text = "label"
    patient: Text = "patient"
    split: Text = "split"
    overlap: Overlapping = "refuse"
    reference: str = ""


@dataclass(frozen=True, slots=True, config=STRICT)
class _Tables:
    task: TaskTable
    data: DataTable
    card: DataCard


@dataclass(frozen=True, slots=True, config=STRICT)
class Manifest:
    """A manifest as read: `folder` is its own, which names in it are relative to, `sha256` that of the file.

    `signed_by` is the SHA-256 of the public key whose owner signed the folder, "" where the site asks for none.
    """

    task: TaskTable
    data: DataTable
    card: DataCard
    folder: Path
    sha256: str
    signed_by: str = ""


def read_manifest(path: Path, signing_key: Path | None = None) -> Manifest:
    """Read a manifest. Raises INVALID_ARGUMENT naming the field that is missing, unknown or wrong.

    With `signing_key` (public, PEM) its folder, data and all, has to be signed by the key's owner: PACK_UNSIGNED,
    PACK_SIGNATURE.
    """
    if signing_key:
        check_signature(path.parent, signing_key, "data set")
    try:
        raw = path.read_bytes()
        tables = TypeAdapter(_Tables).validate_python(tomllib.loads(raw.decode()))
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise _refused(path, first_fault(error)) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise _refused(path, f"is not TOML: {error}") from error
    signed_by = hashlib.sha256(signing_key.read_bytes()).hexdigest() if signing_key else ""
    return Manifest(tables.task, tables.data, tables.card, path.parent, hashlib.sha256(raw).hexdigest(), signed_by)


def _refused(path: Path, cause: str) -> RadserveError:
    return RadserveError(ErrorCode.INVALID_ARGUMENT, f"manifest {path.name!r}: {cause}")
