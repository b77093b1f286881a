"""A small DICOMweb archive that tests start and break: STOW-RS, QIDO-RS and WADO-RS over what it holds in memory.

Multipart messages are read and written by the standard library's e-mail package, not by the code under test.
"""

from __future__ import annotations

import email.policy
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from pydicom import Dataset, dcmread

START_SECONDS = 60
JSON = "application/dicom+json"
QIDO_TAGS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "PatientID", "AccessionNumber")


@contextmanager
def served(app: FastAPI, **options: Any) -> Iterator[str]:
    """Serve an app on a free port; the base URL without a path."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + START_SECONDS
    while not server.started:
        assert time.monotonic() < end and thread.is_alive(), "the web server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"{'https' if config.is_ssl else 'http'}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)


@dataclass
class WebArchive:
    """What it holds and what it saw. `refuse` gives the failure reason of an instance, None to take it.

    `answer` gives an answer in the place of the usual one; `withheld`: instances that no retrieval gives.
    """

    held: dict[str, bytes] = field(default_factory=dict)
    stored: list[str] = field(default_factory=list)  # each time
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    refuse: Callable[[str], int | None] = lambda uid: None
    answer: Callable[[Request], Response | None] = lambda request: None
    withheld: set[str] = field(default_factory=set)

    def add(self, *instances: bytes) -> list[str]:
        """Hold instances; their UIDs."""
        added = [(str(header(data).SOPInstanceUID), data) for data in instances]
        self.held.update(added)
        return [uid for uid, _ in added]

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def seen(request: Request, call_next: Any) -> Response:
            self.requests.append((request.method, request.url.path, dict(request.headers)))
            return self.answer(request) or await call_next(request)

        @app.post("/dicom-web/studies")
        async def store(request: Request) -> Response:
            head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
            message = BytesParser(policy=email.policy.HTTP).parsebytes(head + await request.body())
            taken, refused = [], []
            for part in message.iter_parts():
                assert part.get_content_type() == "application/dicom"
                data = part.get_payload(decode=True)
                item = Dataset()
                item.ReferencedSOPClassUID = header(data).SOPClassUID
                item.ReferencedSOPInstanceUID = uid = str(header(data).SOPInstanceUID)
                if (reason := self.refuse(uid)) is None:
                    self.held[uid] = data
                    self.stored.append(uid)
                    taken.append(item)
                else:
                    item.FailureReason = reason
                    refused.append(item)
            response = Dataset()
            response.RetrieveURL = "http://archive.example/studies"
            if taken:
                response.ReferencedSOPSequence = taken
            if refused:
                response.FailedSOPSequence = refused
            status = 200 if not refused else (202 if taken else 409)
            return Response(response.to_json(), status, media_type=JSON)

        @app.get("/dicom-web/studies")
        async def studies(request: Request) -> Response:
            found = {str(one.StudyInstanceUID): one for one in self._found(request)}
            return listed(list(found.values()), request)

        @app.get("/dicom-web/studies/{study}/instances")
        async def instances(study: str, request: Request) -> Response:
            return listed(self._found(request, StudyInstanceUID=study), request)

        @app.get("/dicom-web/studies/{study}/series/{series}/instances")
        async def of_series(study: str, series: str, request: Request) -> Response:
            return listed(self._found(request, StudyInstanceUID=study, SeriesInstanceUID=series), request)

        @app.get("/dicom-web/studies/{study}/series/{series}")
        async def retrieve(study: str, series: str, request: Request) -> Response:
            return self._parts(self._found(request, StudyInstanceUID=study, SeriesInstanceUID=series))

        @app.get("/dicom-web/studies/{study}/series/{series}/instances/{instance}")
        async def retrieve_one(study: str, series: str, instance: str, request: Request) -> Response:
            return self._parts(self._found(request, StudyInstanceUID=study, SOPInstanceUID=instance))

        return app

    def _found(self, request: Request, **keys: str) -> list[Dataset]:
        wanted = {key: value for key, value in request.query_params.items() if key in QIDO_TAGS} | keys
        headers = [header(data) for _, data in sorted(self.held.items())]
        return [one for one in headers if all(str(one.get(key)) == value for key, value in wanted.items())]

    def _parts(self, found: list[Dataset]) -> Response:
        given = [self.held[str(one.SOPInstanceUID)] for one in found if str(one.SOPInstanceUID) not in self.withheld]
        if not given:
            return Response(status_code=404)
        return multipart(given)


def multipart(parts: list[bytes], boundary: str = "a-boundary", end: bytes = b"--\r\n") -> Response:
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(head + each + b"\r\n" for each in parts)
    media_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
    return Response(body + b"--" + boundary.encode() + end, media_type=media_type)


def header(data: bytes) -> Dataset:
    return dcmread(io.BytesIO(data), stop_before_pixels=True)


def listed(found: list[Dataset], request: Request) -> Response:
    """Answer of QIDO-RS: a page of what was found."""
    offset, limit = int(request.query_params.get("offset", 0)), int(request.query_params.get("limit", 100_000))
    rows = []
    for one in found[offset : offset + limit]:
        row = Dataset()
        for keyword in QIDO_TAGS:
            if keyword in one:
                row[keyword] = one[keyword]
        rows.append(row.to_json())
    return Response("[" + ",".join(rows) + "]", media_type=JSON) if rows else Response(status_code=204)
