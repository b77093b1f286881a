"""Peers that mean harm: a C-ECHO is still answered, and memory stays bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import psutil
import pytest

from radserve.dicom_io.dimse.peer import Peer, echo
from tests.dicom_io.dimse.scp_process import scp_process
from tests.dicom_io.dimse.support import CT, EXPLICIT, RawPeer, free_port

MEGABYTE = 1 << 20
MOST_GROWTH = 40 * MEGABYTE


class Service:
    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self._process = psutil.Process(pid)

    @property
    def rss(self) -> int:
        return int(self._process.memory_info().rss)

    def answers(self) -> bool:
        asyncio.run(echo(Peer("127.0.0.1", self.port, "RADSERVE", response_seconds=60)))  # it raises, if not
        return True


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    port = free_port()
    with scp_process(port, tmp_path_factory.mktemp("store"), pdu_seconds=5) as process:
        yield Service(port, process.pid)


def flood(connection: socket.socket, most: int) -> int:
    """Send zeros until the service cuts the connection; return how many bytes went."""
    sent, block = 0, bytes(MEGABYTE)
    with contextlib.suppress(OSError):
        while sent < most:
            sent += connection.send(block)
    return sent


@pytest.mark.parametrize("kind", [1, 4])
def test_a_pdu_without_a_bound_is_cut_before_any_association(service: Service, kind: int) -> None:
    before = service.rss
    with socket.create_connection(("127.0.0.1", service.port), 60) as connection:
        connection.sendall(struct.pack(">BxI", kind, 0xFFFFFFFF))
        assert flood(connection, 600 * MEGABYTE) < 30 * MEGABYTE
    assert service.rss - before < MOST_GROWTH
    assert service.answers()


def test_a_pdu_without_a_bound_is_cut_within_an_association(service: Service) -> None:
    before = service.rss
    peer = RawPeer(service.port)
    peer.associate((CT, EXPLICIT))
    peer.socket.sendall(struct.pack(">BxI", 4, 0xFFFFFFFF))
    assert flood(peer.socket, 600 * MEGABYTE) < 30 * MEGABYTE
    peer.close()
    assert service.rss - before < MOST_GROWTH
    assert service.answers()


def test_a_data_set_without_an_end_is_not_kept_in_memory(service: Service) -> None:
    from tests.dicom_io.dimse.support import UID, request

    before = service.rss
    peer = RawPeer(service.port)
    peer.associate((CT, EXPLICIT))
    peer.send_value(1, 3, request(UID))
    for _ in range(400):
        peer.send_value(1, 0, bytes(250_000))  # 100 MB in all
    assert service.rss - before < MOST_GROWTH
    peer.close()
    assert service.answers()


def test_ten_dribblers_neither_shut_out_an_echo_nor_outlive_their_deadline(service: Service) -> None:
    before = service.rss
    dribblers = [socket.create_connection(("127.0.0.1", service.port), 60) for _ in range(5)]
    for each in dribblers:
        each.sendall(struct.pack(">BxI", 1, 100_000))
    late = [RawPeer(service.port) for _ in range(5)]
    for peer in late:
        peer.associate((CT, EXPLICIT))
        peer.socket.sendall(struct.pack(">BxI", 4, 100_000))
    alive = [*dribblers, *(peer.socket for peer in late)]
    end = time.monotonic() + 240  # 400 bytes at this pace: the PDUs would take hours
    while alive and time.monotonic() < end:
        for each in list(alive):
            try:
                each.sendall(b"\0")
            except OSError:
                alive.remove(each)
        assert service.answers()
        time.sleep(0.3)
    assert not alive
    assert service.rss - before < MOST_GROWTH


def test_hundreds_of_silent_connections_do_not_shut_out_an_echo(service: Service) -> None:
    before = service.rss
    silent = [socket.create_connection(("127.0.0.1", service.port), 60) for _ in range(300)]
    assert service.answers()
    assert service.rss - before < MOST_GROWTH
    for each in silent:
        each.close()
