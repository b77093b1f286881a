"""The child's side of radserve.workers, and the messages that both sides speak.

It imports little, so that a worker starts fast and the number of threads is set before numpy is loaded.
A message is a pickle (protocol 5) followed by its buffers, so that arrays cross without being copied into the pickle;
large ones by shared memory. Arrays that the parent made in shared memory are lent to the worker, which writes to them.
The limits guard against input that exhausts or crashes a decoder. They are no barrier against code that a worker was
made to execute: the parent unpickles what a worker answers.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
import os
import pickle
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from radserve import _shared_memory as shared
from radserve.errors import RadserveError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
MAX_PARTS = 1 << 20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
KEPT_BYTES, LARGEST_KEPT_BYTES = 128 * 2**20, 32 * 2**20  # the second is the most that glibc takes

READY, VALUE, ERROR, MEMORY, INTERNAL = "ready", "value", "error", "memory", "internal"
LARGE_BYTES = 1 << 20
PART = struct.Struct("!Qq?")  # of each part: its size, where it lies in shared memory or -1, whether it is writable
Buffer = bytearray | memoryview
Parts = list[memoryview]


class ProtocolError(Exception):
    """The other side sent something that is not a message."""


def encode(value: object) -> Parts:
    """Pickle `value`; the first part is the pickle, the others are its buffers."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return [memoryview(head), *(buffer.raw() for buffer in buffers)]


def decode(parts: Sequence[Buffer]) -> Any:
    """The value of the parts of a message, over the parts' own memory."""
    return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - see the module's docstring


def send(channel: socket.socket, parts: Parts, *, share: bool = False) -> None:
    """Send one message; the socket's timeout holds. With `share`, parts in a SharedMemory are given, not copied."""
    places = [shared.within(part) if share else None for part in parts]
    heads = [
        PART.pack(part.nbytes, -1 if place is None else place[1], not part.readonly)
        for part, place in zip(parts, places, strict=True)
    ]
    channel.sendall(struct.pack("!I", len(parts)) + b"".join(heads))
    copied = [part for part, place in zip(parts, places, strict=True) if place is None]
    for part in copied:
        if not _is_large(part.nbytes):
            channel.sendall(part)
    if large := [part for part in copied if _is_large(part.nbytes)]:
        number = shared.sealed_copy(large)
        try:
            socket.send_fds(channel, [b"\0"], [number])
        finally:
            os.close(number)
    for place in places:
        if place is not None:
            socket.send_fds(channel, [b"\0"], [place[0].number])


def receive(
    channel: socket.socket,
    deadline: float | None = None,
    max_bytes: int | None = None,
    *,
    borrowed: shared.Borrowed | None = None,
) -> list[Buffer]:
    """Receive the parts of one message until `deadline` (time.monotonic).

    Raises EOFError when the other side is gone, TimeoutError, and ProtocolError for a message above `max_bytes`, and
    for memory that could shrink, or (without `borrowed`) still change.
    """
    (count,) = struct.unpack("!I", _exactly(channel, 4, deadline))
    if not 0 < count <= MAX_PARTS:
        raise ProtocolError
    heads = list(PART.iter_unpack(_exactly(channel, PART.size * count, deadline)))
    if max_bytes is not None and sum(size for size, _, _ in heads) > max_bytes:
        raise ProtocolError
    if borrowed is None and any(offset >= 0 for _, offset, _ in heads):
        raise ProtocolError
    parts: list[Buffer] = [
        _exactly(channel, 0 if offset >= 0 or _is_large(size) else size, deadline) for size, offset, _ in heads
    ]
    copied = [at for at, (size, offset, _) in enumerate(heads) if offset < 0 and _is_large(size)]
    if copied:
        with _descriptor(channel, deadline) as number:
            found = shared.mapped_copy(number, [heads[at][0] for at in copied])
        for at, part in zip(copied, found, strict=True):
            parts[at] = part
    for at, (size, offset, writable) in enumerate(heads):
        if borrowed is not None and offset >= 0:
            with _descriptor(channel, deadline) as number:
                parts[at] = borrowed.part(number, offset, size, writable=writable)
    return parts


@contextlib.contextmanager
def _descriptor(channel: socket.socket, deadline: float | None) -> Iterator[int]:
    """The next descriptor that comes, while it is looked at."""
    _set_timeout(channel, deadline)
    data, numbers, _, _ = socket.recv_fds(channel, 1, 1)
    if not data:
        raise EOFError
    if len(numbers) != 1:
        raise ProtocolError
    try:
        yield numbers[0]
    except (OSError, shared.UnsafeError):
        raise ProtocolError from None
    finally:
        os.close(numbers[0])


def _exactly(channel: socket.socket, size: int, deadline: float | None) -> Buffer:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        _set_timeout(channel, deadline)
        count = channel.recv_into(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return data


def _is_large(size: int) -> bool:
    """Whether a part of `size` bytes goes by shared memory: a socket copies it twice, and both sides wait for it."""
    return size >= LARGE_BYTES and shared.AVAILABLE


def _set_timeout(channel: socket.socket, deadline: float | None) -> None:
    if deadline is not None:
        channel.settimeout(max(deadline - time.monotonic(), 1e-3))


def serve(descriptor: int, parent_pid: int) -> None:
    """Run tasks from the socket `descriptor` until the parent closes it. The whole life of a worker."""
    _die_with(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    os.set_inheritable(descriptor, False)
    channel = socket.socket(fileno=descriptor)
    with contextlib.suppress(EOFError, ConnectionError):
        memory_bytes, cpu_seconds, preload = decode(receive(channel))
        send(channel, _prepare(memory_bytes, preload))
        borrowed = shared.Borrowed()
        while True:
            send(channel, _run(receive(channel, borrowed=borrowed), cpu_seconds))


def _prepare(memory_bytes: int | None, preload: Sequence[str]) -> Parts:
    try:
        keep_freed_memory()
        for name in preload:
            importlib.import_module(name)
        _set_limit("RLIMIT_CORE", 0)
        if memory_bytes is not None:
            _set_limit("RLIMIT_AS", memory_bytes)
    except BaseException as error:
        return encode((INTERNAL, type(error).__name__))
    return encode((READY, None))


def _run(parts: Sequence[Buffer], cpu_seconds: float | None) -> Parts:
    """Run one task and encode its answer. Of an unexpected error only the type is told: texts may hold patient data."""
    try:
        if cpu_seconds is not None:
            times = os.times()
            _set_limit("RLIMIT_CPU", math.ceil(times.user + times.system + cpu_seconds))
        function, args = decode(parts)
        return encode((VALUE, function(*args)))
    except RadserveError as error:
        return encode((ERROR, error))
    except MemoryError:
        return encode((MEMORY, None))
    except BaseException as error:  # a panic of a Rust extension is no Exception
        return encode((INTERNAL, type(error).__name__))


def keep_freed_memory() -> None:
    """Ask glibc to keep what is freed, up to KEPT_BYTES: the next image needs as much again.

    Else each decoder's memory goes back to the system and comes again page by page, which was 10 to 20 % of a decode.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)


def _set_limit(name: str, value: int) -> None:
    import resource  # not on Windows

    limit = getattr(resource, name)
    _, hard = resource.getrlimit(limit)
    soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (soft, hard))


def _die_with(parent_pid: int) -> None:
    """Ask the kernel to kill this process with its parent: a busy worker does not see the closed socket."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)
