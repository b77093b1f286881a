"""A server for one command: it keeps nothing and answers nobody else."""

from __future__ import annotations

from contextlib import AsyncExitStack

from radserve.owned_folder import owned_folder
from radserve.server.console import stdout
from radserve.server.infer import InferOutcome, InferRequest, infer
from radserve.server.settings import Settings

# An embedded server answers one command: it keeps no records elsewhere and starts no work by itself.
ALONE = {
    "workflow": False,
    "dimse_port": None,
    "http_port": None,
    "index_url": "",
    "work_url": "",
    "grpc_tls_certificate": None,
    "grpc_tls_key": None,
    "grpc_tls_clients": None,
}


async def infer_with(request: InferRequest, server: str, settings: Settings) -> InferOutcome:
    """Run a request on the server at `server` (HOST:PORT), or on one that lives as long as the request."""
    from radserve.server.app import running
    from radserve.server.client import RadserveClient
    from radserve.server.rpc.port import channel_credentials

    console = stdout()
    if server:
        async with RadserveClient(server, channel_credentials(settings)) as client:
            return await infer(request, client, console)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(owned_folder("infer"))
        embedded = settings.model_copy(update={"host": "127.0.0.1", "port": 0, "data_dir": folder, **ALONE})
        if request.pack:
            embedded = embedded.model_copy(update={"default_pack": request.pack})  # which may be NAME@VERSION
        with console.status("Starting the embedded server"):
            started = await stack.enter_async_context(running(embedded))
        client = await stack.enter_async_context(RadserveClient(started.address))
        return await infer(request, client, console)
