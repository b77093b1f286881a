"""The port of the web server: what its connections are like."""

from __future__ import annotations

import asyncio
import socket

from radserve.server.web.listener import _listening


async def test_answers_of_several_writes_do_not_wait_for_acknowledgements() -> None:
    seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        seen.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listening = _listening("127.0.0.1", 0)
    async with await asyncio.start_server(accept, sock=listening):
        _, writer = await asyncio.open_connection(*listening.getsockname())
        assert await asyncio.wait_for(seen, 60) == 1
        writer.close()
