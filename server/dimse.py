"""The listener for C-ECHO, C-STORE and reports of storage commitment."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from radserve._checks import invalid
from radserve.dicom_io.dimse.access import AccessPolicy, PeerPolicy
from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.dicom_io.dimse.store_scp import ScpOptions, StoreScp
from radserve.dicom_io.dimse.tls import TlsFiles, server_context
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StudyStore
from radserve.ports import WorkLedger
from radserve.server.completion import AssociationSignals
from radserve.server.settings import MEBIBYTE, Settings

SHA256 = re.compile(r"(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}")  # with or without the colons of openssl


@asynccontextmanager
async def dimse_listener(
    settings: Settings, store: StudyStore, ledger: WorkLedger, commitments: CommitmentInbox | None = None
) -> AsyncIterator[StoreScp | None]:
    """Take instances by C-STORE into `store`, and reports of storage commitment into `commitments`, while the block
    runs, where the settings name a port. `ledger` is told which studies are complete by the end of an association.

    Raises RadserveError INVALID_ARGUMENT for an AE title that cannot be, a certificate that cannot be used, or a port
    that is taken.
    """
    if settings.dimse_port is None:
        yield None
        return
    options = scp_options(settings)
    reserve = DiskReserve(settings.data_dir, settings.disk_reserve_mib * MEBIBYTE)
    signals = AssociationSignals(ledger, settings.complete_on_release)
    scp = StoreScp(options, store, signals.events, reserve=reserve, commitments=commitments)
    await scp.start()
    try:
        yield scp
    finally:
        await scp.stop()


def scp_options(settings: Settings) -> ScpOptions:
    """How the listener is to be. Raises RadserveError INVALID_ARGUMENT, as access_policy and for a certificate."""
    files = listener_certificates(settings)
    tls = server_context(files) if files else None
    return ScpOptions(access_policy(settings), settings.host, settings.dimse_port or 0, tls=tls)


def listener_certificates(settings: Settings) -> TlsFiles | None:
    """The listener's certificate and whom it trusts, None where it uses no TLS. Raises INVALID_ARGUMENT."""
    certificate, key = settings.dimse_tls_certificate, settings.dimse_tls_key
    if certificate is None and key:
        raise invalid("dimse_tls_certificate", None, "the certificate of dimse_tls_key")
    return TlsFiles(certificate, key, settings.dimse_tls_ca) if certificate else None


def access_policy(settings: Settings) -> AccessPolicy:
    """Who may send, and how much. An AE title that has a certificate is listed by that.

    Raises RadserveError INVALID_ARGUMENT for an AE title that cannot be, and for certificates that nobody asks for.
    """
    policy = PeerPolicy(settings.dimse_associations, settings.dimse_instances_per_minute)
    bound = settings.dimse_peer_certificates
    if bound and not (settings.dimse_tls_certificate and settings.dimse_tls_ca):
        raise invalid("dimse_tls_ca", None, "TLS and the authorities of the certificates in dimse_peer_certificates")
    peers = dict.fromkeys(settings.dimse_peers, policy)
    for title, sha256 in bound.items():
        if not SHA256.fullmatch(sha256):
            raise invalid(f"dimse_peer_certificates, {title}", sha256[:80], "SHA-256 as 64 hexadecimal digits")
        peers[title] = replace(policy, certificates=frozenset({sha256.replace(":", "").lower()}))
    return AccessPolicy(settings.ae_title, peers, others=None if settings.dimse_peers else policy)
