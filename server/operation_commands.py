"""radserve models status | load | unload | promote | rollback | shadow | deprecate | audit: a server's packs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.table import Table

from radserve.errors import ErrorCode, RadserveError
from radserve.models.pack_signature import RECORD_SUFFIX
from radserve.server.console import settings_of, stdout

if TYPE_CHECKING:  # grpc takes a moment that other commands need not wait
    from radserve.server.client import ModelClient
    from radserve.v1 import model_pb2

T = TypeVar("T")
Server = Annotated[
    str | None, typer.Option(help="HOST:PORT of the running server (RADSERVE_SERVER, or here at the usual port).")
]
Version = Annotated[str, typer.Argument(metavar="NAME@VERSION", help="A version of a pack.")]
HERE = "127.0.0.1:8500"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (status, load, unload, promote, rollback, shadow, deprecate, audit):
        app.command(command.__name__)(command)


def status(server: Server = None) -> None:
    """List every version of every pack, what it does, and what shadows said."""
    models = _call(server, lambda client: client.models())
    table = Table("pack", "version", "state", "ready", "requests", "digest", "remarks")
    for model in models:
        pack = model.pack
        remarks = [f"deprecated: {model.deprecated}"] if model.deprecated else []
        remarks += _shadow_lines(model)
        ready = "yes" if model.ready else "no"
        state = _state(model)
        table.add_row(pack.name, pack.version, state, ready, str(model.requests), pack.digest[:12], "\n".join(remarks))
    stdout().print(table)


def load(version: Version, server: Server = None) -> None:
    """Load a version: requests that name it are answered."""
    _tell(_call(server, lambda client: client.load(version)))


def unload(version: Version, server: Server = None) -> None:
    """Unload a version; returns when its last request has ended."""
    _tell(_call(server, lambda client: client.unload(version)))


def promote(
    version: Version,
    record: Annotated[Path, typer.Option(help="Record that `radserve evaluate gate` wrote of this pack.")],
    server: Server = None,
    override_by: Annotated[
        list[str] | None, typer.Option(help="A person who answers for a failed gate; two are needed.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why the failed gate is overridden.")] = "",
) -> None:
    """Make a version the one that answers. Its evaluation record must have passed; RECORD.sig beside it goes along."""
    content, bundle = _read(record), record.with_name(record.name + RECORD_SUFFIX)
    signature = _read(bundle) if bundle.exists() else b""
    persons = tuple(override_by or ())
    _tell(_call(server, lambda client: client.promote(version, content, persons, reason, signature)))


def rollback(
    name: Annotated[str, typer.Argument(help="The name of a pack.")],
    server: Server = None,
) -> None:
    """Let the version answer again that was promoted before."""
    _tell(_call(server, lambda client: client.roll_back(name)))


def shadow(
    version: Version, server: Server = None, off: Annotated[bool, typer.Option("--off", help="End it.")] = False
) -> None:
    """Let a version see the studies that the active one answers; what it says is kept, not delivered."""
    _tell(_call(server, lambda client: client.shadow(version, on=not off)))


def deprecate(
    version: Version,
    reason: Annotated[str, typer.Option(help="Stands in the warning of its results; empty takes the mark away.")],
    server: Server = None,
) -> None:
    """Mark a version as deprecated: its results carry a warning."""
    _tell(_call(server, lambda client: client.deprecate(version, reason)))


def audit(data_dir: Annotated[Path | None, typer.Option(help="The server's data folder.")] = None) -> None:
    """Show who decided what, and check that the log was not altered."""
    from radserve.server.operation.audit import verify
    from radserve.server.serving import AUDIT_FILE

    entries = verify(settings_of(data_dir=data_dir).data_dir / AUDIT_FILE)
    for entry in entries:
        override = entry.get("override")
        persons = f", overridden by {' and '.join(override['persons'])}: {override['reason']}" if override else ""
        signer = f", record signed with the key {entry['signed_by'][:12]}" if entry.get("signed_by") else ""
        version = f"{entry['pack']}@{entry['version']} ({entry['digest'][:12]})"
        line = f"{entry['time']} {entry['action']} {version}{persons}{signer}"
        stdout().out(line)
    stdout().out(f"{len(entries)} entries, each follows the one before")


def _call(server: str | None, call: Callable[[ModelClient], Awaitable[T]]) -> T:
    async def run() -> T:
        from radserve.server.client import ModelClient
        from radserve.server.rpc.port import channel_credentials

        settings = settings_of()
        async with ModelClient(server or settings.server or HERE, channel_credentials(settings)) as client:
            return await call(client)

    return asyncio.run(run())


def _tell(model: model_pb2.Model) -> None:
    stdout().out(f"{model.pack.name}@{model.pack.version} ({model.pack.digest[:12]}) is {_state(model)}")


def _state(model: model_pb2.Model) -> str:
    from radserve.v1 import model_pb2

    return model_pb2.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower()


def _shadow_lines(model: model_pb2.Model) -> list[str]:
    if not model.HasField("shadow"):
        return []
    shadow = model.shadow
    seen = f"as shadow: {shadow.studies} studies, {shadow.failures} failed, {shadow.missed} missed"
    labels = [
        f"{each.label}: {each.agreeing} of {each.compared} decisions agree, probability {each.mean_difference:+.4f} "
        f"on average, at most {each.largest_absolute_difference:.4f}"
        for each in shadow.labels
    ]
    return [seen, *labels]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"cannot read {path.name}: {error.strerror or error}"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message) from None
