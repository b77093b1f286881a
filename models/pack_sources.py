"""Packs from a folder, a .tar, an HTTP(S) or s3:// address: put into the site's folder whole or not at all."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from radserve.errors import ErrorCode, PackError
from radserve.models.pack import ModelPack, load_pack
from radserve.models.pack_files import PACK_FILE
from radserve.models.pack_policy import PackPolicy

PROTOCOLS = ("http", "https", "s3")
CHUNK = 1 << 16
"""Bytes at a time; also the longest header of a .tar, for which tarfile would ask as many as the header itself says."""
_DECOMPRESSED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


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
    with _scratch(store) as scratch:
        folder = _fetched(source, scratch, bounds, options or {})
        pack = load_pack(folder)
        _check_digest(pack, digest)
        rules.check_licence(pack.name, pack.licence)
        rules.check_signature(folder)
        plugins = rules.preprocessors_of(pack)
        return _kept(folder, pack, store).with_plugins(plugins)


@contextmanager
def _scratch(store: Path) -> Iterator[Path]:
    """A folder in the store that is gone afterwards."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".adding-", dir=store)
    except OSError as error:
        raise _not_kept(store, error) from error
    with scratch as folder:
        yield Path(folder)


def _kept(folder: Path, pack: ModelPack, store: Path) -> ModelPack:
    """The pack in its place: moved there, or what is there already, if that is the same."""
    target = store / f"{pack.name}-{pack.version}"
    try:
        folder.rename(target)  # fails where there is a folder with something in it
    except OSError as error:
        if not target.is_dir():
            raise _not_kept(store, error) from error
    there = load_pack(target)
    if there.digest != pack.digest:
        message = f"pack {pack.name!r} {pack.version} is there already with digest {there.digest[:12]}"
        raise PackError(ErrorCode.PACK_INVALID, f"{message}, not {pack.digest[:12]}: give it another version")
    return there


def _not_kept(store: Path, error: OSError) -> PackError:
    return PackError(ErrorCode.PACK_SOURCE, f"no pack can be kept in the folder {store.name!r}: {error.strerror}")


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
        with fsspec.filesystem(protocol, **options).open(source, "rb") as stream:  # fsspec.open would take a chain
            yield stream
    except PackError:
        raise
    except Exception as error:  # each protocol of fsspec has errors of its own, whose texts hold the whole address
        raise PackError(
            ErrorCode.PACK_SOURCE, f"the pack cannot be read from {_shown(source)!r} ({_cause(error)})"
        ) from None


def _timeout(limits: SourceLimits) -> Any:
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=limits.timeout_s, sock_read=limits.timeout_s)


def _cause(error: BaseException) -> str:
    """The kind of the error at the bottom, which fsspec calls a file not found whatever it was."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    status = getattr(error, "status", None)
    return f"HTTP status {status}" if isinstance(status, int) else type(error).__name__


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
        with _decompressed(archive) as stream, _opened_tar(_ShortReads(stream)) as tar:
            for count, member in enumerate(tar, start=1):
                if count > limits.max_files:
                    raise _unsafe(f"holds more than {limits.max_files} files")
                left -= _unpacked(tar, member, folder, left, limits.max_bytes)
    except PackError:
        raise
    except Exception as error:  # tarfile and the decompressors raise many kinds, RecursionError among them
        message = f"source {archive.name!r} is not a whole .tar archive"
        raise PackError(ErrorCode.PACK_SOURCE, message, detail=f"{message}: {type(error).__name__}: {error}") from error
    if (folder / PACK_FILE).is_file():
        return folder
    inside = [path for path in folder.iterdir() if (path / PACK_FILE).is_file()]
    if len(inside) != 1 or len(list(folder.iterdir())) != 1:
        raise PackError(ErrorCode.PACK_INVALID, f"the archive has no {PACK_FILE} at its top or in its one folder")
    return inside[0]


def _unpacked(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, left: int, most: int) -> int:
    """Write a member below `folder` and return its bytes, of which no more than `left` are taken."""
    place = folder / _safe(member)
    if member.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return 0
    place.parent.mkdir(parents=True, exist_ok=True)
    stream = tar.extractfile(member)
    if stream is None or place.exists():
        raise _unsafe(f"holds {member.name!r} twice or without content")
    with place.open("xb") as out:
        return _copy(stream, out, left, f"holds files of more than {most} bytes")


def _decompressed(archive: Path) -> Any:
    with archive.open("rb") as stream:
        start = stream.read(max(map(len, _DECOMPRESSED)))
    for mark, opened in _DECOMPRESSED.items():
        if start.startswith(mark):
            return opened(archive)
    return archive.open("rb")


def _opened_tar(stream: Any) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="r:")


class _ShortReads:
    """A stream as tarfile needs it that gives no more than CHUNK bytes at once."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if size > CHUNK:
            raise _unsafe(f"has a header of {size} bytes, more than the {CHUNK} allowed")
        return bytes(self._stream.read(size))


def _safe(member: tarfile.TarInfo) -> PurePosixPath:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
        raise _unsafe(f"holds {member.name!r}, which leads out of it")
    if not member.name.isprintable():
        raise _unsafe(f"holds {member.name!r}, which is no name")
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
    if not (source / PACK_FILE).is_file():
        raise PackError(ErrorCode.PACK_INVALID, f"folder {source.name!r} has no {PACK_FILE}")
    if target.resolve().is_relative_to(source.resolve()):
        message = f"folder {source.name!r} holds the folder that packs are kept in; a pack holds its own files only"
        raise PackError(ErrorCode.PACK_SOURCE, message)
    paths = list(source.rglob("*"))
    total = sum(path.lstat().st_size for path in paths)
    for what, found, most in (("bytes", total, limits.max_bytes), ("files", len(paths), limits.max_files)):
        if found > most:
            raise PackError(ErrorCode.ARCHIVE_UNSAFE, f"the pack has {found} {what}, more than the {most} allowed")
    try:
        shutil.copytree(source, target, symlinks=True)
    except (OSError, shutil.Error) as error:  # a pipe, a file that may not be read
        message = f"folder {source.name!r} cannot be copied"
        raise PackError(ErrorCode.PACK_SOURCE, message, detail=f"{message}: {error}") from error
    return target
