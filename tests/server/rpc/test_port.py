"""The gRPC port with and without TLS, against gRPC's own client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from radserve.errors import ErrorCode, RadserveError
from radserve.server.app import health_before_the_watch
from radserve.server.client import ModelClient
from radserve.server.rpc.port import bind, channel_credentials, server_credentials
from radserve.server.settings import Settings

SECONDS = 60


class Site:
    """PEM files of an authority, a server, a client of that authority, and a stranger with one of their own."""

    def __init__(self, folder: Path) -> None:
        authority, strangers = trustme.CA(), trustme.CA()
        self.ca, self.strangers = folder / "ca.pem", folder / "strangers.pem"
        authority.cert_pem.write_to_path(self.ca)
        strangers.cert_pem.write_to_path(self.strangers)
        self.server = self._written(folder / "server", authority.issue_cert("127.0.0.1", "localhost"))
        self.client = self._written(folder / "client", authority.issue_cert("reading-room"))
        self.stranger = self._written(folder / "stranger", strangers.issue_cert("reading-room"))

    @staticmethod
    def _written(stem: Path, issued: trustme.LeafCert) -> tuple[Path, Path]:
        certificate, key = stem.with_suffix(".pem"), stem.with_suffix(".key")
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    @property
    def tls(self) -> dict[str, Any]:
        certificate, key = self.server
        return {"grpc_tls_certificate": certificate, "grpc_tls_key": key}

    @property
    def mutual_tls(self) -> dict[str, Any]:
        return {**self.tls, "grpc_tls_clients": self.ca}

    def caller(self, pair: tuple[Path, Path] | None, ca: Path | None = None) -> grpc.ChannelCredentials:
        """What gRPC's own client is given: nothing of radserve."""
        certificate, key = (path.read_bytes() for path in pair) if pair else (None, None)
        return grpc.ssl_channel_credentials((ca or self.ca).read_bytes(), key, certificate)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def serving(**given: Any) -> AsyncIterator[str]:
    """A server with the health service on a port as the settings make it; its HOST:PORT."""
    settings = Settings(port=0, **given)
    credentials = server_credentials(settings)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(await health_before_the_watch(), server)
    address = bind(server, settings, credentials)
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)


async def answers(address: str, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether a call comes to an answer, rather than to nothing for want of a connection."""
    channel = grpc.aio.secure_channel(address, credentials) if credentials else grpc.aio.insecure_channel(address)
    async with channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            return False
    return True


async def test_with_a_certificate_the_port_speaks_tls_alone(site: Site) -> None:
    async with serving(**site.tls) as address:
        assert await answers(address, site.caller(None))
        assert not await answers(address, site.caller(None, ca=site.strangers))
        assert not await answers(address, None)


async def test_the_key_may_stand_in_the_certificates_file(site: Site, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(path.read_bytes() for path in site.server))
    async with serving(grpc_tls_certificate=both) as address:
        assert await answers(address, site.caller(None))


@pytest.mark.parametrize(("who", "comes_in"), [("client", True), ("stranger", False), (None, False)])
async def test_with_authorities_of_clients_only_theirs_come_in(site: Site, who: str | None, comes_in: bool) -> None:
    async with serving(**site.mutual_tls) as address:
        assert await answers(address, site.caller(getattr(site, who) if who else None)) is comes_in


async def test_commands_show_the_certificate_of_the_settings(site: Site) -> None:
    certificate, key = site.client
    asking = Settings(server_tls_ca=site.ca, server_tls_certificate=certificate, server_tls_key=key)
    async with serving(**site.mutual_tls) as address, ModelClient(address, channel_credentials(asking)) as client:
        with pytest.raises(RadserveError, match="UNIMPLEMENTED"):  # connected: this server has the health service alone
            await client.models()
    assert channel_credentials(Settings()) is None


@pytest.mark.parametrize(
    ("given", "opens"),
    [
        (lambda site: {}, False),
        (lambda site: site.tls, False),
        (lambda site: site.mutual_tls, True),
        (lambda site: {"grpc_open": True}, True),
    ],
    ids=["plaintext", "TLS for everybody", "mutual TLS", "open on purpose"],
)
async def test_a_port_is_not_opened_to_others_by_oversight(
    site: Site, given: Callable[[Site], dict[str, Any]], opens: bool
) -> None:
    settings = Settings(host="0.0.0.0", **given(site))
    if opens:
        server_credentials(settings)
        return
    with pytest.raises(RadserveError, match=r"grpc_tls_clients.*grpc_open") as caught:
        server_credentials(settings)
    assert "'0.0.0.0'" in caught.value.client_message


@pytest.mark.parametrize(
    ("read", "given", "named"),
    [
        (server_credentials, {"grpc_tls_key": Path("key.pem")}, "grpc_tls_certificate"),
        (server_credentials, {"grpc_tls_clients": Path("ca.pem")}, "grpc_tls_certificate"),
        (server_credentials, {"grpc_tls_certificate": Path("absent.pem")}, "absent.pem.*No such file"),
        (channel_credentials, {"server_tls_certificate": Path("client.pem")}, "server_tls_ca"),
        (channel_credentials, {"server_tls_ca": Path("absent.pem")}, "absent.pem.*No such file"),
    ],
)
def test_files_that_cannot_be_are_named(read: Callable[[Settings], object], given: dict[str, Path], named: str) -> None:
    with pytest.raises(RadserveError, match=named) as caught:
        read(Settings(**given))  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_certificate_with_the_key_of_another_is_refused_at_the_start(site: Site) -> None:
    given = {"grpc_tls_certificate": site.server[0], "grpc_tls_key": site.client[1]}
    with pytest.raises(RadserveError, match=r"server.pem and .*client.key.*KEY_VALUES_MISMATCH"):
        server_credentials(Settings(**given))  # type: ignore[arg-type]


async def test_the_port_listens_on_an_address_of_ip_version_6() -> None:
    async with serving(host="::1") as address:
        assert address.startswith("[::1]:")
        assert await answers(address, None)
