"""The gate: AE titles, certificates, places and quotas."""

from __future__ import annotations

import pytest

from radserve.dicom_io.dimse.access import AccessPolicy, Gate, PeerPolicy, RejectedError
from radserve.dicom_io.dimse.negotiation import CALLED_AE_UNKNOWN, CALLING_AE_UNKNOWN, LIMIT_EXCEEDED, Rejection
from radserve.errors import ErrorCode, RadserveError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def rejection(gate: Gate, calling: str = "CT1", called: str = "RADSERVE", certificate: str = "") -> Rejection:
    with pytest.raises(RejectedError) as caught:
        gate.admit(calling, called, certificate)
    return caught.value.rejection


def test_another_called_ae_title_is_rejected_for_good() -> None:
    found = rejection(Gate(AccessPolicy("RADSERVE", {"CT1": PeerPolicy()})), called="OTHER")
    assert found == CALLED_AE_UNKNOWN and not found.is_transient


def test_a_calling_ae_title_that_is_not_listed_is_rejected_unless_others_may() -> None:
    assert rejection(Gate(AccessPolicy("RADSERVE", {"CT1": PeerPolicy()})), "CT2") == CALLING_AE_UNKNOWN
    Gate(AccessPolicy("RADSERVE", others=PeerPolicy())).admit("CT2", "RADSERVE", "").leave()


def test_a_certificate_speaks_only_for_its_ae_title() -> None:
    gate = Gate(AccessPolicy("RADSERVE", {"CT1": PeerPolicy(certificates=frozenset({"aa"})), "CT2": PeerPolicy()}))
    assert rejection(gate, "CT1") == CALLING_AE_UNKNOWN
    assert rejection(gate, "CT1", certificate="bb") == CALLING_AE_UNKNOWN
    gate.admit("CT1", "RADSERVE", "aa").leave()
    gate.admit("CT2", "RADSERVE", "bb").leave()


def test_associations_beyond_the_limit_are_rejected_until_one_ends() -> None:
    gate = Gate(AccessPolicy("RADSERVE", {"CT1": PeerPolicy(associations=2), "CT2": PeerPolicy()}))
    seats = [gate.admit("CT1", "RADSERVE", "") for _ in range(2)]
    found = rejection(gate)
    assert found == LIMIT_EXCEEDED and found.is_transient
    gate.admit("CT2", "RADSERVE", "")
    seats[0].leave()
    gate.admit("CT1", "RADSERVE", "")


def test_all_ae_titles_together_have_a_limit() -> None:
    gate = Gate(AccessPolicy("RADSERVE", {"CT1": PeerPolicy(), "CT2": PeerPolicy()}, associations=1))
    seat = gate.admit("CT2", "RADSERVE", "")
    assert rejection(gate) == LIMIT_EXCEEDED
    seat.leave()
    gate.admit("CT1", "RADSERVE", "")


def test_ae_titles_that_are_made_up_share_one_quota() -> None:
    gate = Gate(AccessPolicy("RADSERVE", others=PeerPolicy(associations=1)))
    gate.admit("A", "RADSERVE", "")
    assert rejection(gate, "B") == LIMIT_EXCEEDED


@pytest.mark.parametrize("policy", [PeerPolicy(instances_per_minute=6), PeerPolicy(bytes_per_minute=600)])
def test_the_quota_of_a_minute_fills_again_evenly(policy: PeerPolicy) -> None:
    clock = Clock()
    gate = Gate(AccessPolicy("RADSERVE", {"CT1": policy}), clock)
    seat = gate.admit("CT1", "RADSERVE", "")
    for _ in range(6):
        assert seat.may_store
        seat.charge(1, 100)
    assert not seat.may_store
    assert rejection(gate) == LIMIT_EXCEEDED
    clock.now += 10
    assert seat.may_store
    seat.charge(1, 100)
    assert not seat.may_store
    clock.now += 3600
    for _ in range(6):  # an hour of silence is not saved up
        assert seat.may_store
        seat.charge(1, 100)
    assert not seat.may_store


@pytest.mark.parametrize("title", ["", "X" * 17, " A", "A\\B", "Ä", "A\n"])
def test_what_is_no_ae_title_is_refused(title: str) -> None:
    with pytest.raises(RadserveError, match="AE title") as caught:
        AccessPolicy(title)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(RadserveError, match="associations: got 0"):
        PeerPolicy(associations=0)
    with pytest.raises(RadserveError, match="associations: got 0"):
        AccessPolicy("A", associations=0)
