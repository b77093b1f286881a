"""The least that a durable C-STORE receiver does, as the floor for benchmarks/receive.py: write, fsync, answer.

    python benchmarks/receive_floor.py PORT FOLDER

A thread for each association reads PDUs into one buffer, writes what the data sets hold to a file each, fsyncs it and
answers success. It checks nothing, keeps no index, takes no digest and bounds nothing: not a server.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from radserve.dicom_io.dimse import negotiation
from radserve.dicom_io.dimse.command import Operation, decode_command, encode_command, response_to
from radserve.dicom_io.dimse.pdu import HEADER, PduType, data_header, fragments, pdu
from radserve.dicom_io.dimse.statuses import SUCCESS

PDU_BYTES = 256 << 10


def pdus(connection: socket.socket) -> Iterator[tuple[int, memoryview]]:
    """The PDUs of a connection until it is closed; a body is overwritten by the next one."""
    buffer = memoryview(bytearray(4 * PDU_BYTES))
    start = end = 0
    while True:
        wanted = HEADER.size
        if end - start >= HEADER.size:
            kind, length = HEADER.unpack_from(buffer, start)
            wanted += length
        if end - start >= wanted > HEADER.size:
            yield kind, buffer[start + HEADER.size : start + wanted]
            start += wanted
            continue
        if start + wanted > len(buffer) or start == end:
            buffer[: end - start] = bytes(buffer[start:end])
            start, end = 0, end - start
        received = connection.recv_into(buffer[end:])
        if not received:
            return
        end += received


def serve(connection: socket.socket, folder: Path, numbers: Iterator[int]) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    command, file, request = b"", -1, decode_command(b"")
    for kind, body in pdus(connection):
        if kind == PduType.ASSOCIATE_RQ:
            proposal = negotiation.read_request(bytes(body))
            assert isinstance(proposal, negotiation.Proposal)
            chosen = negotiation.choose(proposal, negotiation.SUPPORTED)
            connection.sendall(negotiation.accept_bytes(proposal, chosen, negotiation.SUPPORTED, PDU_BYTES))
        elif kind == PduType.RELEASE_RQ:
            connection.sendall(pdu(PduType.RELEASE_RP))
        for part in fragments(body) if kind == PduType.DATA else ():
            if not part.is_command:
                os.write(file, part.data)
            else:
                command += bytes(part.data)
            if not part.is_last:
                continue
            if part.is_command:
                request, command = decode_command(command), b""
                if request.operation == Operation.C_STORE:
                    file = os.open(folder / f"{next(numbers)}", os.O_CREAT | os.O_WRONLY)
                    continue
            else:
                os.fsync(file)
                os.close(file)
            answer = encode_command(response_to(request, SUCCESS))
            header = data_header(part.context_id, len(answer), is_command=True, is_last=True)
            connection.sendall(header + answer)


def main() -> None:
    port, folder, numbers = int(sys.argv[1]), Path(sys.argv[2]), itertools.count()
    with socket.create_server(("127.0.0.1", port), backlog=64) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, folder, numbers), daemon=True).start()


if __name__ == "__main__":
    main()
