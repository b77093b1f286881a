"""Packs from a folder, a .tar, an HTTP(S) or s3:// address: put into the site's folder whole or not at all."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from radserve.errors import ErrorCode, PackError
from radserve.models.pack import ModelPack, load_pack
from radserve.models.pack_files import PACK_FILE
from radserve.models.pack_policy import PackPolicy

PROTOCOLS = ("http", "https", "s3")
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """Bounds of a pack from elsewhere: bytes of its archive and of its files, their number, seconds of silence."""

    max_bytes: int = 8 << 30
    max_files: int = 1000
    timeout_s: float = 60.0


def add_pack(
    source: str,
    store: Path,
    *,
    digest: str = "",
    policy: PackPolicy | None = None,
    limits: SourceLimits | None = None,
    options: dict[str, Any] | None = None,
) -> ModelPack:
    """Fetch a pack, check it, and put it into `store` as NAME-VERSION.

    `digest` is the pipeline digest that its files have to have. `options` go to fsspec (the endpoint of an S3 store).
    The same pack again changes nothing. Raises PackError: PACK_SOURCE when it cannot be had, ARCHIVE_UNSAFE, and what
    a broken pack, its licence, a plug-in that it names, its signature or another digest raise.
    """
    bounds, rules = limits or SourceLimits(), policy or PackPolicy()
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=store) as scratch:
        folder = _fetched(source, Path(scratch), bounds, options or {})
        pack = load_pack(folder)
        _check_digest(pack, digest)
        rules.check_licence(pack.name, pack.licence)
        rules.check_signature(folder)
        plugins = rules.preprocessors_of(pack)
        target = store / f"{pack.name}-{pack.version}"
        if target.exists():
            there = load_pack(target)
            if there.digest != pack.digest:
                message = f"pack {pack.name!r} {pack.version} is there already with digest {there.digest[:12]}"
                raise PackError(ErrorCode.PACK_INVALID, f"{message}, not {pack.digest[:12]}: give it another version")
            return there.with_plugins(plugins)
        folder.rename(target)
    return load_pack(target).with_plugins(plugins)


def _check_digest(pack: ModelPack, digest: str) -> None:
    wanted = digest.removeprefix("sha256:").lower()
    if wanted and pack.digest != wanted:
        message = f"pack {pack.name!r}: asked for digest {wanted[:12]}, the source has {pack.digest[:12]}"
        raise PackError(ErrorCode.PACK_HASH_MISMATCH, message)


def _fetched(source: str, scratch: Path, limits: SourceLimits, options: dict[str, Any]) -> Path:
    """The folder of the pack, below `scratch`."""
    local = Path(source)
    if local.is_dir():
        return _copied(local, scratch / "pack", limits)
    archive = scratch / "pack.tar"
    with _opened(source, limits, options) as stream, archive.open("xb") as out:
        _copy(stream, out, limits.max_bytes, f"has more than {limits.max_bytes} bytes")
    return extract(archive, scratch / "pack", limits)


@contextmanager
def _opened(source: str, limits: SourceLimits, options: dict[str, Any]) -> Iterator[BinaryIO]:
    protocol, separator, _ = source.partition("://")
    try:
        if not separator:
            with Path(source).open("rb") as stream:
                yield stream
            return
        if protocol not in PROTOCOLS:
            raise PackError(
                ErrorCode.PACK_SOURCE, f"source {protocol!r} is not one of {list(PROTOCOLS)}, a folder or a .tar"
            )
        import fsspec

        if protocol != "s3":
            options = {"client_kwargs": {"timeout": _timeout(limits)}, **options}
        with fsspec.open(source, "rb", **options) as stream:
            yield stream
    except PackError:
        raise
    except Exception as error:  # each protocol of fsspec has errors of its own
        message = f"the pack cannot be read from {_shown(source)!r}"
        raise PackError(ErrorCode.PACK_SOURCE, message, detail=f"{message}: {type(error).__name__}: {error}") from error


def _timeout(limits: SourceLimits) -> Any:
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=limits.timeout_s, sock_read=limits.timeout_s)


def _shown(source: str) -> str:
    """The source without what may be secret: user and query."""
    protocol, separator, rest = source.partition("://")
    if not separator:
        return Path(source).name
    return f"{protocol}://{rest.partition('?')[0].rpartition('@')[2]}"


def extract(archive: Path, folder: Path, limits: SourceLimits) -> Path:
    """Unpack a .tar (plain, gzip, bzip2, xz) into the new `folder` and return where pack.toml lies.

    The pack is at the top or in one folder. Raises PackError ARCHIVE_UNSAFE naming the member: a name that leads out, a
    link, a device, more bytes or files than allowed; PACK_SOURCE for what is no archive.
    """
    folder.mkdir()
    left = limits.max_bytes
    try:
        with tarfile.open(archive) as tar:
            for count, member in enumerate(tar, start=1):
                if count > limits.max_files:
                    raise _unsafe(f"holds more than {limits.max_files} files")
                place = folder / _safe(member)
                if member.isdir():
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                stream = tar.extractfile(member)
                if stream is None or place.exists():
                    raise _unsafe(f"holds {member.name!r} twice or without content")
                with place.open("xb") as out:
                    left -= _copy(stream, out, left, f"holds files of more than {limits.max_bytes} bytes")
    except (tarfile.TarError, EOFError, OSError) as error:
        message = f"source {archive.name!r} is not a whole .tar archive"
        raise PackError(ErrorCode.PACK_SOURCE, message, detail=f"{message}: {error}") from error
    if (folder / PACK_FILE).is_file():
        return folder
    inside = [path for path in folder.iterdir() if (path / PACK_FILE).is_file()]
    if len(inside) != 1 or len(list(folder.iterdir())) != 1:
        raise PackError(ErrorCode.PACK_INVALID, f"the archive has no {PACK_FILE} at its top or in its one folder")
    return inside[0]


def _safe(member: tarfile.TarInfo) -> PurePosixPath:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
        raise _unsafe(f"holds {member.name!r}, which leads out of it")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise _unsafe(f"holds {member.name!r}, which is neither a plain file nor a folder")
    return path


def _unsafe(cause: str) -> PackError:
    return PackError(ErrorCode.ARCHIVE_UNSAFE, f"the pack's archive {cause}")


def _copy(stream: Any, out: BinaryIO, most: int, problem: str) -> int:
    """Copy to the end; raises ARCHIVE_UNSAFE with the `problem` beyond `most` bytes."""
    count = 0
    while chunk := stream.read(CHUNK):
        count += len(chunk)
        if count > most:
            raise _unsafe(problem)
        out.write(chunk)
    return count


def _copied(source: Path, target: Path, limits: SourceLimits) -> Path:
    """Copy a pack folder; links stay links, which loading refuses."""
    total = sum(path.lstat().st_size for path in source.rglob("*"))
    if total > limits.max_bytes:
        raise PackError(
            ErrorCode.ARCHIVE_UNSAFE, f"the pack has {total} bytes, more than the {limits.max_bytes} allowed"
        )
    if not (source / PACK_FILE).is_file():
        raise PackError(ErrorCode.PACK_INVALID, f"folder {source.name!r} has no {PACK_FILE}")
    shutil.copytree(source, target, symlinks=True)
    return target
