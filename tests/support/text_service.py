"""A text service on this machine that speaks the chat protocol, well or badly, and keeps what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DONE = b"data: [DONE]\n\n"


def event(content: str | None, ended_by: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {} if content is None else {"content": content}, "finish_reason": ended_by}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


def streamed(text: str, ended_by: str = "stop") -> tuple[bytes, ...]:
    """What vLLM sends: the role, a chunk for each word, why it ended, the usage, the end."""
    role = b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": null}}]}\r\n\r\n'
    usage = b': keep-alive\n\ndata: {"choices": [], "usage": {"total_tokens": 9}}\n\n'
    words = [event(word) for word in text.split(" ")[:1]] + [event(f" {word}") for word in text.split(" ")[1:]]
    return (role, *words, event(None, ended_by), usage, DONE)


def whole(text: str, ended_by: str = "stop") -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": ended_by}]}).encode()


@dataclass
class Answer:
    """`hang`: after what was sent nothing comes, until the client goes."""

    parts: Sequence[bytes] = ()
    status: int = 200
    media_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False


@dataclass
class TextService:
    url: str
    answer: Answer
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    """The client closed the connection while the service hung."""


@contextmanager
def text_service(answer: Answer) -> Iterator[TextService]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            service.requests.append((self.path, dict(self.headers), body))
            service.asked.set()
            given = service.answer
            try:
                self.send_response(given.status)
                for name, value in {"Content-Type": given.media_type, **given.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                for part in given.parts:
                    self.wfile.write(part)
                    self.wfile.flush()
                if given.hang and not self.connection.recv(1):
                    service.left.set()
            except ConnectionError:
                service.left.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service = TextService(f"http://127.0.0.1:{server.server_port}/v1", answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
