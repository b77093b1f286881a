"""Senders of other packages deliver to the URLs of their scheme; a broken one fails its deliveries and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.errors import ErrorCode, PeerError, RadserveError
from radserve.results import Artifact
from radserve.server.destinations import site_senders
from radserve.server.doctor import plugin_checks
from radserve.server.senders import Destinations
from radserve.server.settings import Settings
from tests.support.plugin_site import install

ARTIFACT = Artifact("sr.dcm", "application/dicom", b"result")
SENDER = '''
from pathlib import Path
from radserve.errors import ErrorCode, RadserveError

class Sender:
    """outbox:/FOLDER: each object as a file of its name."""
    def check(self, url):
        if "?" in url:
            raise RadserveError(ErrorCode.INVALID_ARGUMENT, "outbox: no query")
        if "boom" in url:
            raise KeyError(url)

    async def send(self, url, artifacts, begin):
        for index, artifact in enumerate(artifacts):
            if await begin(index):
                if "boom" in url:
                    raise KeyError(url)
                Path(url.removeprefix("outbox:"), artifact.name).write_bytes(artifact.data)
                yield index, None

    async def has(self, url, artifact):
        return Path(url.removeprefix("outbox:"), artifact.name).exists()
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def destinations(url: str) -> Destinations:
    return Destinations({"there": url}, site_senders(Settings(), CommitmentInbox()))


async def deliver(to: Destinations) -> list[tuple[int, RadserveError | None]]:
    async def begin(index: int) -> bool:
        return True

    return [outcome async for outcome in to.send("there", [ARTIFACT], begin)]


async def test_a_scheme_of_another_package_is_delivered_to(site: Path, tmp_path: Path) -> None:
    install(site, "outbox", SENDER, senders="outbox = outbox_plugin:Sender")
    to = destinations(f"outbox:{tmp_path}")
    assert not await to.has("there", ARTIFACT)
    assert await deliver(to) == [(0, None)]
    assert (tmp_path / "sr.dcm").read_bytes() == b"result"
    assert await to.has("there", ARTIFACT)
    with pytest.raises(RadserveError, match="outbox: no query"):
        destinations("outbox:/there?query")


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import no_such_package_there\n", "cannot be used: ModuleNotFoundError"),
        (SENDER, "failed: KeyError"),
    ],
)
async def test_a_broken_sender_starts_the_server_and_fails_what_it_is_to_send(
    site: Path, code: str, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    install(site, "broken", code, senders="broken = broken_plugin:Sender")
    to = destinations("broken:/boom")
    assert f"plug-in 'broken' of broken 1.0 {cause}" in caplog.text
    with pytest.raises(PeerError, match=f"plug-in 'broken' of broken 1.0 {cause}") as failure:
        await deliver(to)
    assert failure.value.code is ErrorCode.PLUGIN_FAILED
    assert failure.value.is_transient


async def test_no_package_takes_the_place_of_a_sender_of_ours(site: Path, tmp_path: Path) -> None:
    install(site, "greedy", SENDER, senders="file = greedy_plugin:Sender")
    assert await deliver(destinations(f"file://{tmp_path}/files")) == [(0, None)]
    assert [each.read_bytes() for each in (tmp_path / "files").glob("*.dcm")] == [b"result"]


def test_doctor_lists_every_plug_in_and_what_is_wrong_with_it(site: Path) -> None:
    absent = {check.name: check.ok for check in plugin_checks(Settings())}
    assert absent["plug-ins radserve.senders"] is None
    install(site, "outbox", SENDER, senders="outbox = outbox_plugin:Sender", importers="odd = outbox_plugin:Reader")
    checks = {check.name: check for check in plugin_checks(Settings())}
    assert checks["plug-in radserve.senders outbox"].ok
    assert checks["plug-in radserve.senders outbox"].found == "outbox 1.0"
    odd = checks["plug-in radserve.importers odd"]
    assert odd.ok is False
    assert "has no attribute 'Reader'" in odd.found
