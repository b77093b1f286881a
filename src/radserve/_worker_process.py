"""The child's side of radserve.workers, and the messages that both sides speak.

It imports little, so that a worker starts fast and the number of threads is set before numpy is loaded.
A message is a pickle (protocol 5) followed by its buffers, so that arrays cross without being copied into the pickle;
large ones by shared memory.
The limits guard against input that exhausts or crashes a decoder. They are no barrier against code that a worker was
made to execute: the parent unpickles what a worker answers.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import itertools
import math
import mmap
import os
import pickle
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

from radserve.errors import RadserveError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
MAX_PARTS = 1 << 20

READY, VALUE, ERROR, MEMORY, INTERNAL = "ready", "value", "error", "memory", "internal"
LARGE_BYTES = 1 << 20
ALIGNMENT = 64
# Of memory that is passed on: neither its size nor its content changes any more.
SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE <linux/fcntl.h>
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


def send(channel: socket.socket, parts: Parts) -> None:
    """Send one message; the socket's timeout holds."""
    channel.sendall(struct.pack(f"!I{len(parts)}Q", len(parts), *(part.nbytes for part in parts)))
    large = [part for part in parts if _is_shared(part.nbytes)]
    for part in parts:
        if not _is_shared(part.nbytes):
            channel.sendall(part)
    if large:
        number = _shared(large)
        try:
            socket.send_fds(channel, [b"\0"], [number])
        finally:
            os.close(number)


def receive(channel: socket.socket, deadline: float | None = None, max_bytes: int | None = None) -> list[Buffer]:
    """Receive the parts of one message until `deadline` (time.monotonic).

    Raises EOFError when the other side is gone, TimeoutError, and ProtocolError for a message above `max_bytes`.
    """
    (count,) = struct.unpack("!I", _exactly(channel, 4, deadline))
    if not 0 < count <= MAX_PARTS:
        raise ProtocolError
    sizes = struct.unpack(f"!{count}Q", _exactly(channel, 8 * count, deadline))
    if max_bytes is not None and sum(sizes) > max_bytes:
        raise ProtocolError
    parts = [memoryview(b"") if _is_shared(size) else _exactly(channel, size, deadline) for size in sizes]
    if any(map(_is_shared, sizes)):
        places = [at for at, size in enumerate(sizes) if _is_shared(size)]
        for at, part in zip(places, _mapped(channel, [sizes[at] for at in places], deadline), strict=True):
            parts[at] = part
    return parts


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


def _is_shared(size: int) -> bool:
    """Whether a part of `size` bytes goes by shared memory: a socket copies it twice, and both sides wait for it."""
    return size >= LARGE_BYTES and hasattr(os, "memfd_create")  # Linux


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _shared(parts: Parts) -> int:
    """The descriptor of memory with the parts one after the other, that nobody can change any more."""
    import fcntl  # not on Windows

    number = os.memfd_create("radserve-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for part in parts:
            rest = part
            while rest:
                rest = rest[os.write(number, rest) :]
            os.lseek(number, _padded(part.nbytes) - part.nbytes, os.SEEK_CUR)
        os.ftruncate(number, sum(_padded(part.nbytes) for part in parts))
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(number)
        raise
    return number


def _mapped(channel: socket.socket, sizes: Sequence[int], deadline: float | None) -> list[memoryview]:
    """Parts of `sizes` from shared memory: private to this process, as long as anything refers to one of them.

    Memory that could still shrink would kill its reader: it is refused (ProtocolError).
    """
    import fcntl  # not on Windows

    _set_timeout(channel, deadline)
    data, numbers, _, _ = socket.recv_fds(channel, 1, 1)
    if not data:
        raise EOFError
    if len(numbers) != 1:
        raise ProtocolError
    try:
        total = sum(map(_padded, sizes))
        if fcntl.fcntl(numbers[0], fcntl.F_GET_SEALS) & SEALS != SEALS or os.fstat(numbers[0]).st_size != total:
            raise ProtocolError
        whole = memoryview(mmap.mmap(numbers[0], total, access=mmap.ACCESS_COPY))
    except OSError:
        raise ProtocolError from None
    finally:
        os.close(numbers[0])
    ends = list(itertools.accumulate(map(_padded, sizes)))
    return [whole[end - _padded(size) :][:size] for size, end in zip(sizes, ends, strict=True)]


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
        while True:
            send(channel, _run(receive(channel), cpu_seconds))


def _prepare(memory_bytes: int | None, preload: Sequence[str]) -> Parts:
    try:
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
