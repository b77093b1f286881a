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

logger = logging.getLogger(__name__)


class PackCatalogue:
    """Finds and verifies packs once, on construction; a pack that is broken does not hide the others.

    Each of `folders` is a pack or holds packs. The built-in ones come first unless `built_in` is False; of two packs of
    one name the first counts and the other is listed as broken.
    """

    def __init__(self, folders: Sequence[Path] = (), *, built_in: bool = True) -> None:
        self._packs: dict[str, ModelPack] = {}
        self._broken: dict[str, PackError] = {}
        for root in (*([built_in_folder()] if built_in else []), *folders):
            for folder in _pack_folders(root):
                self._add(folder)

    def names(self) -> tuple[str, ...]:
        """The usable packs, in the order of their names."""
        return tuple(sorted(self._packs))

    @property
    def broken(self) -> Mapping[str, PackError]:
        """Why packs found on disk cannot be used, by the name of their folder."""
        return MappingProxyType(self._broken)

    def get(self, name: str) -> ModelPack:
        """The pack called `name`; raises UNKNOWN_PACK, or the cause when a pack in a folder of this name is broken."""
        if name in self._packs:
            return self._packs[name]
        if name in self._broken:
            raise self._broken[name]
        known = ", ".join(self.names()) or "none"
        raise PackError(ErrorCode.UNKNOWN_PACK, f"pack {name!r} is unknown; known packs: {known}")

    def verify(self, name: str) -> ModelPack:
        """Read the pack from disk again; raises when it is broken now or is no longer what was loaded."""
        loaded = self.get(name)
        current = load_pack(loaded.folder)
        if current.digest != loaded.digest:
            raise PackError(
                ErrorCode.PACK_HASH_MISMATCH,
                f"pack {name!r} changed on disk: loaded digest {loaded.digest[:12]}, now {current.digest[:12]}",
            )
        return current

    def _add(self, folder: Path) -> None:
        try:
            pack = load_pack(folder)
            if pack.name in self._packs:
                raise PackError(ErrorCode.PACK_INVALID, f"a pack {pack.name!r} is already known; names are unique")
            self._packs[pack.name] = pack
        except PackError as error:
            logger.warning("pack in folder %s is not usable: %s", folder.name, error.detail)
            self._broken[folder.name] = error


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
