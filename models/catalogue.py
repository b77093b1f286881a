"""The packs an installation has: those that come with radserve and those of the site's folders."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from radserve.errors import ErrorCode, PackError
from radserve.models.pack import ModelPack, load_pack
from radserve.models.pack_files import PACK_FILE
from radserve.models.pack_policy import PackPolicy

logger = logging.getLogger(__name__)

LEAST_DIGEST = 12  # hexadecimal digits that name a pack


class PackCatalogue:
    """Finds and verifies packs on construction; a pack that is broken does not hide the others.

    Each of `folders` is a pack or holds packs. The built-in ones come first unless `built_in` is False. A pack may be
    there in several versions; of two packs of one name and version the first counts and the other is listed as broken.

    `policy` is what the site asks of packs: all need a licence it may use, those of `folders` a signature where the
    site has a key. A reference to a pack is NAME, NAME@VERSION or NAME@DIGEST (the first twelve digits at least).
    """

    def __init__(
        self, folders: Sequence[Path] = (), *, built_in: bool = True, policy: PackPolicy | None = None
    ) -> None:
        self._policy = policy or PackPolicy()
        self._roots = (*([built_in_folder()] if built_in else []), *folders)
        self._packs: dict[str, list[ModelPack]] = {}
        self._broken: dict[str, PackError] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look again for packs that have come since. What was found before stays as it was read."""
        known = {pack.folder for packs in self._packs.values() for pack in packs}
        self._broken = {}
        for root in self._roots:
            for folder in _pack_folders(root):
                if folder not in known:
                    self._add(folder)

    def names(self) -> tuple[str, ...]:
        """The names of the usable packs, in order."""
        return tuple(sorted(self._packs))

    def versions(self, name: str) -> tuple[ModelPack, ...]:
        """Every version of the pack called `name`, in the order found; none when it is unknown."""
        return tuple(self._packs.get(name, ()))

    @property
    def broken(self) -> Mapping[str, PackError]:
        """Why packs found on disk cannot be used, by the name of their folder."""
        return MappingProxyType(self._broken)

    def get(self, reference: str) -> ModelPack:
        """The pack of a reference, the first found of a mere name.

        Raises UNKNOWN_PACK, or the cause when a pack in a folder of this name is broken.
        """
        name, chosen = split_reference(reference)
        for pack in self.versions(name):
            if is_chosen(pack, chosen):
                return pack
        if name in self._broken:
            raise self._broken[name]
        if name in self._packs:
            known = ", ".join(pack.version for pack in self.versions(name))
            raise PackError(ErrorCode.UNKNOWN_PACK, f"pack {name!r} has no version {chosen!r}; known versions: {known}")
        known = ", ".join(self.names()) or "none"
        raise PackError(ErrorCode.UNKNOWN_PACK, f"pack {name!r} is unknown; known packs: {known}")

    def verify(self, reference: str) -> ModelPack:
        """Read the pack from disk again; raises when it is broken now or is no longer what was loaded."""
        loaded = self.get(reference)
        current = self._load(loaded.folder)
        if current.digest != loaded.digest:
            raise PackError(
                ErrorCode.PACK_HASH_MISMATCH,
                f"pack {reference!r} changed on disk: loaded digest {loaded.digest[:12]}, now {current.digest[:12]}",
            )
        return current

    def _load(self, folder: Path) -> ModelPack:
        pack = load_pack(folder)
        self._policy.check_licence(pack.name, pack.licence)
        if folder.parent != built_in_folder():
            self._policy.check_signature(folder)
        return pack.with_plugins(self._policy.preprocessors_of(pack))

    def _add(self, folder: Path) -> None:
        try:
            pack = self._load(folder)
            if any(other.version == pack.version for other in self.versions(pack.name)):
                message = f"a pack {pack.name!r} of version {pack.version} is already known; versions are unique"
                raise PackError(ErrorCode.PACK_INVALID, message)
            self._packs.setdefault(pack.name, []).append(pack)
        except PackError as error:
            logger.warning("pack in folder %s is not usable: %s", folder.name, error.detail)
            self._broken[folder.name] = error


def split_reference(reference: str) -> tuple[str, str]:
    """Name and version (or digest) of a reference; the latter is empty in a mere name."""
    name, _, chosen = reference.partition("@")
    return name, chosen


def is_chosen(pack: ModelPack, chosen: str) -> bool:
    """Whether a version or digest is that of `pack`; an empty one is that of any."""
    by_digest = len(chosen) >= LEAST_DIGEST and pack.digest.startswith(chosen)
    return chosen in ("", pack.version) or by_digest


def built_in_folder() -> Path:
    """Where the packs lie that come with radserve."""
    with resources.as_file(resources.files("radserve.models.packs")) as folder:
        return folder


def _pack_folders(root: Path) -> Iterator[Path]:
    if (root / PACK_FILE).is_file():
        yield root
    elif root.is_dir():
        yield from sorted(child for child in root.iterdir() if (child / PACK_FILE).is_file())
    else:
        logger.warning("pack folder %s does not exist", root.name)
