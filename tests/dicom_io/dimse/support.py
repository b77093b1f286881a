"""A running storage SCP with its store, and the peers that tests put against it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.association import Association as PynetAssociation

from radserve.dicom_io import durable
from radserve.dicom_io.dimse.access import AccessPolicy, PeerPolicy
from radserve.dicom_io.dimse.command import Operation, Tag, encode_command
from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.dicom_io.dimse.events import Origin, ReceiveEvents, Refusal
from radserve.dicom_io.dimse.negotiation import Proposed, request_bytes
from radserve.dicom_io.dimse.pdu import WireLimits
from radserve.dicom_io.dimse.peer import Peer
from radserve.dicom_io.dimse.store_scp import ScpOptions, StoreScp
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StoredInstance, StoreLimits, StudyStore
from tests.support.dicoms import ct, part10

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
VERIFICATION = "1.2.840.10008.1.1"
IMAGE = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20)
PATIENCE = 120  # seconds that a busy machine may take for what it does at once else
ANYBODY = AccessPolicy("RADSERVE", others=PeerPolicy())


class InlineWorkers:
    """Runs tasks in this process; tests of the real pool are in test_workers."""

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args)


@dataclass
class Seen:
    """What the owner was told."""

    stored: list[tuple[StoredInstance, Origin]] = field(default_factory=list)
    refused: list[tuple[Refusal, Origin]] = field(default_factory=list)
    released: list[tuple[str, str]] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)

    @property
    def events(self) -> ReceiveEvents:
        async def on_stored(stored: StoredInstance, origin: Origin) -> None:
            self.stored.append((stored, origin))

        async def on_refused(refusal: Refusal, origin: Origin) -> None:
            self.refused.append((refusal, origin))

        async def on_released(calling_ae: str, association_id: str) -> None:
            self.released.append((calling_ae, association_id))

        async def on_ended(calling_ae: str, association_id: str) -> None:
            self.ended.append((calling_ae, association_id))

        return ReceiveEvents(on_stored, on_refused, on_released, on_ended)


@dataclass
class Running:
    """A storage SCP that listens on `port`, and the folder of its store."""

    scp: StoreScp
    store: StudyStore
    folder: Path
    seen: Seen

    @property
    def port(self) -> int:
        return self.scp.port

    def peer(self, **options: Any) -> Peer:
        return Peer("127.0.0.1", self.port, "RADSERVE", **options)

    def files(self) -> list[Path]:
        """Everything on disk but the lock and the empty folder for what is being written."""
        return sorted(path for path in self.folder.rglob("*") if path.name not in (durable.ASIDE, durable.LOCK))

    def instances(self) -> list[Path]:
        return [path for path in self.files() if path.suffix == ".dcm"]


async def gone(running: Running) -> None:
    """Wait until no connection is open: what its end has to tell has been told."""
    async with asyncio.timeout(PATIENCE):
        while running.scp.connections:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running_scp(
    folder: Path,
    access: AccessPolicy = ANYBODY,
    *,
    limits: WireLimits | None = None,
    tls: Any = None,
    reserve: DiskReserve | None = None,
    commitments: CommitmentInbox | None = None,
    events: ReceiveEvents | None = None,
    store_limits: StoreLimits | None = None,
    max_waiting: int = 64,
    port: int = 0,
) -> AsyncIterator[Running]:
    store = StudyStore(folder, InlineWorkers(), store_limits)  # type: ignore[arg-type]
    await store.open()
    seen = Seen()
    options = ScpOptions(access, port=port, limits=limits or WireLimits(), tls=tls, max_waiting=max_waiting)
    scp = StoreScp(options, store, events or seen.events, reserve=reserve, commitments=commitments)
    await scp.start()
    try:
        yield Running(scp, store, folder, seen)
    finally:
        await scp.stop(grace_seconds=2)
        await store.close()


def slice_bytes(number: int = 1, syntax: str = EXPLICIT, **attributes: Any) -> bytes:
    """A CT slice as a Part 10 file."""
    return part10(ct(IMAGE + number, instance=str(number), **{"InstanceNumber": number, **attributes}), syntax)


def slice_files(folder: Path, count: int, **attributes: Any) -> list[Path]:
    """`count` CT slices as files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.dcm" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(slice_bytes(number, **attributes))
    return paths


def pynet_associate(
    port: int,
    contexts: Sequence[tuple[str, Sequence[str]]],
    *,
    calling: str = "MODALITY",
    called: str = "RADSERVE",
    **options: Any,
) -> PynetAssociation:
    """An association of pynetdicom's; it blocks. `options` are those of AE.associate."""
    ae = AE(ae_title=calling)
    for abstract, syntaxes in contexts:
        ae.add_requested_context(abstract, list(syntaxes))
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = PATIENCE
    return ae.associate("127.0.0.1", port, ae_title=called, **options)


def dcmtk(tool: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of DCMTK, or skip the test where it is not installed."""
    path = Path("/usr/bin") / tool  # pynetdicom installs scripts of the same names
    if not path.exists():
        pytest.skip(f"DCMTK's {tool} is not installed")
    command = [str(path), *map(str, arguments)]
    given = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, check=False, env=given)


def _own_ports() -> Iterator[int]:
    """Ports below those that the system gives out by itself, each once; those of another test process are others."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    first, count = 10_000 + 2_000 * process, 2_000
    start = os.getpid() * 7
    return (first + (start + number) % count for number in itertools.count())


_PORTS = _own_ports()


def free_port() -> int:
    """A port for a program that has to be told one, and that nobody takes before it has started."""
    for port in _PORTS:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable")


def tool_exists(name: str) -> bool:
    return shutil.which(name, path="/usr/bin:/usr/sbin") is not None


class RawPeer:
    """A socket that speaks DICOM byte by byte, as wrongly as a test wants."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.settimeout(PATIENCE)

    def associate(self, *contexts: tuple[str, str]) -> None:
        proposed = [Proposed(abstract, (syntax,)) for abstract, syntax in contexts]
        self.socket.sendall(request_bytes("RAW", "RADSERVE", proposed, 16384))
        kind, _ = self.read()
        assert kind == 2

    def read(self) -> tuple[int, bytes]:
        """The next PDU; type 0 where the connection was closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxI", head)
        return kind, self._exactly(length)

    def send(self, kind: int, body: bytes) -> None:
        self.socket.sendall(struct.pack(">BxI", kind, len(body)) + body)

    def send_value(self, context_id: int, flags: int, data: bytes) -> None:
        self.send(4, struct.pack(">IBB", len(data) + 2, context_id, flags) + data)

    def close(self) -> None:
        self.socket.close()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                more = self.socket.recv(size - len(data))
            except ConnectionError:
                return data
            if not more:
                return data
            data += more
        return data


UID = str(dcmread(io.BytesIO(slice_bytes(1))).SOPInstanceUID)


def request(uid: str = UID, sop_class: str = CT, operation: int = Operation.C_STORE, data_set: int = 1) -> bytes:
    return encode_command(
        {
            Tag.AFFECTED_SOP_CLASS_UID: sop_class,
            Tag.COMMAND_FIELD: operation,
            Tag.MESSAGE_ID: 9,
            Tag.PRIORITY: 0,
            Tag.DATA_SET_TYPE: data_set,
            Tag.AFFECTED_SOP_INSTANCE_UID: uid,
        }
    )
