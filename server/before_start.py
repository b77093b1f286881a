"""What is looked at before anything is started: a start takes half a minute, and would end at the last step."""

from __future__ import annotations

import socket

from radserve.errors import ErrorCode, RequestError
from radserve.server.dimse import scp_options
from radserve.server.settings import Settings
from radserve.server.web.listener import server_tls


def check_ports(settings: Settings) -> None:
    """Look whether the ports can be opened, with their certificates.

    Raises RadserveError INVALID_ARGUMENT for a certificate that cannot be used, a port that is taken, or one that would
    be open to others.
    """
    if settings.dimse_port is not None:
        scp_options(settings)
        check_free("DIMSE", settings.host, settings.dimse_port)
    if settings.http_port is not None:
        server_tls(settings)
        check_free("HTTP", settings.host, settings.http_port)
    check_free("gRPC", settings.host, settings.port)


def check_free(what: str, host: str, port: int) -> None:
    """Raise RequestError INVALID_ARGUMENT where nobody could listen on a port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        except OSError as error:
            text = f"{what}: cannot listen on {host}:{port}: {error.strerror or type(error).__name__}"
            raise RequestError(ErrorCode.INVALID_ARGUMENT, text) from None
