"""What a pack declares of its preprocessing: MONAI transforms by name, in order, with their arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from radserve.errors import ErrorCode, PackError
from radserve.pipelines.preprocess.allowed import ALLOWED, TransformKind, TransformRule, Value


@dataclass(frozen=True, slots=True)
class TransformSpec:
    """One transform of a chain: its name in `allowed.ALLOWED` and its arguments as sorted (name, value) pairs.

    Lists are kept as tuples. Raises PackError PACK_INVALID for a name, an argument or a value that is not allowed.
    """

    name: str
    arguments: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
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
    def of(cls, name: str, arguments: Mapping[str, object] | None = None) -> TransformSpec:
        """Build from a name and a mapping of arguments as TOML or JSON gives them."""
        return cls(name, tuple(sorted((key, _freeze(name, key, value)) for key, value in (arguments or {}).items())))

    @property
    def rule(self) -> TransformRule:
        return ALLOWED[self.name]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{argument}={value}' for argument, value in self.arguments)})"


def chain_of(steps: Iterable[tuple[str, Mapping[str, object]]]) -> tuple[TransformSpec, ...]:
    """Build the chain that a pack declares as (name, arguments) pairs. Raises PackError PACK_INVALID."""
    chain = tuple(TransformSpec.of(name, arguments) for name, arguments in steps)
    check_chain(chain)
    return chain


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
