"""An imitation of the Hugging Face hub: what huggingface_hub asks for to fetch a repository, over folders on disk."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(repositories: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve `repositories`/OWNER/NAME at one commit; gives the endpoint and the list of what was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            asked.append(f"{self.command} {path}")
            parts = path.split("/")
            if parts[:2] == ["api", "models"]:
                self._api(repositories.joinpath(*parts[2:4]), parts[4:])
            elif len(parts) > 4 and parts[2:4] == ["resolve", COMMIT]:
                self._file(repositories.joinpath(*parts[:2], *parts[4:]))
            else:
                self._missing("RepoNotFound")

        def do_HEAD(self) -> None:
            self.do_GET()

        def _api(self, folder: Path, rest: list[str]) -> None:
            if not folder.is_dir():
                return self._missing("RepoNotFound")
            if rest[0] == "revision" and rest[1] not in ("main", COMMIT):
                return self._missing("RevisionNotFound")
            files = [each for each in sorted(folder.rglob("*")) if each.is_file()]
            names = {each.relative_to(folder).as_posix(): each for each in files}
            tree = [{"type": "file", "path": name, "size": each.stat().st_size, "oid": _etag(each)}
                    for name, each in names.items()]  # fmt: skip
            info = {
                "id": "/".join(folder.parts[-2:]),
                "sha": COMMIT,
                "siblings": [{"rfilename": each} for each in names],
            }
            return self._answer(json.dumps(info if rest[0] == "revision" else tree).encode(), "application/json", "api")

        def _file(self, path: Path) -> None:
            if not path.is_file():
                return self._missing("EntryNotFound")
            return self._answer(path.read_bytes(), "application/octet-stream", _etag(path))

        def _answer(self, body: bytes, kind: str, etag: str, status: int = 200) -> None:
            self.send_response(status)
            for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("ETag", f'"{etag}"'),
                                ("X-Repo-Commit", COMMIT)):  # fmt: skip
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def _missing(self, code: str) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
