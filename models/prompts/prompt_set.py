"""A prompt set of a site: wordings for a pack's labels and further tasks, under an id, a version and a hash."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from radserve._checks import invalid
from radserve.errors import ErrorCode, RadserveError
from radserve.models.pack import ModelPack
from radserve.models.pack_types import STRICT, LabelPrompts, Text, Texts
from radserve.models.schema_faults import first_fault

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$", max_length=64)]


@dataclass(frozen=True, slots=True, config=STRICT)
class LabelTemplates:
    """The wordings of a label. `{finding}` in one is filled by the label's usual name and each of `synonyms`."""

    positive: Texts
    negative: tuple[Text, ...] = ()
    synonyms: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True, config=STRICT)
class Task:
    """A further question to the same image: the wordings of each answer, two at least."""

    options: Annotated[Mapping[Text, Texts], Field(min_length=2), AfterValidator(MappingProxyType)]


@dataclass(frozen=True, slots=True, config=STRICT)
class PromptSetFile:
    """A prompt set as its file states it.

    `mode`: "contrastive" scores a label by its positive against its negative wordings, "single" by the positive ones
    alone. `expand` adds wordings from the finding ontology. `modality` and `language` say what it is written for.
    """

    id: Name
    version: Text
    pack: Text
    labels: Annotated[Mapping[Text, LabelTemplates], AfterValidator(MappingProxyType)]
    language: Name = "en"
    modality: str = ""
    mode: Literal["contrastive", "single"] = "contrastive"
    expand: bool = False
    tasks: Annotated[Mapping[Text, Task], AfterValidator(MappingProxyType)] = field(
        default_factory=lambda: MappingProxyType({})
    )

    @property
    def sha256(self) -> str:
        """Over everything in it, in hex: one wording changed gives another."""
        canonical = json.dumps(_plain(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def texts(self) -> dict[str, str]:
        """Every wording by the place where it stands in the file."""
        found: dict[str, str] = {}
        for label, each in self.labels.items():
            for side in ("positive", "negative", "synonyms"):
                found |= {f"labels.{label}.{side}[{n}]": text for n, text in enumerate(getattr(each, side))}
        for task, entry in self.tasks.items():
            for option, wordings in entry.options.items():
                found |= {f"tasks.{task}.{option}[{n}]": text for n, text in enumerate(wordings)}
        return found


def read_prompt_set(path: Path) -> PromptSetFile:
    """Read a file. Raises INVALID_ARGUMENT naming the file and the key at fault."""
    try:
        return TypeAdapter(PromptSetFile).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise invalid(f"prompt set {path.name}", error.strerror, "a file that can be read") from None
    except ValidationError as error:
        # Without the value: a wording may hold what the linter would refuse.
        cause = f"prompt set {path.name}: {first_fault(error, values=False)}"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, cause) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise invalid(f"prompt set {path.name}", str(error), "TOML") from None


def prompt_set_of_pack(pack: ModelPack) -> PromptSetFile | None:
    """The pack's own prompts as a prompt set; None for a pack that scores no label by prompts."""
    if pack.prompts is None:
        return None
    labels = {name: _templates(each) for name, each in pack.prompts.labels.items()}
    single = not any(each.negative for each in labels.values())
    return PromptSetFile(
        id=pack.name,
        version=pack.prompts.version,
        pack=pack.name,
        labels=labels,
        mode="single" if single else "contrastive",
    )


def _plain(value: Any) -> Any:
    """Values and mappings of values as JSON has them."""
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _templates(prompts: LabelPrompts) -> LabelTemplates:
    return LabelTemplates(prompts.positive, prompts.negative)
