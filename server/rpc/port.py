"""The gRPC port: where it listens, with which certificate, and whom it lets in; and the same for those who call it."""

from __future__ import annotations

from pathlib import Path

import grpc

from radserve._checks import invalid
from radserve.dicom_io.dimse.tls import TlsFiles, client_context, server_context
from radserve.errors import ErrorCode, RequestError
from radserve.server.rpc.request_limit import RequestLimit
from radserve.server.settings import Settings

SPARE_REQUESTS = 64  # above those that are worked on: how the server is can be asked, and the others be told to wait


def grpc_server(settings: Settings) -> grpc.aio.Server:
    """A server within the bounds of the settings, without services and without a port."""
    options = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a silent sharing
    ]
    most = settings.max_concurrent_requests
    return grpc.aio.server(
        options=options, interceptors=[RequestLimit(most)], maximum_concurrent_rpcs=most + SPARE_REQUESTS
    )


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """The port's certificate and whom it trusts; None where it speaks plaintext.

    Raises RadserveError INVALID_ARGUMENT for files that cannot be used, and for a port that would be open to others.
    """
    certificate, clients = settings.grpc_tls_certificate, settings.grpc_tls_clients
    if certificate is None and (settings.grpc_tls_key or clients):
        raise invalid("grpc_tls_certificate", None, "the certificate of grpc_tls_key and grpc_tls_clients")
    if not (settings.loopback or (certificate and clients) or settings.grpc_open):
        text = (
            f"gRPC: outside the loopback address (host {settings.host!r}) a certificate (grpc_tls_certificate) and the "
            "authorities of client certificates (grpc_tls_clients) are needed, or grpc_open where a proxy has both"
        )
        raise RequestError(ErrorCode.INVALID_ARGUMENT, text)
    if certificate is None:
        return None
    # gRPC takes whatever it is given, and fails at the first handshake: the files are tried here.
    server_context(TlsFiles(certificate, settings.grpc_tls_key, clients))
    key = settings.grpc_tls_key or certificate
    pair = (key.read_bytes(), certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], _read(clients), require_client_auth=clients is not None)


def channel_credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    """How commands prove themselves to the server that they ask; None where it is asked in plaintext.

    Raises RadserveError INVALID_ARGUMENT for files that cannot be used.
    """
    ca, certificate = settings.server_tls_ca, settings.server_tls_certificate
    if ca is None:
        if certificate or settings.server_tls_key:
            raise invalid("server_tls_ca", None, "the authorities of the server that gets server_tls_certificate")
        return None
    if certificate is None and settings.server_tls_key:
        raise invalid("server_tls_certificate", None, "the certificate of server_tls_key")
    client_context(TlsFiles(certificate, settings.server_tls_key, ca))
    return grpc.ssl_channel_credentials(_read(ca), _read(settings.server_tls_key or certificate), _read(certificate))


def bind(server: grpc.aio.Server, settings: Settings, credentials: grpc.ServerCredentials | None) -> str:
    """Open the port; return HOST:PORT. Raises RequestError INVALID_ARGUMENT where it is taken."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    wanted = f"{host}:{settings.port}"
    try:
        port = server.add_secure_port(wanted, credentials) if credentials else server.add_insecure_port(wanted)
    except RuntimeError:
        text = f"cannot listen on {wanted}: is the port taken, and the address one of this machine?"
        raise RequestError(ErrorCode.INVALID_ARGUMENT, text) from None
    return f"{host}:{port}"


def _read(path: Path | None) -> bytes | None:
    return path.read_bytes() if path else None
