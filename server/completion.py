"""When a sender says that a study is complete: it released the association over which the study came."""

from __future__ import annotations

from collections.abc import Collection

from radserve.dicom_io.dimse.events import Origin, ReceiveEvents
from radserve.dicom_io.store import StoredInstance
from radserve.ports import WorkLedger
from radserve.references import StudyRef
from radserve.work import Signal

ANY = "*"


class AssociationSignals:
    """Tells the ledger that the studies of a released association are complete, and those of a broken one interrupted.

    `senders` are the AE titles for which an association holds whole studies; others, which open one for each instance
    or series, are left to the quiet time. A study that comes over several associations at once is told complete by the
    last to end. What is not yet told when the process ends is left to the quiet time, too.
    """

    def __init__(self, ledger: WorkLedger, senders: Collection[str]) -> None:
        self._ledger = ledger
        self._senders = frozenset(senders)
        self._studies: dict[str, set[str]] = {}  # by association

    @property
    def events(self) -> ReceiveEvents:
        """The handlers for a listener."""
        return ReceiveEvents(on_stored=self._stored, on_released=self._released, on_ended=self._ended)

    async def _stored(self, stored: StoredInstance, origin: Origin) -> None:
        if ANY in self._senders or origin.calling_ae in self._senders:
            uid = stored.header.instance.study_instance_uid
            self._studies.setdefault(origin.association_id, set()).add(uid)

    async def _released(self, calling_ae: str, association_id: str) -> None:
        await self._tell(association_id, Signal.COMPLETE)

    async def _ended(self, calling_ae: str, association_id: str) -> None:
        await self._tell(association_id, Signal.INTERRUPTED)

    async def _tell(self, association_id: str, signal: Signal) -> None:
        ended = self._studies.pop(association_id, set())
        for uid in sorted(ended.difference(*self._studies.values())):
            await self._ledger.signal(StudyRef(uid), signal)
