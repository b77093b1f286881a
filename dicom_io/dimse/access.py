"""Who may associate, and how much of the service one AE title may take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

from radserve._checks import invalid
from radserve.dicom_io.dimse.negotiation import CALLED_AE_UNKNOWN, CALLING_AE_UNKNOWN, LIMIT_EXCEEDED, Rejection

MINUTE = 60.0
AE_TITLE_LENGTH = 16  # PS3.5 section 6.2


@dataclass(frozen=True, slots=True)
class PeerPolicy:
    """What one calling AE title may do; None sets no limit.

    `certificates`: SHA-256 (hex) of the client certificates that may speak for it; empty takes every certificate that
    the TLS settings take.
    """

    associations: int | None = 8
    instances_per_minute: int | None = None
    bytes_per_minute: int | None = None
    certificates: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int) and value < 1:
                raise invalid(f"PeerPolicy.{each.name}", value, "at least 1, or None")


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The AE title of this service, and its peers by their AE titles.

    `others`: for AE titles that are not listed; None rejects them. An AE title is a name, not a proof: only
    certificates are. `associations`: of all peers together.
    """

    ae_title: str
    peers: Mapping[str, PeerPolicy] = field(default_factory=dict)
    others: PeerPolicy | None = None
    associations: int = 32

    def __post_init__(self) -> None:
        for title in (self.ae_title, *self.peers):
            check_ae_title(title)
        if self.associations < 1:
            raise invalid("AccessPolicy.associations", self.associations, "at least 1")


def check_ae_title(title: str) -> None:
    """Raise INVALID_ARGUMENT unless `title` is an AE title (PS3.5 section 6.2, VR AE)."""
    if not (0 < len(title) <= AE_TITLE_LENGTH and title.isascii() and title.isprintable() and title == title.strip()):
        raise invalid("AE title", title[:64], "1 to 16 printable ASCII characters, no space at either end")
    if "\\" in title:
        raise invalid("AE title", title, "no backslash")


class RejectedError(Exception):
    """The association is not taken."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.text)
        self.rejection = rejection


class Gate:
    """Counts what is going on against an AccessPolicy. For one event loop."""

    def __init__(self, policy: AccessPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._open: Counter[str] = Counter()
        self._meters: dict[str, tuple[_Meter, _Meter]] = {}

    def admit(self, calling_ae: str, called_ae: str, certificate_sha256: str) -> Seat:
        """A seat for a new association; `certificate_sha256` is empty without a certificate. Raises RejectedError."""
        if called_ae != self._policy.ae_title:
            raise RejectedError(CALLED_AE_UNKNOWN)
        peer = self._policy.peers.get(calling_ae, self._policy.others)
        if peer is None or (peer.certificates and certificate_sha256 not in peer.certificates):
            raise RejectedError(CALLING_AE_UNKNOWN)
        # AE titles that are not listed share one account: they cost nothing to make up.
        account = calling_ae if calling_ae in self._policy.peers else ""
        is_full = peer.associations is not None and self._open[account] >= peer.associations
        if is_full or self._open.total() >= self._policy.associations:
            raise RejectedError(LIMIT_EXCEEDED)
        instances, size = self._meters.setdefault(
            account, (_Meter(peer.instances_per_minute, self._clock), _Meter(peer.bytes_per_minute, self._clock))
        )
        if not (instances.has_room and size.has_room):
            raise RejectedError(LIMIT_EXCEEDED)
        self._open[account] += 1
        return Seat(self._open, account, instances, size)


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of one association; `leave` it once."""

    _open: Counter[str]
    _account: str
    _instances: _Meter
    _size: _Meter

    @property
    def may_store(self) -> bool:
        """Whether the quota of this minute has room for another instance."""
        return self._instances.has_room and self._size.has_room

    def charge(self, instances: int, size_bytes: int) -> None:
        """Count what was received."""
        self._instances.charge(instances)
        self._size.charge(size_bytes)

    def leave(self) -> None:
        """Give the place free."""
        self._open[self._account] -= 1


class _Meter:
    """A token bucket that holds the quota of one minute and fills again evenly. The last charge may overdraw it."""

    def __init__(self, per_minute: int | None, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left = float(per_minute or 0)
        self._at = clock()

    @property
    def has_room(self) -> bool:
        if self._per_minute is None:
            return True
        now = self._clock()
        self._left = min(self._per_minute, self._left + (now - self._at) * self._per_minute / MINUTE)
        self._at = now
        return self._left >= 1

    def charge(self, amount: int) -> None:
        self._left -= amount
