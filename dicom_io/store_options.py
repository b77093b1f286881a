"""What a study store is told when it is made."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radserve._checks import invalid
from radserve.dicom_io.quarantine import QuarantineFolder

if TYPE_CHECKING:
    from radserve.dicom_io.decode import DecodeLimits


async def _no_results(result_uid: str) -> None:
    """Where results are kept elsewhere."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """`max_instance_bytes`: the largest instance taken. `decode`: the bounds of decoding, None for the usual ones."""

    max_instance_bytes: int = 2 << 30
    decode: DecodeLimits | None = None

    def __post_init__(self) -> None:
        if self.max_instance_bytes < 1:
            raise invalid("StoreLimits.max_instance_bytes", self.max_instance_bytes, "at least 1")


@dataclass(frozen=True, slots=True)
class IndexedOptions:
    """What a store with an index does besides: `quarantine` takes bytes that conflict with stored ones; an erased study
    is refused when it comes again (`refuse_erased`) or taken; `remove_result` removes the files of one result,
    `remove_study` what else is kept of a study. `now` gives seconds since 1970.
    """

    quarantine: QuarantineFolder | None = None
    refuse_erased: bool = True
    remove_result: Callable[[str], Awaitable[None]] = _no_results
    remove_study: Callable[[str], Awaitable[None]] = _no_results
    now: Callable[[], float] = time.time
