"""DICOM TLS by the BCP 195 profiles (PS3.15 annex B.9 to B.11; RFC 9325): TLS 1.2 or later, forward secrecy, AEAD."""

from __future__ import annotations

import hashlib
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from radserve.errors import ErrorCode, RadserveError

logger = logging.getLogger(__name__)

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"  # those of TLS 1.3 are all of this kind


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. `trusted`: the certificate authorities of the peers.

    For a server, `trusted` asks every client for a certificate (mutual TLS); None takes clients without. A client may
    leave out `certificate` and `key` where the server asks for none; `trusted` None means the system's authorities.
    """

    certificate: Path | None = None
    key: Path | None = None
    trusted: Path | None = None
    check_host_name: bool = True


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """The context of a listener. Raises RadserveError INVALID_ARGUMENT."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if files.certificate is None:
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, "TLS: a listener needs a certificate")
    _prepare(context, files)
    if files.trusted:
        context.verify_mode = ssl.CERT_REQUIRED
    context.sslobject_class = _Connection
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """The context of a client. Raises RadserveError INVALID_ARGUMENT."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = files.check_host_name
    _prepare(context, files)
    if not files.trusted:
        context.load_default_certs()
    return context


def certificate_sha256(certificate: bytes | None) -> str:
    """The fingerprint (hex) of a certificate in DER, as in PeerPolicy.certificates; empty for None."""
    return hashlib.sha256(certificate).hexdigest() if certificate else ""


class _Connection(ssl.SSLObject):
    """A connection whose handshake says in the log why it failed: asyncio drops such a connection without a word."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLCertVerificationError as error:
            logger.warning("a TLS handshake failed: the client's certificate: %s", error.verify_message)
            raise
        except ssl.SSLError as error:
            logger.warning("a TLS handshake failed: %s", error.reason)
            raise


def _prepare(context: ssl.SSLContext, files: TlsFiles) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    for path in (files.certificate, files.key, files.trusted):
        if path:
            _check_readable(path)
    try:
        if files.certificate:
            # The password keeps OpenSSL from asking for one at the terminal: a key under a password cannot be used.
            context.load_cert_chain(files.certificate, files.key, password="")
    except ssl.SSLError as error:
        named = f"{files.certificate} and {files.key}" if files.key else f"{files.certificate}"
        raise _unusable(named, f"no certificate with its key, without a password ({_reason(error)})") from None
    try:
        if files.trusted:
            context.load_verify_locations(files.trusted)
    except ssl.SSLError as error:
        raise _unusable(f"{files.trusted}", f"no certificates ({_reason(error)})") from None


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise _unusable(f"{path}", error.strerror or type(error).__name__) from None


def _unusable(what: str, cause: str) -> RadserveError:
    return RadserveError(ErrorCode.INVALID_ARGUMENT, f"TLS: {what} cannot be used: {cause}")


def _reason(error: ssl.SSLError) -> str:
    return error.reason or "not PEM"
