"""The files of a pack on disk: exactly those that pack.toml lists, inside the folder, with the hashes it states."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy.typing as npt
from safetensors.numpy import load

from radserve.errors import ErrorCode, PackError

PACK_FILE = "pack.toml"
SIGNATURE_FILE = "model.sig"
MAX_FILE_BYTES = (1 << 31) - 1
"""No ONNX file can be larger: it is one protobuf message."""
MAX_TABLE_BYTES = 1 << 24
UNSAFE_SUFFIXES = frozenset(
    {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".py", ".so"}
)
_PICKLED = (b"PK\x03\x04", *(bytes((0x80, protocol)) for protocol in range(2, 6)))  # a torch archive, a bare pickle
_UNLISTED = (PACK_FILE, SIGNATURE_FILE)  # one lists the hashes, the other signs them
_SHOWN = 12


def verify_files(folder: Path, listed: Mapping[str, str]) -> None:
    """Raise PackError unless the files of `folder` but pack.toml are exactly those `listed`, with these SHA-256.

    PACK_INVALID for a file that is missing, not listed, a link, outside the folder or of a kind that can carry code;
    PACK_HASH_MISMATCH for altered content.
    """
    for name in listed:
        _check_name(name)
    present = set(_present(folder))
    for name in sorted(present - listed.keys()):
        raise invalid(f"file {name!r} is not listed in {PACK_FILE}")
    for name in sorted(listed.keys() - present):
        raise invalid(f"file {name!r} is listed in {PACK_FILE} and missing")
    for name, expected in sorted(listed.items()):
        size = (folder / name).stat().st_size
        if size > MAX_FILE_BYTES:
            raise invalid(f"file {name!r} has {size} bytes, more than the {MAX_FILE_BYTES} allowed")
        if read_verified(folder, name, expected).startswith(_PICKLED):
            raise invalid(f"file {name!r} holds pickled data, whatever its name says")


def read_verified(folder: Path, name: str, expected: str) -> bytes:
    """The bytes of a pack's file; raises PACK_HASH_MISMATCH unless their SHA-256 (hex) is `expected`."""
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise invalid(f"file {name!r} cannot be read: {error.strerror}") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise PackError(
            ErrorCode.PACK_HASH_MISMATCH,
            f"file {name!r}: {PACK_FILE} states SHA-256 {expected[:_SHOWN]}, the file has {actual[:_SHOWN]}",
        )
    return data


def read_table(folder: Path) -> bytes:
    """The bytes of pack.toml; raises PACK_INVALID."""
    try:
        with (folder / PACK_FILE).open("rb") as file:
            data = file.read(MAX_TABLE_BYTES + 1)
    except OSError as error:
        raise invalid(f"{PACK_FILE} cannot be read: {error.strerror}") from error
    if len(data) > MAX_TABLE_BYTES:
        raise invalid(f"{PACK_FILE} has more than the {MAX_TABLE_BYTES} bytes allowed")
    return data


def tensors_in(data: bytes, what: str) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a safetensors file; raises PACK_INVALID naming `what`."""
    try:
        return load(data)
    except (
        Exception
    ) as error:  # a type that numpy lacks (bfloat16) is a KeyError, other faults are of the library's own
        raise invalid(f"{what} is not a safetensors file for numpy: {error}") from error


def pipeline_digest(pack_toml: bytes, listed: Mapping[str, str]) -> str:
    """SHA-256 (hex) over pack.toml and the name and hash of every listed file, in the order of their names."""
    digest = hashlib.sha256(hashlib.sha256(pack_toml).digest())
    for name, file_hash in sorted(listed.items()):
        digest.update(f"{name}\0{file_hash}\n".encode())
    return digest.hexdigest()


def invalid(cause: str) -> PackError:
    """Return (not raise) the error of a pack that breaks its contract."""
    return PackError(ErrorCode.PACK_INVALID, cause)


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or str(path) != name or name in _UNLISTED:
        raise invalid(f"[files] names {name!r}, which is not a plain path inside the folder")
    if path.suffix.lower() in UNSAFE_SUFFIXES:
        raise invalid(f"file {name!r}: a pack carries ONNX and safetensors, never pickled or executable files")


def _present(folder: Path) -> list[str]:
    names = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise invalid(f"{name!r} is a symbolic link; a pack holds plain files only")
        if path.is_file() and name not in _UNLISTED:
            _check_name(name)
            names.append(name)
        elif not path.is_dir() and name not in _UNLISTED:
            raise invalid(f"{name!r} is neither a file nor a folder")
    return names
