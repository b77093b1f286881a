"""Send to a destination as the outbox does, and look at what left and what became of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from radserve.errors import RadserveError
from radserve.ports import Begin, Outcome
from radserve.results import Artifact


class Sender(Protocol):
    """A sender of one scheme, or of all of them."""

    def send(self, where: str, artifacts: Sequence[Artifact], begin: Begin, /) -> AsyncGenerator[Outcome, None]: ...


@dataclass
class Sent:
    """`begun`: the artifacts that left, in their order; `errors`: by the index of the artifact, None for a success."""

    begun: list[int] = field(default_factory=list)
    errors: dict[int, RadserveError | None] = field(default_factory=dict)


async def send_all(sender: Sender, where: str, artifacts: Sequence[Artifact], *, without: int = -1) -> Sent:
    """Send all but the artifact of an index, which the ledger does not let go."""
    sent = Sent()

    async def begin(index: int) -> bool:
        if index == without:
            return False
        sent.begun.append(index)
        return True

    async for index, error in sender.send(where, artifacts, begin):
        sent.errors[index] = error
    return sent


async def send(sender: Sender, where: str, artifact: Artifact) -> None:
    """Send one; raises what it failed by."""
    sent = await send_all(sender, where, [artifact])
    if error := sent.errors[0]:
        raise error
