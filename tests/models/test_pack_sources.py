"""Packs from folders, archives and addresses: kept whole, or refused by name with nothing left behind."""

from __future__ import annotations

import functools
import http.server
import io
import lzma
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from radserve.errors import ErrorCode, PackError
from radserve.models.catalogue import PackCatalogue
from radserve.models.pack import load_pack
from radserve.models.pack_sources import SourceLimits, add_pack
from tests.support.other_packs import make_classifier_pack


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return make_classifier_pack(tmp_path / "source" / "halves")


@pytest.fixture
def archive(pack: Path) -> Path:
    path = pack.parent / "served" / "halves.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        tar.add(pack, "halves")
    return path


@pytest.fixture
def address(archive: Path) -> Iterator[str]:
    """A local HTTP server over the folder of the archive."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(archive.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def refusal(source: object, store: Path, **options: object) -> PackError:
    with pytest.raises(PackError) as caught:
        add_pack(str(source), store, **options)  # type: ignore[arg-type]
    assert [path for path in store.iterdir() if not path.name.startswith("halves-")] == []
    return caught.value


def test_a_folder_an_archive_and_an_address_give_the_same_pack(
    pack: Path, archive: Path, address: str, tmp_path: Path
) -> None:
    digest = load_pack(pack).digest
    for number, source in enumerate((pack, archive, f"{address}/halves.tar.gz")):
        store = tmp_path / f"store{number}"
        found = add_pack(str(source), store, digest=f"sha256:{digest}")
        assert (found.digest, found.folder) == (digest, store / "halves-1.0.0")
        assert PackCatalogue([store], built_in=False).get("halves").digest == digest
        assert [path.name for path in store.iterdir()] == ["halves-1.0.0"]


def test_a_pack_comes_from_an_s3_store(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="packs")
        client.upload_file(str(archive), "packs", "site/halves.tar.gz")
        options = {"endpoint_url": endpoint}
        found = add_pack("s3://packs/site/halves.tar.gz", tmp_path / "store", options=options)
        assert found.name == "halves"
        error = refusal("s3://packs/site/other.tar", tmp_path / "store", options=options)
    finally:
        server.stop()
    assert error.code is ErrorCode.PACK_SOURCE and "s3://packs/site/other.tar" in error.client_message


def test_an_address_may_carry_a_query(address: str, tmp_path: Path) -> None:
    found = add_pack(f"{address}/halves.tar.gz?X-Amz-Signature=0123", tmp_path / "store")
    assert found.name == "halves"


def test_the_same_pack_again_changes_nothing_and_another_of_its_version_is_refused(pack: Path, tmp_path: Path) -> None:
    first = add_pack(str(pack), tmp_path / "store")
    assert add_pack(str(pack), tmp_path / "store").digest == first.digest
    text = (pack / "pack.toml").read_text()
    (pack / "pack.toml").write_text(text.replace("threshold = 0.5", "threshold = 0.4"))
    assert "is there already with digest" in refusal(pack, tmp_path / "store").client_message
    assert load_pack(tmp_path / "store" / "halves-1.0.0").digest == first.digest


def test_another_digest_than_the_pinned_one_is_refused(archive: Path, tmp_path: Path) -> None:
    error = refusal(archive, tmp_path / "store", digest="0" * 64)
    assert error.code is ErrorCode.PACK_HASH_MISMATCH
    assert "'halves': asked for digest 000000000000, the source has" in error.client_message


def test_an_address_that_does_not_answer_is_named_without_its_secrets(address: str, tmp_path: Path) -> None:
    error = refusal(f"{address.replace('//', '//me:secret@')}/absent.tar?token=secret", tmp_path / "store")
    assert error.code is ErrorCode.PACK_SOURCE
    assert "absent.tar" in error.client_message and "(HTTP status 404)" in error.client_message
    assert "secret" not in error.client_message + error.detail
    options = {"endpoint_url": "http://127.0.0.1:1", "key": "AKIA", "secret": "secret"}
    error = refusal("s3://packs/a.tar?versionId=secret", tmp_path / "store", options=options)
    assert "s3://packs/a.tar" in error.client_message and "secret" not in error.client_message + error.detail
    assert "source 'ftp' is not one of" in refusal("ftp://host/pack.tar", tmp_path / "store").client_message


def test_two_that_add_the_same_pack_at_once_both_get_it(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        shutil.copytree(pack, target)  # the other was a moment earlier
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert add_pack(str(pack), tmp_path / "store").folder == tmp_path / "store" / "halves-1.0.0"


def test_a_folder_that_cannot_be_copied_is_refused(pack: Path, tmp_path: Path) -> None:
    assert "holds the folder that packs are kept in" in refusal(pack, pack / "store").client_message
    (pack / "store").rmdir()
    limits = SourceLimits(max_files=2)
    assert "has 3 files, more than the 2 allowed" in refusal(pack, tmp_path / "store", limits=limits).client_message
    os.mkfifo(pack / "pipe")
    error = refusal(pack, tmp_path / "store")
    assert error.code is ErrorCode.PACK_SOURCE and "pipe" in error.detail


def test_a_store_that_cannot_be_written_to_is_named(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(PackError, match="no pack can be kept in the folder 'store': File exists"):
        add_pack(str(pack), tmp_path / "store")


def member(name: str, data: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (member("../outside.txt"), "'../outside.txt', which leads out of it"),
        (member("/etc/outside.txt"), "'/etc/outside.txt', which leads out of it"),
        (member("a\\..\\..\\outside.txt"), "which leads out of it"),
        (member("link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "'link', which is neither a plain file"),
        (member("hard", b"", type=tarfile.LNKTYPE, linkname="pack.toml"), "'hard', which is neither a plain file"),
        (member("device", b"", type=tarfile.CHRTYPE), "'device', which is neither a plain file"),
        (member("pack.toml"), "'pack.toml' twice"),
        (member("zeros.bin", bytes(3 << 20)), "holds files of more than 2097152 bytes"),
        (member("a", pax_headers={"path": "a\0b"}), r"'a\x00b', which is no name"),
        (member("a", pax_headers={"comment": "x" * (1 << 20)}), "has a header of 1049088 bytes, more than"),
    ],
    ids=["up", "absolute", "backslash", "symlink", "hard link", "device", "twice", "oversized", "zero", "header"],
)
def test_an_archive_that_is_not_safe_is_refused_naming_the_member(
    pack: Path, tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes], cause: str
) -> None:
    path = tmp_path / "bad.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for each in sorted(pack.iterdir()):
            tar.add(each, each.name)
        tar.addfile(bad[0], io.BytesIO(bad[1]))
    error = refusal(path, tmp_path / "store", limits=SourceLimits(max_bytes=2 << 20))
    assert error.code is ErrorCode.ARCHIVE_UNSAFE
    assert cause in error.client_message
    assert not (tmp_path / "outside.txt").exists()


def test_what_is_no_archive_or_holds_no_pack_is_refused(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "text.tar").write_text("hello")
    assert refusal(tmp_path / "text.tar", tmp_path / "store").code is ErrorCode.PACK_SOURCE
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 11
    (tmp_path / "headers.tar").write_bytes((header.tobuf() + b"11 path=ab\n".ljust(512, b"\0")) * 2000)
    assert refusal(tmp_path / "headers.tar", tmp_path / "store").code is ErrorCode.PACK_SOURCE
    (tmp_path / "altered.tar.xz").write_bytes(_altered(lzma.compress(os.urandom(1 << 16))))
    assert refusal(tmp_path / "altered.tar.xz", tmp_path / "store").code is ErrorCode.PACK_SOURCE
    (tmp_path / "cut.tar.gz").write_bytes(archive.read_bytes()[:-200])
    assert refusal(tmp_path / "cut.tar.gz", tmp_path / "store").code is ErrorCode.PACK_SOURCE
    with tarfile.open(tmp_path / "empty.tar", "w") as tar:
        tar.addfile(member("a/b.txt")[0], io.BytesIO(b"x"))
    assert "has no pack.toml" in refusal(tmp_path / "empty.tar", tmp_path / "store").client_message


def _altered(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0xFF for byte in data[middle:])
