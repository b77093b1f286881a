"""Reading checkpoints without running what is in them."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from radserve.models.importing.imported import refused

CHUNK = 1 << 20


def load_weights(path: Path, allowed: Sequence[type] = ()) -> Any:
    """What a .safetensors or a torch file holds, on the CPU. `allowed` classes may be in the latter besides tensors.

    torch files are read with weights_only: anything that could run code is refused, PACK_INVALID, with its name.
    """
    check_is_file(path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(str(path))
        except Exception as error:  # the library's own error is not public
            raise refused(f"{path.name!r} is not a whole safetensors file", error) from error
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refused(
            f"{path.name!r} holds more than weights ({_what(error)}); pickled code is refused", error
        ) from error
    except Exception as error:
        raise refused(f"{path.name!r} is not a file of torch", error) from error


def check_is_file(path: Path) -> None:
    """Raise PACK_INVALID where there is no file, or a folder in its place."""
    if path.is_dir():
        raise refused(f"{path.name!r} is a folder, and this kind reads a file")
    if not path.is_file():
        raise refused(f"there is no file {path.name!r}")


def state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name: bare, or under "state_dict" or "model"; a "module." before names is cut."""
    return tensors_of(load_weights(path), path)


def tensors_of(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of what was loaded from `path`, as `state_dict` says."""
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise refused(f"{path.name!r} holds no state dict")
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def source_hash(source: Path) -> str:
    """SHA-256 (hex) of a file, or over the names and hashes of all files of a folder."""
    if source.is_file():
        return _file_hash(source)
    whole = hashlib.sha256()
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        whole.update(f"{path.relative_to(source).as_posix()}\0{_file_hash(path)}\n".encode())
    return whole.hexdigest()


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _what(error: Exception) -> str:
    """The name of what torch refused to load, from its message."""
    text = str(error)
    for mark in ("GLOBAL ", "Unsupported class ", "Unsupported global: GLOBAL "):
        if mark in text:
            return text.split(mark, 1)[1].split(maxsplit=1)[0].rstrip(".,")
    return "an unknown kind of object"
