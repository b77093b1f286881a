"""Commands, P-DATA and negotiation, byte by byte against pynetdicom's own reading and writing of them."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, P_DATA_TF

from radserve.dicom_io.dimse import negotiation
from radserve.dicom_io.dimse.command import Command, Operation, Tag, decode_command, encode_command, response_to
from radserve.dicom_io.dimse.negotiation import Context, Proposal, Proposed, Rejection
from radserve.dicom_io.dimse.pdu import ProtocolError, data_header, fragments
from tests.dicom_io.dimse.support import CT, EXPLICIT, IMPLICIT

JPEG_LS = "1.2.840.10008.1.2.4.80"


def store_request() -> C_STORE:
    primitive = C_STORE()
    primitive.MessageID, primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = 7, CT, "1.2.3"
    primitive.Priority, primitive.DataSet = 2, io.BytesIO(b"12")
    return primitive


def test_a_command_of_pynetdicom_is_read() -> None:
    message = C_STORE_RQ()
    message.primitive_to_message(store_request())
    command = decode_command(encode(message.command_set, True, True) or b"")
    assert (command.operation, command.number(Tag.MESSAGE_ID), command.has_data_set) == (Operation.C_STORE, 7, True)
    assert command.text(Tag.AFFECTED_SOP_CLASS_UID) == CT
    assert command.text(Tag.AFFECTED_SOP_INSTANCE_UID) == "1.2.3"


def test_our_response_is_read_by_pynetdicom() -> None:
    message = C_STORE_RQ()
    message.primitive_to_message(store_request())
    request = decode_command(encode(message.command_set, True, True) or b"")
    data = encode_command(response_to(request, 0xA700, "the store is full" + "x" * 80))
    response = C_STORE_RSP()
    response.command_set = decode(io.BytesIO(data), True, True)
    assert response.command_set.Status == 0xA700
    assert response.command_set.CommandField == 0x8001
    assert response.command_set.MessageIDBeingRespondedTo == 7
    assert response.command_set.AffectedSOPInstanceUID == "1.2.3"
    assert len(response.command_set.ErrorComment) == 64
    assert response.command_set.CommandGroupLength == len(data) - 12


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\1",  # no whole element
        b"\0\0\0\1\xff\0\0\0\1\0",  # longer than the command
        b"\x08\0\x16\0\2\0\0\0\1\0",  # of another group
    ],
)
def test_a_malformed_command_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_command(data)


def test_a_command_without_its_field_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="COMMAND_FIELD"):
        _ = Command({}).operation
    with pytest.raises(ProtocolError, match="MESSAGE_ID"):
        Command({Tag.MESSAGE_ID: b"\1"}).number(Tag.MESSAGE_ID)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_command_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(decode_command(data), Command)


VALUES = st.tuples(st.sampled_from([1, 3, 255]), st.booleans(), st.booleans(), st.binary(max_size=50))


@given(st.lists(VALUES, min_size=1))
def test_values_are_cut_out_of_p_data_as_pynetdicom_packs_them(values: list[tuple[int, bool, bool, bytes]]) -> None:
    body = b"".join(
        data_header(number, len(data), is_command=command, is_last=last)[6:] + data
        for number, command, last, data in values
    )
    found = [(each.context_id, each.is_command, each.is_last, bytes(each.data)) for each in fragments(body)]
    assert found == values
    theirs = P_DATA_TF()
    theirs.decode(b"\4\0" + len(body).to_bytes(4, "big") + body)
    items = [(item.context_id, item.data) for item in theirs.presentation_data_value_items]
    assert items == [(number, bytes([command | last << 1]) + data) for number, command, last, data in values]


@pytest.mark.parametrize("body", [b"\0\0\0", b"\0\0\0\1\1\0", b"\0\0\0\x09\1\0aa"])
def test_a_value_that_does_not_fit_its_pdu_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(fragments(body))


def proposal(*contexts: tuple[int, str, tuple[str, ...]]) -> Proposal:
    data = negotiation.request_bytes("ME", "YOU", [Proposed(uid, syntaxes) for _, uid, syntaxes in contexts], 16384)
    found = negotiation.read_request(data[6:])
    assert isinstance(found, Proposal)
    return found


def test_our_request_is_read_by_pynetdicom_and_by_us() -> None:
    asked = [Proposed(CT, (JPEG_LS, EXPLICIT)), Proposed(negotiation.VERIFICATION, (IMPLICIT,), as_scp=True)]
    data = negotiation.request_bytes("ME", "YOU", asked, 65536)
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(data)
    assert [(c.context_id, c.abstract_syntax, c.transfer_syntax) for c in theirs.presentation_context] == [
        (1, CT, [JPEG_LS, EXPLICIT]),
        (3, negotiation.VERIFICATION, [IMPLICIT]),
    ]
    ours = negotiation.read_request(data[6:])
    assert isinstance(ours, Proposal)
    assert (ours.calling_ae, ours.called_ae, ours.max_pdu_bytes) == ("ME", "YOU", 65536)
    assert ours.contexts == [(1, CT, (JPEG_LS, EXPLICIT)), (3, negotiation.VERIFICATION, (IMPLICIT,))]
    assert ours.roles == {negotiation.VERIFICATION: (False, True)}


def test_the_first_syntax_in_the_order_of_the_sender_is_taken() -> None:
    asked = proposal((1, CT, (JPEG_LS, EXPLICIT)), (3, CT, (EXPLICIT, JPEG_LS)), (5, CT, ("1.2.3", IMPLICIT)))
    chosen = negotiation.choose(asked, negotiation.SUPPORTED)
    assert [chosen[number].transfer_syntax_uid for number in (1, 3, 5)] == [JPEG_LS, EXPLICIT, IMPLICIT]


def test_what_is_not_supported_is_refused_with_its_reason() -> None:
    asked = proposal((1, CT, ("1.2.3",)), (3, "1.2.4", (EXPLICIT,)), (5, CT, (EXPLICIT,)))
    chosen = negotiation.choose(asked, negotiation.SUPPORTED)
    data = negotiation.accept_bytes(asked, chosen, negotiation.SUPPORTED, 131072)
    theirs = A_ASSOCIATE_AC()
    theirs.decode(data)
    assert [context.result for context in theirs.presentation_context] == [4, 3, 0]
    assert theirs.user_information is not None and theirs.user_information.maximum_length == 131072
    proposed = [Proposed(uid, syntaxes) for _, uid, syntaxes in asked.contexts]
    assert negotiation.read_accept(data[6:], proposed) == ({5: Context(5, CT, EXPLICIT)}, 131072)


def test_the_peer_may_be_scp_of_storage_commitment_alone() -> None:
    asked = [
        Proposed(negotiation.STORAGE_COMMITMENT, (IMPLICIT,), as_scp=True),
        Proposed(CT, (IMPLICIT,), as_scp=True),
    ]
    found = negotiation.read_request(negotiation.request_bytes("ME", "YOU", asked, 0)[6:])
    assert isinstance(found, Proposal)
    chosen = negotiation.choose(found, negotiation.SUPPORTED)
    theirs = A_ASSOCIATE_AC()
    theirs.decode(negotiation.accept_bytes(found, chosen, negotiation.SUPPORTED, 131072))
    assert theirs.user_information is not None
    roles = {str(uid): bool(role.scp_role) for uid, role in theirs.user_information.role_selection.items()}
    assert roles == {negotiation.STORAGE_COMMITMENT: True}


@pytest.mark.parametrize("rejection", negotiation.REJECTIONS, ids=lambda each: each.text)
def test_a_rejection_is_read_by_pynetdicom_and_by_us(rejection: Rejection) -> None:
    data = negotiation.reject_bytes(rejection)
    theirs = A_ASSOCIATE_RJ()
    theirs.decode(data)
    assert (theirs.result, theirs.source, theirs.reason_diagnostic) == (
        rejection.result,
        rejection.source,
        rejection.reason,
    )
    assert negotiation.read_reject(data[6:]) == rejection


@given(st.binary(max_size=400))
def test_any_bytes_are_a_request_or_a_protocol_error(body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(negotiation.read_request(body), Proposal | Rejection)


def test_every_image_class_of_the_parser_is_supported() -> None:
    assert negotiation.SUPPORTED.keys() >= negotiation.IMAGE_STORAGE
    assert all(negotiation.SUPPORTED[uid] == negotiation.TRANSFER_SYNTAXES for uid in negotiation.IMAGE_STORAGE)
