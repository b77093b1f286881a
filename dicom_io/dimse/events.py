"""What receiving tells its owner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from radserve.dicom_io.store import StoredInstance
from radserve.errors import RadserveError


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an instance came from: the calling AE title, and an id of the association that is never used twice."""

    calling_ae: str
    association_id: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An instance that was not stored: the UIDs of its command, the error and the status it was answered with."""

    sop_class_uid: str
    sop_instance_uid: str
    error: RadserveError
    status: int


async def _nothing(*_: object) -> None:
    """The handler where the owner has none."""


@dataclass(frozen=True, slots=True)
class ReceiveEvents:
    """Handlers, awaited in the order of what happens on an association.

    `on_stored(stored, origin)`: before the instance is acknowledged; where it raises, the sender is told so and sends
    again (then `stored.duplicate` is true), so what it makes durable is never lost. `on_refused(refusal, origin)`:
    before the refusal is answered; bytes that conflict with stored ones are in the store's quarantine by then.
    `on_released(calling_ae, association_id)`: the peer released the association, so it sent what it meant to send.
    `on_ended(calling_ae, association_id)`: the association ended in any other way.
    """

    on_stored: Callable[[StoredInstance, Origin], Awaitable[None]] = _nothing
    on_refused: Callable[[Refusal, Origin], Awaitable[None]] = _nothing
    on_released: Callable[[str, str], Awaitable[None]] = _nothing
    on_ended: Callable[[str, str], Awaitable[None]] = _nothing
