"""An adapter: what was learned for one label of one pack, in one small safetensors file that fits that pack alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from radserve.errors import ErrorCode, RadserveError
from radserve.models.pack import ModelPack
from radserve.models.pack_files import invalid
from radserve.models.pack_types import STRICT, Text

SCHEMA = "radserve-adapter/1"
_KEY = "radserve"
_LONGEST = 48
Table = dict[str, Any]


def _reference(value: Table) -> Table:
    for key in ("name", "version", "digest"):
        if not isinstance(value.get(key), str):
            raise ValueError(f"the base has no {key}")
    return value


@dataclass(frozen=True, slots=True, eq=False, config=STRICT)
class Adapter:
    """`method` and `label`, and the `base` (name, version, digest) that it was learned on and fits.

    `stated` is what pack.toml says of the label besides its scoring: the calibration, and of a new label its codes.
    `tensors` and `details` are what was learned. `words`, `record` and `card` tell how, and with what success.
    """

    method: Text
    label: Text
    input: Text
    base: Annotated[Table, AfterValidator(_reference)]
    stated: Table
    tensors: Mapping[str, Any] = field(repr=False)  # arrays
    details: Mapping[str, Any]
    words: str
    record: Mapping[str, Any] = field(repr=False)
    card: str = field(repr=False)

    @property
    def slug(self) -> str:
        """The label in the letters that graph and file names may have; two labels never have the same.

        Where letters are lost (those of another script, marks) some of the label's hash stand at the end.
        """
        plain = re.sub(r"[^a-z0-9]+", "_", self.label.lower()).strip("_")[:_LONGEST].strip("_")
        if plain == self.label.lower().replace(" ", "_"):
            return plain
        return "_".join(filter(None, (plain, hashlib.sha256(self.label.encode()).hexdigest()[:8])))

    @property
    def file_name(self) -> str:
        return f"adapter_{self.slug}.safetensors"

    def save(self) -> bytes:
        """As a safetensors file. The same adapter gives the same bytes."""
        fields = asdict(self)
        told = {name: fields[name] for name in fields if name != "tensors"}
        text = json.dumps({"schema": SCHEMA, **told}, ensure_ascii=False)
        return save({name: np.ascontiguousarray(each) for name, each in self.tensors.items()}, {_KEY: text})

    def told(self, name: str) -> Any:
        """What `details` have under a name; raises PACK_INVALID where they have nothing."""
        if name not in self.details:
            raise invalid(f"the adapter does not state {name!r}, which the method {self.method!r} needs")
        return self.details[name]

    def check_base(self, pack: ModelPack) -> None:
        """Raise PACK_INVALID unless `pack` is the one it was learned on."""
        if pack.digest != self.base["digest"]:
            wanted = f"{self.base['name']} {self.base['version']} ({self.base['digest'][:12]})"
            got = f"{pack.name} {pack.version} ({pack.digest[:12]})"
            raise invalid(f"the adapter was learned on {wanted} and fits no other pack, got {got}")


def read_adapter(path: Path) -> Adapter:
    """Read an adapter file. Raises INVALID_ARGUMENT where it cannot be read, PACK_INVALID where it is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY, "")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except OSError as error:
        cause = "there is no such file" if not path.exists() else error.strerror or "I/O error"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"{path.name!r} cannot be read: {cause}") from error
    except (SafetensorError, TypeError, KeyError) as error:  # a type that numpy lacks is one of the latter
        raise invalid(f"{path.name!r} is not a safetensors file for numpy") from error
    try:
        told = json.loads(text)
        if told.pop("schema") != SCHEMA:
            raise ValueError
        return Adapter(tensors=tensors, **told)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:  # pydantic's is a ValueError
        raise invalid(f"{path.name!r} is no adapter of schema {SCHEMA}") from error
