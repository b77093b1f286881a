"""The schemes of destination URLs and who sends to them."""

from __future__ import annotations

from collections.abc import Mapping

from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.server.dicom_senders import Commitment, DicomSender, WebSender
from radserve.server.peers import DIMSE_SCHEMES, WEB_SCHEMES, SitePeers
from radserve.server.plugin_senders import plugin_senders
from radserve.server.senders import FolderSender, SchemeSender
from radserve.server.settings import Settings


def site_senders(settings: Settings, commitments: CommitmentInbox) -> Mapping[str, SchemeSender]:
    """The sender of each scheme, with the site's certificates and secrets; those of plug-ins too."""
    peers = SitePeers(settings)
    dicom = DicomSender(peers, commitments, Commitment(settings.storage_commitment), settings.storage_commitment_s)
    web = WebSender(peers)
    own: Mapping[str, SchemeSender] = {
        "file": FolderSender(),
        **dict.fromkeys(DIMSE_SCHEMES, dicom),
        **dict.fromkeys(WEB_SCHEMES, web),
    }
    return {**plugin_senders(), **own}
