"""Slow clients are cut, strangers are kept out, and the log knows nobody's name."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
import trustme

from radserve.dicom_io.store import StudyStore
from radserve.errors import RequestError
from radserve.server.web.limits import WebLimits
from tests.support.dicoms import cr, part10
from tests.support.web import DICOM_TYPE, LiveWeb, live_web, multipart, read_answer

# Short enough to be waited for, and long enough for what a slow machine does in between.
SLOW = WebLimits(head_seconds=2.0, body_seconds=6.0, stall_seconds=2.0, body_bytes_per_second=1 << 30)
GREAT = np.random.default_rng(0).integers(0, 256, (4000, 4000), dtype=np.uint8)


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveWeb]:
    with live_web(tmp_path_factory.mktemp("hasty"), SLOW) as web:
        yield web


def is_well(web: LiveWeb) -> bool:
    """Whether the port answers; a client that this machine let wait too long may ask again."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(httpx2.TransportError):
            return web.http.get(f"{web.listener.url}/health").status_code == 200
    return False


def in_time(attempt: Callable[[], bool]) -> None:
    """Try until the client was not cut for what this machine let it wait: `attempt` says whether it came to the point.

    Deadlines have to be short where a test waits for them; a machine that stands still for as long is no failure.
    """
    end = time.monotonic() + 240
    while time.monotonic() < end:
        with contextlib.suppress(ConnectionError):
            if attempt():
                return
    raise AssertionError("no attempt came to the point")


async def put(store: StudyStore, data: bytes) -> None:
    async with store.receive() as incoming:
        incoming.write(data)
        await incoming.commit()


def connected(web: LiveWeb) -> socket.socket:
    return socket.create_connection((web.listener.host, web.listener.port), timeout=60)


