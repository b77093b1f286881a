"""One changed byte after intake is noticed, and whether it was a pixel."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import JPEGLSLossless

from radserve.dicom_io.index_entry import read_entry
from radserve.dicom_io.integrity import Damage, verify
from radserve.references import StudyRef
from tests.support.dicoms import cr, part10, save, uid
from tests.support.indexed import Site
from tests.support.stored import IMAGE, instance, put


def alter(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


async def test_each_kind_of_damage_is_told_and_nothing_else(site: Site) -> None:
    names = ("whole", Damage.PIXELS, Damage.HEADER, Damage.MISSING, Damage.UNREADABLE)
    paths = {name: site.store.path((await put(site.store, instance(study=name))).header.instance) for name in names}
    alter(paths[Damage.PIXELS], -1)
    alter(paths[Damage.HEADER], paths[Damage.HEADER].read_bytes().index(b"Doe^Jane"))
    paths[Damage.MISSING].unlink()
    paths[Damage.UNREADABLE].write_bytes(b"no DICOM file")
    found = await verify(site.root / "studies", site.index, site.workers)  # type: ignore[arg-type]
    assert found.checked == len(names)
    assert {(each.instance.study_instance_uid, each.damage) for each in found.damaged} == {
        (uid("study", name), name) for name in names[1:]
    }
    one = StudyRef(uid("study", "whole"))
    assert (await verify(site.root / "studies", site.index, site.workers, one)).damaged == ()  # type: ignore[arg-type]


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", JPEGLSLossless])
def test_the_pixels_hash_is_that_of_the_value_as_it_stands_in_the_file(tmp_path: Path, syntax: str) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(part10(cr(IMAGE), syntax))
    value = dcmread(path).PixelData
    data = path.read_bytes()
    start = data.index(value[:24])
    expected = data[start : start + len(value)] if syntax != JPEGLSLossless else data[start:]
    assert read_entry(path).pixel_sha256 == hashlib.sha256(expected).hexdigest()


def test_the_pixels_hash_does_not_depend_on_the_header(tmp_path: Path) -> None:
    one = read_entry(save(cr(IMAGE), tmp_path / "one.dcm"))
    other = read_entry(save(cr(IMAGE, PatientName="Other^Name"), tmp_path / "other.dcm"))
    changed = IMAGE.copy()
    changed[3, 4] += 1
    third = read_entry(save(cr(changed), tmp_path / "third.dcm"))
    assert one.pixel_sha256 == other.pixel_sha256 != third.pixel_sha256
    assert one.sha256 != other.sha256


def test_digital_signatures_are_noticed(tmp_path: Path) -> None:
    ds = cr(IMAGE)
    assert not read_entry(save(ds, tmp_path / "plain.dcm")).signed
    mac, signature = Dataset(), Dataset()
    mac.MACIDNumber, mac.MACAlgorithm, mac.DataElementsSigned = 1, "SHA256", [0x00080018]
    mac.MACCalculationTransferSyntaxUID = "1.2.840.10008.1.2.1"
    signature.MACIDNumber, signature.DigitalSignatureUID, signature.Signature = 1, "1.2.3", b"\0" * 16
    ds.MACParametersSequence, ds.DigitalSignaturesSequence = [mac], [signature]
    assert read_entry(save(ds, tmp_path / "signed.dcm")).signed
