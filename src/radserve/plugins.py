"""Plug-ins: what installed packages add through entry points (importlib.metadata), found and checked in one way.

A point is a group of entry points and the Protocol that each of them has to fit. One that cannot be used is a finding
with its reason, never an exception: the others, and the server, go on without it. Plug-ins run in the process that
uses them, with its rights: who installs one trusts it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from radserve.errors import ErrorCode, RadserveError

API_VERSION = 1
"""Grows when a plug-in of before would no longer work."""
API_ATTRIBUTE = "RADSERVE_PLUGIN_API"
"""Name in the plug-in's module of the version that it was written for; without it, 1."""

P = TypeVar("P")


@dataclass(frozen=True)  # slots and Generic do not go together in Python 3.11
class Point(Generic[P]):
    """A place where plug-ins go in. `protocol` is a runtime-checkable Protocol; `reserved` are names of our own.

    With `makes` a class is made into an object, without arguments; else it is the plug-in itself, to be called later.
    """

    group: str
    protocol: type[object]
    reserved: frozenset[str] = frozenset()
    makes: bool = True


@dataclass(frozen=True, slots=True)
class PluginRef:
    """What the metadata of an installed package say of a plug-in: nothing was imported. `value` is MODULE:OBJECT."""

    group: str
    name: str
    package: str
    version: str
    value: str

    def __str__(self) -> str:
        return f"plug-in {self.name!r} of {self.package} {self.version}"

    def failed(self, problem: str) -> RadserveError:
        """The error (to be raised) that says what is wrong with it."""
        return RadserveError(ErrorCode.PLUGIN_FAILED, f"{self} {problem}")


@dataclass(frozen=True)
class Plugin(Generic[P]):
    """What was found under a name: `value`, or None with the `problem` for which it cannot be used."""

    name: str
    package: str
    value: P | None
    problem: str = ""

    def __str__(self) -> str:
        return f"plug-in {self.name!r} of {self.package}"

    def failed(self, error: BaseException) -> RadserveError:
        """The error (to be raised) of a plug-in that raised `error`, whose text is not told: it may name a patient."""
        return RadserveError(ErrorCode.PLUGIN_FAILED, f"{self} failed: {type(error).__name__}")

    def usable(self) -> P:
        """The value. Raises RadserveError PLUGIN_FAILED with the problem."""
        if self.value is None:
            raise RadserveError(ErrorCode.PLUGIN_FAILED, f"{self} cannot be used: {self.problem}")
        return self.value


def installed(group: str) -> Mapping[str, tuple[PluginRef, ...]]:
    """The plug-ins of a group by name, without importing any; of one name there may be several packages' ones."""
    found: dict[str, tuple[PluginRef, ...]] = {}
    for entry in sorted(entry_points(group=group), key=lambda each: (each.name, _package(each))):
        package, version = (entry.dist.name, entry.dist.version) if entry.dist else ("an unknown package", "")
        ref = PluginRef(group, entry.name, package, version, entry.value)
        found[entry.name] = (*found.get(entry.name, ()), ref)
    return found


def load(point: Point[P]) -> Mapping[str, Plugin[P]]:
    """Import every plug-in of a point, by name; raises nothing."""
    found: dict[str, Plugin[P]] = {}
    for entry in sorted(entry_points(group=point.group), key=lambda each: (each.name, _package(each))):
        package = _package(entry)
        if first := found.get(entry.name):  # which of them is meant is not for us to say
            package = f"{first.package} and {package}"
            value, problem = None, "each of them has one of this name"
        elif entry.name in point.reserved:
            value, problem = None, "radserve has its own of this name"
        else:
            value, problem = _loaded(entry, point)
        found[entry.name] = Plugin(entry.name, package, cast("P | None", value), problem)
    return found


def load_one(point: Point[P], ref: PluginRef) -> Plugin[P]:
    """Import the plug-in that `ref` names, and no other; raises nothing. The point's own names are not looked at."""
    value, problem = _loaded(EntryPoint(ref.name, ref.value, ref.group), point)
    return Plugin(ref.name, f"{ref.package} {ref.version}", cast("P | None", value), problem)


def _loaded(entry: EntryPoint, point: Point[P]) -> tuple[object | None, str]:
    try:
        value = entry.load()
        version = getattr(sys.modules[entry.module], API_ATTRIBUTE, 1)
        if version != API_VERSION:
            return None, f"it is for plug-in API {version!r}, this radserve has {API_VERSION}"
        if point.makes and inspect.isclass(value):
            value = value()
    except (Exception, SystemExit) as error:
        return None, f"{type(error).__name__}: {error}"
    if not isinstance(value, point.protocol):
        return None, f"{entry.value} is a {type(value).__name__}, expected a {point.protocol.__name__}"
    return value, ""


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
