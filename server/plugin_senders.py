"""Senders of other packages: each brings results to the URLs of one scheme, and no fault of theirs ends the server.

A sender that cannot be used stays in its place and fails each delivery, so that results wait (and go to quarantine in
the end) instead of the server refusing to start.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from radserve.errors import PeerError, RadserveError
from radserve.plugins import Plugin, Point, load
from radserve.ports import Begin, Outcome
from radserve.results import Artifact
from radserve.server.peers import DIMSE_SCHEMES, WEB_SCHEMES
from radserve.server.senders import SchemeSender

logger = logging.getLogger(__name__)

SENDERS = Point[SchemeSender]("radserve.senders", SchemeSender, frozenset({"file", *DIMSE_SCHEMES, *WEB_SCHEMES}))
"""The name of a plug-in here is the scheme of the URLs it sends to."""


@dataclass(frozen=True, slots=True)
class PluginSender:
    """A SchemeSender whose errors name the plug-in."""

    plugin: Plugin[SchemeSender]

    def check(self, url: str) -> None:
        """Raise what the plug-in says of the URL; one that breaks over it is logged, and fails when it is to send."""
        try:
            self.plugin.usable().check(url)
        except RadserveError as error:
            if self.plugin.value:
                raise
            logger.error("%s", error)
        except (Exception, SystemExit) as error:
            logger.error("%s", self.plugin.failed(error))

    async def send(self, url: str, artifacts: Sequence[Artifact], begin: Begin) -> AsyncGenerator[Outcome, None]:
        sender = _transient(self.plugin)
        try:
            async with aclosing(sender.send(url, artifacts, begin)) as outcomes:
                async for outcome in outcomes:
                    yield outcome
        except RadserveError:
            raise
        except (Exception, SystemExit) as error:
            raise _passing(self.plugin.failed(error)) from error

    async def has(self, url: str, artifact: Artifact) -> bool:
        try:
            return await _transient(self.plugin).has(url, artifact)
        except RadserveError:
            raise
        except (Exception, SystemExit) as error:
            raise _passing(self.plugin.failed(error)) from error


def plugin_senders() -> Mapping[str, SchemeSender]:
    """The senders of installed packages by scheme; those of names that are ours are left out."""
    return {name: PluginSender(each) for name, each in load(SENDERS).items() if name not in SENDERS.reserved}


def _transient(plugin: Plugin[SchemeSender]) -> SchemeSender:
    try:
        return plugin.usable()
    except RadserveError as error:
        raise _passing(error) from None


def _passing(error: RadserveError) -> PeerError:
    return PeerError(error.code, error.client_message)
