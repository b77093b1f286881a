"""Ask a DICOMweb service of another system."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from radserve._checks import invalid
from radserve.errors import ErrorCode, PeerError

JSON = "application/dicom+json"
MAX_ANSWER_BYTES = 32 << 20  # of JSON; what has more is asked for in pages
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
LOOPBACK = ("127.0.0.1", "localhost", "::1")

Content = bytes | AsyncIterator[bytes]
Params = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class WebPeer:
    """A service by its base URL (PS3.18 section 8.2) and how it is reached.

    `authorization` is the value of the Authorization header, "" for none; it is never sent in the clear, but to this
    machine. `tls` None means the system's authorities. `connect_seconds`: for the connection with its TLS handshake.
    `response_seconds`: for each piece of an answer, or of what is sent.
    """

    base_url: str
    authorization: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    connect_seconds: float = 10.0
    response_seconds: float = 60.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise invalid("DICOMweb URL", shown(self.base_url), "http(s)://HOST[:PORT]/PATH")
        if parts.username or parts.password:
            raise invalid("DICOMweb URL", shown(self.base_url), "no user and password: they belong to the settings")
        if self.authorization and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise invalid("DICOMweb URL", shown(self.base_url), "https where there is an Authorization header")

    @property
    def name(self) -> str:
        """How messages call it: host and port."""
        return host_and_port(self.base_url)[0]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[WebSession]:
        """A session for some requests, over few connections. Proxies of the environment are not used."""
        headers = {"Authorization": self.authorization} if self.authorization else {}
        async with httpx2.AsyncClient(
            headers=headers,
            verify=self.tls or self.base_url.startswith("https:"),
            timeout=httpx2.Timeout(self.response_seconds, connect=self.connect_seconds),
            follow_redirects=False,
            trust_env=False,
        ) as client:
            yield WebSession(self, client)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its status, its headers (names in lower case) and its content."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)


class WebSession:
    """Requests to one service. All raise PeerError where there is no answer; a status is not an error by itself."""

    def __init__(self, peer: WebPeer, client: httpx2.AsyncClient) -> None:
        self.peer = peer
        self._client = client

    async def request(
        self,
        method: str,
        path: str,
        *,
        accept: str = JSON,
        params: Params = (),
        content: Content = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask and read the whole answer. Raises PeerError SERVER_UNREACHABLE, REQUEST_TOO_LARGE."""
        async with self.stream(method, path, accept=accept, params=params, content=content, headers=headers) as answer:
            parts, size = [], 0
            async for part in answer.aiter_bytes():
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    text = f"the answer of {self.peer.name} has more than {MAX_ANSWER_BYTES} bytes"
                    raise PeerError(ErrorCode.REQUEST_TOO_LARGE, text, is_transient=False)
                parts.append(part)
            return Answer(answer.status_code, dict(answer.headers), b"".join(parts))

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        accept: str,
        params: Params = (),
        content: Content = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        """Ask; the content of the answer is read in the block. What ends the connection comes out as PeerError."""
        url = f"{self.peer.base_url.rstrip('/')}/{path}"
        given = {"Accept": accept, **(headers or {})}
        name = self.peer.name
        try:
            async with self._client.stream(
                method, url, params=list(params) or None, content=content or None, headers=given
            ) as answer:
                if answer.is_redirect:
                    text = f"{name} redirects, which is not followed: state the URL where the service is"
                    raise PeerError(ErrorCode.SERVER_UNREACHABLE, text, is_transient=False)
                yield answer
        except httpx2.TimeoutException:
            raise PeerError(ErrorCode.SERVER_UNREACHABLE, f"{name} did not answer in time") from None
        except (httpx2.HTTPError, ssl.SSLError) as error:
            cause = _cause(error)
            raise PeerError(ErrorCode.SERVER_UNREACHABLE, f"{name} cannot be reached ({cause})") from None

    async def json(self, path: str, params: Params = ()) -> list[dict[str, Any]]:
        """GET a list of data sets in the DICOM JSON Model (PS3.18 annex F); empty for 204. Raises PeerError."""
        answer = await self.request("GET", path, params=params)
        if answer.status == 204:
            return []
        self.check(answer)
        return await asyncio.to_thread(data_sets, answer.content, self.peer.name)

    def check(self, answer: Answer | httpx2.Response, *expected: int) -> None:
        """Raise the PeerError of a status that is not one of `expected` (200 where none is named)."""
        status = answer.status if isinstance(answer, Answer) else answer.status_code
        if status not in (expected or (200,)):
            raise refused(self.peer.name, status)


def host_and_port(url: str) -> tuple[str, str]:
    """HOST:PORT of a URL, without the port where it has none, and HOST; in lower case. Raises ValueError."""
    parts = urlsplit(url)
    host = str(parts.hostname)
    host = f"[{host}]" if ":" in host else host
    return (f"{host}:{parts.port}" if parts.port else host), host


def refused(name: str, status: int) -> PeerError:
    """The error of an HTTP status; its text holds nothing that the service wrote."""
    hint = " (see the web_authorization setting)" if status in (401, 403) else ""
    text = f"{name} answered with the HTTP status {status}{hint}"
    return PeerError(ErrorCode.SERVER_UNREACHABLE, text, is_transient=status in TRANSIENT)


def data_sets(content: bytes, name: str) -> list[dict[str, Any]]:
    """Data sets of DICOM JSON, one or several. Raises PeerError SERVER_UNREACHABLE where it is no such thing."""
    try:
        found = json.loads(content or b"[]")
    except (ValueError, RecursionError):
        raise PeerError(ErrorCode.SERVER_UNREACHABLE, f"the answer of {name} is not JSON") from None
    listed = found if isinstance(found, list) else [found]
    if not all(isinstance(each, dict) for each in listed):
        raise PeerError(ErrorCode.SERVER_UNREACHABLE, f"the answer of {name} is not DICOM JSON")
    return listed


def shown(url: str) -> str:
    """A URL without what stands before an @: it may be a password."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"[:200]


def _cause(error: Exception) -> str:
    """What a connection ended by, without texts that may quote what was sent."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, ssl.SSLError):
            return f"TLS: {inner.reason or type(inner).__name__}"
        inner = inner.__cause__ or inner.__context__
    return type(error).__name__