@pytest.mark.parametrize("sent", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: x\r\n"])
def test_a_request_that_never_becomes_whole_is_cut(hasty: LiveWeb, sent: bytes) -> None:
    with connected(hasty) as connection:
        connection.sendall(sent)
        assert read_answer(connection)[0] == 0  # closed without an answer: it would wait for ever otherwise
    assert is_well(hasty)


def test_a_second_request_is_waited_for_no_longer_than_the_first(hasty: LiveWeb) -> None:
    def attempt() -> bool:
        with connected(hasty) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            if read_answer(connection)[0] != 200:
                return False
            connection.sendall(b"GET /hea")
            assert read_answer(connection)[0] == 0
            return True

    in_time(attempt)


def test_a_body_that_does_not_come_is_answered_408_and_leaves_nothing(hasty: LiveWeb) -> None:
    data = part10(cr(np.zeros((8, 8), np.uint8), study="slow"))
    head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {DICOM_TYPE}; boundary=b\r\n"
    head += "Content-Length: 90000\r\n\r\n"

    def attempt() -> bool:
        with connected(hasty) as connection:
            connection.sendall(head.encode() + multipart("b", data)[:-30])
            status, body = read_answer(connection)
        assert status in (0, 408), body
        return status == 408

    in_time(attempt)
    assert data not in [path.read_bytes() for path in hasty.files()]
    assert not list((hasty.data_dir / "studies" / ".incoming").iterdir())


def test_an_answer_that_is_not_read_is_cut(hasty: LiveWeb, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    image = cr(GREAT, study="stalled")
    hasty.wait_for(put(hasty.store, part10(image)))
    path = f"/dicom-web/studies/{image.StudyInstanceUID}"

    def attempt() -> bool:
        with connected(hasty) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            end = time.monotonic() + 60
            while "stood still" not in caplog.text and time.monotonic() < end:
                time.sleep(0.1)
        return "stood still" in caplog.text

    in_time(attempt)


def test_a_client_that_asks_first_is_told_before_it_sends(web: LiveWeb) -> None:
    head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {DICOM_TYPE}; boundary=b\r\n"
    with connected(web) as connection:
        connection.sendall(f"{head}Expect: 100-continue\r\nContent-Length: {1 << 50}\r\n\r\n".encode())
        assert read_answer(connection)[0] == 413
    data = multipart("b", part10(cr(np.zeros((8, 8), np.uint8), study="asked")))
    with connected(web) as connection:
        connection.sendall(f"{head}Expect: 100-continue\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(data)
        assert read_answer(connection)[0] == 200


def test_many_slow_clients_keep_nobody_out(hasty: LiveWeb) -> None:
    waiting = [connected(hasty) for _ in range(40)]
    try:
        assert is_well(hasty)
    finally:
        for each in waiting:
            each.close()


def test_only_who_has_the_token_gets_in(tmp_path: Path) -> None:
    with live_web(tmp_path, http_token="s3cret", http_cors_origins=("https://viewer",)) as web:
        url = f"{web.root}/studies"
        assert web.http.get(url).status_code == 401
        assert web.http.get(url).headers["www-authenticate"] == "Bearer"
        for wrong in ("Bearer s3cre", "Bearer s3cret ", "Basic s3cret", "s3cret", "bearer"):
            assert web.http.get(url, headers={"Authorization": wrong.strip() + "x"}).status_code == 401
        assert web.http.get(url, headers={"Authorization": "Bearer s3cret"}).status_code == 200
        assert web.http.post(url, content=b"x").status_code == 401
        assert web.http.get(f"{web.listener.url}/health").status_code == 200
        asked = {"Origin": "https://viewer", "Access-Control-Request-Method": "GET"}
        allowed = web.http.options(url, headers={**asked, "Access-Control-Request-Headers": "Authorization"})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://viewer")
        assert web.http.options(url, headers={**asked, "Origin": "https://other"}).status_code == 400
        refused = web.http.get(url, headers={"Origin": "https://viewer"})
        assert refused.headers["access-control-allow-origin"] == "https://viewer"  # else a browser cannot see the 401


def test_tls_is_spoken_with_those_whom_the_authority_knows(tmp_path: Path) -> None:
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client")
    server.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    files = {"http_tls_certificate": tmp_path / "server.pem", "http_tls_clients": tmp_path / "ca.pem"}
    with live_web(tmp_path / "data", **files) as web:
        assert web.listener.url.startswith("https://")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with (
            pytest.raises((ssl.SSLError, OSError)),
            connected(web) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            if not connection.recv(100):
                raise OSError("closed")
        client.configure_cert(context)
        with connected(web) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            assert connection.version() in ("TLSv1.2", "TLSv1.3")
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(connection)[0] == 200


def test_a_port_is_not_opened_to_others_without_tls_and_token(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="http_tls_certificate"), live_web(tmp_path, host="0.0.0.0"):
        pass
    with live_web(tmp_path, host="0.0.0.0", http_open=True) as web:
        assert web.http.get(f"http://127.0.0.1:{web.listener.port}/health").status_code == 200


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(RequestError, match=f"127.0.0.1:{port}"), live_web(tmp_path, http_port=port):
            pass


def test_without_a_port_there_is_no_http(tmp_path: Path) -> None:
    with pytest.raises(AssertionError), live_web(tmp_path, http_port=None):
        pass


def test_nothing_of_the_patient_is_logged_or_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = cr(np.zeros((8, 8), np.uint8), study="canary", PatientName="CANARY^Name", PatientID="CANARY-ID")
    broken = part10(image).replace(b"CS\x02\x00CR", b"CS\x02\x00\xff\xff")[:-40]
    with caplog.at_level(logging.DEBUG), live_web(tmp_path) as web:
        told = web.store_instances(part10(image), broken, b"CANARY" * 100).text
        path = f"/studies/{image.StudyInstanceUID}"
        for query in ("PatientName=CANARY*", "StudyDate=CANARY", "CANARY=1", "PatientID=CANARY%FF", "limit=CANARY"):
            answer = web.raw(f"GET /dicom-web/studies?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            told += answer[1].decode() if answer[0] != 200 else ""
        told += web.raw(b"GET /dicom-web/CANARY/studies/CANARY HTTP/1.1\r\nHost: x\r\n\r\n")[1].decode()
        told += web.raw(b"CANARY /CANARY HTTP/1.1\r\nHost: x\r\n\r\n")[1].decode()
        assert web.raw(f"GET /dicom-web{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())[0] == 200
    ours = "".join(
        record.getMessage() for record in caplog.records if not record.name.startswith(("httpx2", "httpcore2"))
    )
    assert "HTTP: GET /studies: 400" in ours
    assert "CANARY" not in ours + told
