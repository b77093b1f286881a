"""Other systems by URL, with the site's certificates and secrets: what the settings say of them."""

from __future__ import annotations

import ssl
from functools import cached_property
from urllib.parse import unquote, urlsplit

from radserve._checks import invalid
from radserve.dicom_io.dimse.peer import Peer
from radserve.dicom_io.dimse.tls import TlsFiles, client_context
from radserve.dicom_io.web_peer.peer import WebPeer, host_and_port, shown
from radserve.errors import ErrorCode, RequestError
from radserve.server.settings import Settings

DIMSE_SCHEMES = ("dicom", "dicoms")
WEB_SCHEMES = ("dicomweb+http", "dicomweb+https")
DIMSE_FORM = "dicom://AE_TITLE@HOST:PORT, or dicoms:// for TLS"
WEB_FORM = "dicomweb+https://HOST[:PORT]/PATH"


class SitePeers:
    """Makes peers of URLs. Raises RadserveError INVALID_ARGUMENT for URLs and files that cannot be used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def dimse(self, url: str) -> Peer:
        """The application entity of dicom://AE_TITLE@HOST:PORT, or dicoms://."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise invalid("DICOM URL", shown(url), DIMSE_FORM) from None
        if parts.scheme not in DIMSE_SCHEMES or not (parts.username and parts.hostname and port):
            raise invalid("DICOM URL", url, DIMSE_FORM)
        tls = self._dimse_tls if parts.scheme == "dicoms" else None
        return Peer(parts.hostname, port, unquote(parts.username), self._settings.ae_title, tls)

    def web(self, url: str) -> WebPeer:
        """The service of dicomweb+https://HOST[:PORT]/PATH, or dicomweb+http://; the prefix may be left out."""
        base = url.removeprefix("dicomweb+")
        try:
            names = host_and_port(base)
        except ValueError:
            raise invalid("DICOMweb URL", shown(url), WEB_FORM) from None
        secrets = {host.lower(): secret for host, secret in self._settings.web_authorization.items()}
        secret = next((secrets[name] for name in names if name in secrets), None)
        tls = self._web_tls if urlsplit(base).scheme == "https" else None
        return WebPeer(base, secret.get_secret_value() if secret else "", tls)

    @cached_property
    def _dimse_tls(self) -> ssl.SSLContext:
        settings = self._settings
        files = TlsFiles(settings.dimse_tls_certificate, settings.dimse_tls_key, settings.dimse_tls_ca)
        return client_context(files)

    @cached_property
    def _web_tls(self) -> ssl.SSLContext:
        file = self._settings.web_ca
        try:
            return ssl.create_default_context(cafile=str(file) if file else None)
        except OSError as error:
            text = f"web_ca: the authorities cannot be read ({type(error).__name__})"
            raise RequestError(ErrorCode.INVALID_ARGUMENT, text) from None
