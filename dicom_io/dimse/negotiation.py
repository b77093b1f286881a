"""Which abstract syntaxes and transfer syntaxes an association carries (PS3.8 section 7.1 and 9.3.2 to 9.3.4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from radserve.dicom_io.dimse.associate_pdu import PROTOCOL_VERSION, Associate, ContextItem, decode, encode
from radserve.dicom_io.dimse.pdu import AbortReason, PduType, ProtocolError, pdu
from radserve.dicom_io.file_meta import IMPLEMENTATION_CLASS_UID, IMPLICIT_LITTLE
from radserve.dicom_io.parse import IMAGE_STORAGE, TRANSFER_SYNTAXES

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
UNCOMPRESSED = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
IMPLEMENTATION_VERSION_NAME = "RADSERVE"
MAX_CONTEXTS = 128  # odd numbers of one byte
ACCEPTED, NO_ABSTRACT_SYNTAX, NO_TRANSFER_SYNTAX = 0, 3, 4  # PS3.8 table 9-18

# What the storage SCP takes: every image class that the parser reads, in every transfer syntax that it reads.
SUPPORTED: Mapping[str, frozenset[str]] = {
    VERIFICATION: frozenset(UNCOMPRESSED),
    STORAGE_COMMITMENT: frozenset(UNCOMPRESSED),
    **dict.fromkeys(sorted(IMAGE_STORAGE), TRANSFER_SYNTAXES),
}
# Classes of which the peer, though it asked for the association, may be the SCP: it reports a storage commitment.
PEER_AS_SCP = frozenset({STORAGE_COMMITMENT})


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    context_id: int
    abstract_syntax: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a peer asks for: (context id, abstract syntax, transfer syntaxes), and the roles it wants by class."""

    calling_ae: str
    called_ae: str
    max_pdu_bytes: int
    contexts: Sequence[tuple[int, str, tuple[str, ...]]]
    roles: Mapping[str, tuple[bool, bool]]


@dataclass(frozen=True, slots=True)
class Proposed:
    """A context that we ask for; `as_scp`: with the role of the SCP (C-GET)."""

    abstract_syntax: str
    transfer_syntax_uids: tuple[str, ...]
    as_scp: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    result: int
    source: int
    reason: int
    text: str

    @property
    def is_transient(self) -> bool:
        return self.result == 2


CALLED_AE_UNKNOWN = Rejection(1, 1, 7, "the called AE title is not recognized")
CALLING_AE_UNKNOWN = Rejection(1, 1, 3, "the calling AE title is not recognized")
APPLICATION_CONTEXT_UNSUPPORTED = Rejection(1, 1, 2, "the application context is not supported")
VERSION_UNSUPPORTED = Rejection(1, 2, 2, "the protocol version is not supported")
CONGESTED = Rejection(2, 3, 1, "temporary congestion")
LIMIT_EXCEEDED = Rejection(2, 3, 2, "the local limit is exceeded")
REJECTIONS = (
    CALLED_AE_UNKNOWN,
    CALLING_AE_UNKNOWN,
    APPLICATION_CONTEXT_UNSUPPORTED,
    VERSION_UNSUPPORTED,
    CONGESTED,
    LIMIT_EXCEEDED,
)


def read_request(body: bytes) -> Proposal | Rejection:
    """Read the body of an A-ASSOCIATE-RQ. Raises ProtocolError."""
    asked = decode(body)
    if not asked.protocol_version & PROTOCOL_VERSION:
        return VERSION_UNSUPPORTED
    if asked.application_context != APPLICATION_CONTEXT:
        return APPLICATION_CONTEXT_UNSUPPORTED
    contexts = [(each.context_id, each.abstract_syntax, each.transfer_syntax_uids) for each in asked.contexts]
    return Proposal(asked.calling_ae, asked.called_ae, asked.max_pdu_bytes, contexts, asked.roles)


