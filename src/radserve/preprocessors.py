"""Pre-processors of other packages: transforms that a pack names as plugin:NAME and that the site allows by name.

The process that serves never imports one: it reads from the package's metadata what is installed, and the
preprocessing worker imports what the chain of a pack names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from radserve.errors import ErrorCode, PackError
from radserve.plugins import PluginRef, Point, installed

PREFIX = "plugin:"


@runtime_checkable
class Preprocessor(Protocol):
    """Makes a transform: a class or a function that takes the arguments of the pack by name.

    The transform takes a MetaTensor, channel first: (1, rows, columns), of a volume (1, slices, rows, columns),
    float32, and returns one. The same input gives the same output, to the bit. A transform that moves pixels sets
    `affine` as MONAI's own do. Raises ValueError or TypeError for arguments that it does not take.
    """

    def __call__(self, **arguments: Any) -> Any: ...


PREPROCESSORS = Point[Preprocessor]("radserve.preprocessors", Preprocessor, makes=False)
"""The name of a plug-in here is what stands behind `plugin:` in a pack."""


def named(transform: str) -> tuple[str, str] | None:
    """Name and version ("" for any) of the plug-in that a pack's transform names, None for one of our table."""
    if not transform.startswith(PREFIX):
        return None
    name, _, version = transform.removeprefix(PREFIX).partition("@")
    return name, version


def resolve(transforms: Collection[str], allowed: Collection[str]) -> Mapping[str, PluginRef]:
    """The plug-ins that the transforms of a pack name, by their names.

    Raises PackError PACK_PLUGIN, with the name, for one that the site does not allow, that no package or more than one
    has, or that is of another version than the pack asks for.
    """
    asked = [found for each in transforms if (found := named(each)) is not None]
    known = installed(PREPROCESSORS.group) if asked else {}
    return MappingProxyType({name: _resolved(name, version, known, allowed) for name, version in asked})


def _resolved(
    name: str, version: str, known: Mapping[str, tuple[PluginRef, ...]], allowed: Collection[str]
) -> PluginRef:
    what = f"the pre-processor {name!r}"
    if name not in allowed:
        raise _refused(f"{what} is not one that this site allows ({sorted(allowed) or 'none'})")
    refs = known.get(name, ())
    if not refs:
        raise _refused(f"{what} is not installed")
    if len(refs) > 1:
        raise _refused(f"{what} is in more than one package: {', '.join(each.package for each in refs)}")
    if version not in ("", refs[0].version):
        raise _refused(f"{what} is asked for in version {version}, installed is {refs[0].package} {refs[0].version}")
    return refs[0]


def _refused(message: str) -> PackError:
    return PackError(ErrorCode.PACK_PLUGIN, message)
