"""Which abstract syntaxes and transfer syntaxes an association carries (PS3.8 section 7.1 and 9.3.2 to 9.3.4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext

from radserve.dicom_io.dimse.pdu import AbortReason, ProtocolError
from radserve.dicom_io.parse import IMAGE_STORAGE, TRANSFER_SYNTAXES
from radserve.uids import derive_uid

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
IMPLICIT_LITTLE, EXPLICIT_LITTLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
UNCOMPRESSED = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
IMPLEMENTATION_CLASS_UID = derive_uid("radserve", "implementation class")
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
    pdu: A_ASSOCIATE_RQ = field(repr=False, compare=False)


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
    rq = A_ASSOCIATE_RQ()
    try:
        rq.decode(b"\x01\0" + len(body).to_bytes(4, "big") + body)
        if not rq.protocol_version & 1:
            return VERSION_UNSUPPORTED
        if rq.application_context_name != APPLICATION_CONTEXT:
            return APPLICATION_CONTEXT_UNSUPPORTED
        user = rq.user_information
        contexts = [
            (item.context_id or 0, str(item.abstract_syntax), tuple(str(uid) for uid in item.transfer_syntax))
            for item in rq.presentation_context
        ]
        # 0 and absence: no limit (PS3.8 D.1)
        length = int((user.maximum_length if user else 0) or 0)
        asked = user.role_selection if user else {}
        roles = {str(uid): (bool(role.scu_role), bool(role.scp_role)) for uid, role in asked.items()}
        return Proposal(rq.calling_ae_title.strip(), rq.called_ae_title.strip(), length, contexts, roles, rq)
    except Exception as error:  # pynetdicom has no common base for what it finds wrong
        raise ProtocolError(f"an association request that cannot be read ({type(error).__name__})") from None


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
    answer = A_ASSOCIATE()
    answer.application_context_name = UID(APPLICATION_CONTEXT)
    answer.calling_ae_title = proposal.calling_ae
    answer.called_ae_title = proposal.called_ae
    answer.result, answer.result_source = 0, 1
    answer.presentation_context_definition_results_list = [
        _result(context_id, abstract, syntaxes, chosen.get(context_id), supported)
        for context_id, abstract, syntaxes in proposal.contexts
    ]
    carried = {context.abstract_syntax for context in chosen.values()}
    roles = [
        _role(uid, scu=scu, scp=scp and uid in PEER_AS_SCP)
        for uid, (scu, scp) in proposal.roles.items()
        if uid in carried and (scu or uid in PEER_AS_SCP)
    ]
    answer.user_information = [*_user_information(max_pdu_bytes), *roles]
    return bytes(A_ASSOCIATE_AC(answer).encode())


def reject_bytes(rejection: Rejection) -> bytes:
    """The A-ASSOCIATE-RJ."""
    answer = A_ASSOCIATE()
    answer.result, answer.result_source, answer.diagnostic = rejection.result, rejection.source, rejection.reason
    return bytes(A_ASSOCIATE_RJ(answer).encode())


def request_bytes(calling_ae: str, called_ae: str, proposed: Sequence[Proposed], max_pdu_bytes: int) -> bytes:
    """The A-ASSOCIATE-RQ for at most MAX_CONTEXTS contexts; the ids are 1, 3, 5 ... in their order."""
    request = A_ASSOCIATE()
    request.application_context_name = UID(APPLICATION_CONTEXT)
    request.calling_ae_title, request.called_ae_title = calling_ae, called_ae
    definitions = []
    for index, each in enumerate(proposed):
        context = PresentationContext()
        context.context_id = 2 * index + 1
        context.abstract_syntax = UID(each.abstract_syntax)
        context.transfer_syntax = [UID(uid) for uid in each.transfer_syntax_uids]
        definitions.append(context)
    request.presentation_context_definition_list = definitions
    as_scp = {each.abstract_syntax for each in proposed if each.as_scp}
    roles = [_role(uid, scu=False, scp=True) for uid in sorted(as_scp)]
    request.user_information = [*_user_information(max_pdu_bytes), *roles]
    return bytes(A_ASSOCIATE_RQ(request).encode())


def read_accept(body: bytes, proposed: Sequence[Proposed]) -> tuple[dict[int, Context], int]:
    """The contexts that the peer accepted and the longest PDU it takes (0: any). Raises ProtocolError."""
    ac = A_ASSOCIATE_AC()
    try:
        ac.decode(b"\x02\0" + len(body).to_bytes(4, "big") + body)
        accepted = {}
        for item in ac.presentation_context:
            number = item.context_id or 0
            if item.result == ACCEPTED:
                asked = proposed[(number - 1) // 2]
                accepted[number] = Context(number, asked.abstract_syntax, str(item.transfer_syntax))
        user = ac.user_information
        return accepted, int((user.maximum_length if user else 0) or 0)
    except Exception as error:  # as in read_request
        raise ProtocolError(f"an association answer that cannot be read ({type(error).__name__})") from None


def read_reject(body: bytes) -> Rejection:
    """Why the peer rejected. Raises ProtocolError."""
    if len(body) != 4:
        raise ProtocolError("a rejection of the wrong length", AbortReason.INVALID_PARAMETER)
    result, source, reason = body[1:]
    for known in REJECTIONS:
        if (known.source, known.reason) == (source, reason):
            return Rejection(result, source, reason, known.text)
    return Rejection(result, source, reason, f"source {source}, reason {reason}")


def _result(
    context_id: int, abstract: str, syntaxes: tuple[str, ...], chosen: Context | None, supported: Collection[str]
) -> PresentationContext:
    context = PresentationContext()
    context.context_id = context_id
    context.abstract_syntax = UID(abstract)
    context.transfer_syntax = [UID(chosen.transfer_syntax_uid if chosen else (syntaxes or (IMPLICIT_LITTLE,))[0])]
    refused = NO_TRANSFER_SYNTAX if abstract in supported else NO_ABSTRACT_SYNTAX
    context.result = ACCEPTED if chosen else refused
    return context


def _role(uid: str, *, scu: bool, scp: bool) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = UID(uid)
    role.scu_role, role.scp_role = scu, scp
    return role


def _user_information(max_pdu_bytes: int) -> list[Any]:
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu_bytes
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return [length, implementation, version]