def choose(proposal: Proposal, supported: Mapping[str, Collection[str]]) -> dict[int, Context]:
    """The contexts to accept: of each, the first transfer syntax in the order of the peer that is supported.

    Senders name the syntax first in which they hold the images: so none has to be transcoded.
    """
    chosen = {}
    for context_id, abstract, syntaxes in proposal.contexts:
        offered = supported.get(abstract, ())
        syntax = next((uid for uid in syntaxes if uid in offered), None)
        if syntax:
            chosen[context_id] = Context(context_id, abstract, syntax)
    return chosen


def accept_bytes(
    proposal: Proposal, chosen: Mapping[int, Context], supported: Collection[str], max_pdu_bytes: int
) -> bytes:
    """The A-ASSOCIATE-AC that accepts `chosen` and refuses the other contexts."""
    carried = {context.abstract_syntax for context in chosen.values()}
    roles = {
        uid: (scu, scp and uid in PEER_AS_SCP)
        for uid, (scu, scp) in proposal.roles.items()
        if uid in carried and (scu or uid in PEER_AS_SCP)
    }
    results = [
        _result(context_id, abstract, chosen.get(context_id), supported)
        for context_id, abstract, _ in proposal.contexts
    ]
    names = proposal.called_ae, proposal.calling_ae, APPLICATION_CONTEXT
    return _pdu(PduType.ASSOCIATE_AC, Associate(*names, results, max_pdu_bytes, roles))


def reject_bytes(rejection: Rejection) -> bytes:
    """The A-ASSOCIATE-RJ."""
    return pdu(PduType.ASSOCIATE_RJ, bytes((0, rejection.result, rejection.source, rejection.reason)))


def request_bytes(calling_ae: str, called_ae: str, proposed: Sequence[Proposed], max_pdu_bytes: int) -> bytes:
    """The A-ASSOCIATE-RQ for at most MAX_CONTEXTS contexts; the ids are 1, 3, 5 ... in their order."""
    contexts = [
        ContextItem(2 * index + 1, each.abstract_syntax, each.transfer_syntax_uids)
        for index, each in enumerate(proposed)
    ]
    roles = dict.fromkeys(sorted({each.abstract_syntax for each in proposed if each.as_scp}), (False, True))
    names = called_ae, calling_ae, APPLICATION_CONTEXT
    return _pdu(PduType.ASSOCIATE_RQ, Associate(*names, contexts, max_pdu_bytes, roles))


def read_accept(body: bytes, proposed: Sequence[Proposed]) -> tuple[dict[int, Context], int]:
    """The contexts that the peer accepted and the longest PDU it takes (0: any). Raises ProtocolError."""
    answer, accepted = decode(body), {}
    for item in answer.contexts:
        if item.result != ACCEPTED:
            continue
        index = (item.context_id - 1) // 2
        if index >= len(proposed) or not item.transfer_syntax_uids:
            raise ProtocolError("an association answer that accepts what was not asked for")
        accepted[item.context_id] = Context(
            item.context_id, proposed[index].abstract_syntax, item.transfer_syntax_uids[0]
        )
    return accepted, answer.max_pdu_bytes


def read_reject(body: bytes) -> Rejection:
    """Why the peer rejected. Raises ProtocolError."""
    if len(body) != 4:
        raise ProtocolError("a rejection of the wrong length", AbortReason.INVALID_PARAMETER)
    result, source, reason = body[1:]
    for known in REJECTIONS:
        if (known.source, known.reason) == (source, reason):
            return Rejection(result, source, reason, known.text)
    return Rejection(result, source, reason, f"source {source}, reason {reason}")


def _result(context_id: int, abstract: str, chosen: Context | None, supported: Collection[str]) -> ContextItem:
    if chosen:
        return ContextItem(context_id, "", (chosen.transfer_syntax_uid,), ACCEPTED)
    refused = NO_TRANSFER_SYNTAX if abstract in supported else NO_ABSTRACT_SYNTAX
    return ContextItem(context_id, "", (IMPLICIT_LITTLE,), refused)  # which one means nothing where it is refused


def _pdu(kind: PduType, associate: Associate) -> bytes:
    return pdu(kind, encode(associate, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME))
