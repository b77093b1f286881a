"""What a pack declares of its preprocessing: MONAI transforms by name, in order, with their arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from radserve.errors import ErrorCode, PackError
from radserve.pipelines.preprocess.allowed import ALLOWED, PLUGIN_RULE, TransformKind, TransformRule, Value
from radserve.plugins import PluginRef
from radserve.preprocessors import named

if TYPE_CHECKING:  # a worker runs chains and needs nothing of packs
    from radserve.models.pack import ModelPack
    from radserve.models.pack_types import PackInput

NONE: Mapping[str, PluginRef] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TransformSpec:
    """One transform of a chain: its name in `allowed.ALLOWED` and its arguments as sorted (name, value) pairs.

    Lists are kept as tuples. `plugin` is there for a transform of another package, which itself knows its arguments.
    Raises PackError PACK_INVALID for a name, an argument or a value that is not allowed.
    """

    name: str
    arguments: tuple[tuple[str, Value], ...] = ()
    plugin: PluginRef | None = None

    def __post_init__(self) -> None:
        if self.plugin:
            return
        if self.name not in ALLOWED:
            raise _unknown_transform(self.name)
        rules, given = self.rule.arguments, dict(self.arguments)
        for argument, value in given.items():
            if argument not in rules:
                raise _refused(f"transform {self.name} takes no argument {argument!r}, only {sorted(rules)}")
            if not rules[argument].accepts(value):
                expected = rules[argument].expected
                raise _refused(f"transform {self.name} argument {argument}: got {value!r}, expected {expected}")
        for argument, rule in rules.items():
            if rule.required and argument not in given:
                raise _refused(f"transform {self.name} needs the argument {argument!r}")

    @classmethod
    def of(
        cls, name: str, arguments: Mapping[str, object] | None = None, plugins: Mapping[str, PluginRef] = NONE
    ) -> TransformSpec:
        """Build from a name and a mapping of arguments as TOML or JSON gives them.

        `plugins` are those that may be named. Raises PACK_PLUGIN for another one.
        """
        values = tuple(sorted((key, _freeze(name, key, value)) for key, value in (arguments or {}).items()))
        asked = named(name)
        if asked is None:
            return cls(name, values)
        if asked[0] not in plugins:
            raise PackError(ErrorCode.PACK_PLUGIN, f"the pre-processor {asked[0]!r} is not allowed here")
        return cls(name, values, plugins[asked[0]])

    @property
    def rule(self) -> TransformRule:
        return PLUGIN_RULE if self.plugin else ALLOWED[self.name]

    def __str__(self) -> str:
        text = f"{self.name}({', '.join(f'{argument}={value}' for argument, value in self.arguments)})"
        return f"{text} of {self.plugin.package} {self.plugin.version}" if self.plugin else text


def chain_of(
    steps: Iterable[tuple[str, Mapping[str, object]]], plugins: Mapping[str, PluginRef] = NONE
) -> tuple[TransformSpec, ...]:
    """Build the chain that a pack declares as (name, arguments) pairs. Raises PackError PACK_INVALID, PACK_PLUGIN."""
    chain = tuple(TransformSpec.of(name, arguments, plugins) for name, arguments in steps)
    check_chain(chain)
    return chain


def input_chain(pack: ModelPack, use: PackInput) -> tuple[TransformSpec, ...]:
    """The chain of an input of a pack. Raises as `chain_of`."""
    return chain_of(((step.transform, step.arguments) for step in use.preprocess), pack.plugins)


def check_chain(chain: Sequence[TransformSpec]) -> None:
    """Raise PackError PACK_INVALID when a windowing transform stands anywhere but first: it reads modality values."""
    for place, spec in enumerate(chain, start=1):
        if place > 1 and spec.rule.kind is TransformKind.WINDOW:
            raise _refused(f"transform {spec.name} stands at place {place} of the chain, expected it first")


def starts_with_window(chain: Sequence[TransformSpec]) -> bool:
    """Whether the chain turns modality values into presentation values, polarity included."""
    return bool(chain) and chain[0].rule.kind is TransformKind.WINDOW


def _freeze(transform: str, argument: str, value: object) -> Value:
    if isinstance(value, list | tuple):
        return tuple(_freeze(transform, argument, item) for item in value)
    if value is None or isinstance(value, bool | int | float | str):
        return cast(Value, value)
    got = type(value).__name__
    raise _refused(f"transform {transform} argument {argument}: got a {got}, expected numbers, words or lists of them")


def _unknown_transform(name: str) -> PackError:
    if name.startswith("Rand"):
        return _refused(f"transform {name!r} is random; the same input must give the same tensor")
    return _refused(f"transform {name!r} is not one of {sorted(ALLOWED)}")


def _refused(message: str) -> PackError:
    return PackError(ErrorCode.PACK_INVALID, message)
