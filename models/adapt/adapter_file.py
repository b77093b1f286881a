"""An adapter: what was learned for one label of one pack, in one small safetensors file that fits that pack alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from radserve.errors import ErrorCode, RadserveError
from radserve.models.pack import ModelPack
from radserve.models.pack_files import invalid

SCHEMA = "radserve-adapter/1"
_KEY = "radserve"
Table = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """`method` and `label`, and the `base` (name, version, digest) that it was learned on and fits.

    `stated` is what pack.toml says of the label besides its scoring: the calibration, and of a new label its codes.
    `tensors` and `details` are what was learned. `words`, `record` and `card` tell how, and with what success.
    """

    method: str
    label: str
    input: str
    base: Mapping[str, Any]
    stated: Table
    tensors: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    details: Mapping[str, Any]
    words: str
    record: Mapping[str, Any] = field(repr=False)
    card: str = field(repr=False)

    @property
    def slug(self) -> str:
        """The label in the letters that graph and file names may have."""
        return re.sub(r"[^a-z0-9]+", "_", self.label.lower()).strip("_") or "label"

    @property
    def file_name(self) -> str:
        return f"adapter_{self.slug}.safetensors"

    def save(self) -> bytes:
        """As a safetensors file. The same adapter gives the same bytes."""
        fields = asdict(self)
        told = {name: fields[name] for name in fields if name != "tensors"}
        text = json.dumps({"schema": SCHEMA, **told}, ensure_ascii=False)
        return save({name: np.ascontiguousarray(each) for name, each in self.tensors.items()}, {_KEY: text})

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
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"{path.name!r} cannot be read") from error
    except SafetensorError as error:
        raise invalid(f"{path.name!r} is not a safetensors file") from error
    try:
        told = json.loads(text)
        if told.pop("schema") != SCHEMA:
            raise ValueError
        return Adapter(tensors=tensors, **told)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise invalid(f"{path.name!r} is no adapter of schema {SCHEMA}") from error
