"""WADO-RS with dicomweb-client as the peer: the received bytes, or the same pixels in another form."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Picture
from pydicom import Dataset, dcmread
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from radserve.references import StudyRef
from radserve.work import StudyState
from tests.support.dicoms import colour, cr, ct_series, part10, us
from tests.support.web import LiveWeb, code_of

VOLUME = np.random.default_rng(5).integers(-1000, 1000, (4, 33, 41), dtype=np.int16)
CINE = np.random.default_rng(6).integers(0, 200, (3, 32, 40), dtype=np.uint8)


@dataclass(frozen=True)
class Study:
    uid: str
    series: str
    instances: tuple[str, ...]
    data: tuple[bytes, ...]

    @property
    def path(self) -> str:
        return f"/studies/{self.uid}/series/{self.series}"

    def instance(self, place: int = 0) -> str:
        return f"{self.path}/instances/{self.instances[place]}"

    def uids(self, place: int = 0) -> tuple[str, str, str]:
        return self.uid, self.series, self.instances[place]


def stored(web: LiveWeb, *given: Dataset, syntax: str = ExplicitVRLittleEndian) -> Study:
    data = tuple(part10(each, syntax) for each in given)
    assert web.store_instances(*data).status_code == 200
    uids = tuple(str(each.SOPInstanceUID) for each in given)
    return Study(str(given[0].StudyInstanceUID), str(given[0].SeriesInstanceUID), uids, data)


@pytest.fixture(scope="module")
def compressed(web: LiveWeb) -> Study:
    return stored(web, *ct_series(VOLUME, study="wado-jls"), syntax=JPEGLSLossless)


@pytest.fixture(scope="module")
def cine(web: LiveWeb) -> Study:
    return stored(web, us(CINE, study="wado-cine"), syntax=RLELossless)


def pixels(ds: Dataset) -> npt.NDArray[np.int16]:
    return np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns)


def test_a_study_comes_in_its_stored_syntax_with_the_received_bytes(web: LiveWeb, compressed: Study) -> None:
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    answer = web.get(f"/studies/{compressed.uid}", accept)
    assert int(answer.headers["content-length"]) == len(answer.content)
    for data, uid in zip(compressed.data, compressed.instances, strict=True):
        assert data in answer.content
        assert f"Content-Location: {web.root}{compressed.path}/instances/{uid}".encode() in answer.content
    found = web.client.retrieve_series(compressed.uid, compressed.series, media_types=(("application/dicom", "*"),))
    assert [str(each.SOPInstanceUID) for each in found] == list(compressed.instances)
    assert {each.file_meta.TransferSyntaxUID for each in found} == {JPEGLSLossless}


def test_without_a_syntax_it_is_explicit_little_endian(web: LiveWeb, compressed: Study) -> None:
    found = web.client.retrieve_study(compressed.uid)
    assert {each.file_meta.TransferSyntaxUID for each in found} == {ExplicitVRLittleEndian}
    assert all((pixels(each) == values).all() for each, values in zip(found, VOLUME, strict=True))
    assert not list((web.data_dir / ".web").iterdir())


def test_an_instance_comes_alone_where_that_is_wanted(web: LiveWeb, compressed: Study) -> None:
    answer = web.get(compressed.instance(1), "application/dicom; transfer-syntax=*")
    assert answer.headers["content-type"] == f"application/dicom; transfer-syntax={JPEGLSLossless}"
    assert answer.content == compressed.data[1]
    decoded = dcmread(io.BytesIO(web.get(compressed.instance(1), "application/dicom").content))
    assert (pixels(decoded) == VOLUME[1]).all()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_uncompressed_syntaxes_are_given_in_little_endian(web: LiveWeb, syntax: str) -> None:
    array = np.arange(300, dtype=np.uint16).reshape(15, 20)
    study = stored(web, cr(array, study=f"wado-{syntax}"), syntax=syntax)
    found = web.client.retrieve_instance(*study.uids(), media_types=(("application/dicom", ExplicitVRLittleEndian),))
    assert (np.frombuffer(found.PixelData, "<u2").reshape(15, 20) == array).all()
    assert np.frombuffer(web.client.retrieve_instance_frames(*study.uids(), [1])[0], "<u2").tolist() == list(range(300))


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("", 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50'),
        ("", "text/html"),
        ("", 'multipart/related; type="application/dicom+xml"'),
        ("/metadata", 'multipart/related; type="application/dicom+xml"'),
        ("/frames/1", 'multipart/related; type="image/jpeg"'),
        ("/rendered", "image/gif"),
        ("/bulkdata/7FE00010", "text/plain"),
    ],
)
def test_what_cannot_be_given_so_is_not_acceptable(web: LiveWeb, compressed: Study, path: str, accept: str) -> None:
    assert web.get(compressed.instance() + path, accept).status_code == 406


def test_metadata_has_the_headers_of_all_instances_and_links_to_their_pixels(web: LiveWeb, compressed: Study) -> None:
    found = [Dataset.from_json(each) for each in web.get(f"/studies/{compressed.uid}/metadata").json()]
    originals = [dcmread(io.BytesIO(data)) for data in compressed.data]
    for each, original in zip(found, originals, strict=True):
        assert [str(each[tag].value) for tag in (0x00080018, 0x00200032, 0x00100010)] == [
            str(original[tag].value) for tag in (0x00080018, 0x00200032, 0x00100010)
        ]
    (alone,) = web.client.retrieve_series_metadata(compressed.uid, compressed.series)[:1]
    link = alone["7FE00010"]["BulkDataURI"].replace("http://127.0.0.1/", f"{web.listener.url}/")
    (stream,) = web.client.retrieve_bulkdata(link)
    assert bytes(stream) in compressed.data[0]
    (one,) = web.get(f"{compressed.instance(2)}/metadata").json()
    assert one["00080018"]["Value"] == [compressed.instances[2]]


def test_metadata_of_many_instances_comes_in_batches_and_whole(web: LiveWeb) -> None:
    study = stored(web, *ct_series(np.zeros((70, 4, 4), np.int16), study="wado-many"))
    answer = web.get(f"{study.path}/metadata")
    assert [each["00080018"]["Value"][0] for each in answer.json()] == list(study.instances)


def test_frames_are_decoded_or_as_stored(web: LiveWeb, cine: Study) -> None:
    found = web.client.retrieve_instance_frames(*cine.uids(), [3, 1])
    assert [bytes(each) for each in found] == [CINE[2].tobytes(), CINE[0].tobytes()]
    octets = "multipart/related; type=application/octet-stream; transfer-syntax=*"  # as OHIF asks
    raw = web.get(f"{cine.instance()}/frames/2", octets)
    assert f"Content-Type: application/octet-stream; transfer-syntax={RLELossless}".encode() in raw.content
    rle = web.client.retrieve_instance_frames(*cine.uids(), [2], media_types=(("image/dicom-rle", RLELossless),))
    assert bytes(rle[0]) in raw.content
    alone = web.get(f"{cine.instance()}/frames/2", "application/octet-stream")
    assert alone.content == CINE[1].tobytes()


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        ("4", 404),
        ("1,9", 404),
        ("0", 400),
        ("-1", 400),
        ("a", 400),
        ("1,,2", 400),
        ("1" * 30, 400),
        ("1," * 2000 + "1", 400),
    ],
)
def test_frames_that_are_not_there_are_not_found(web: LiveWeb, cine: Study, frames: str, status: int) -> None:
    assert web.get(f"{cine.instance()}/frames/{frames}").status_code == status


def test_pictures_are_png_or_jpeg_of_the_frame_with_the_window(web: LiveWeb, cine: Study) -> None:
    png = web.get(f"{cine.instance()}/frames/2/rendered", "image/png", window="100,200,linear-exact")
    expected = np.rint(CINE[1] / 200 * 255)
    assert np.abs(np.asarray(Picture.open(io.BytesIO(png.content))) - expected).max() <= 1
    jpeg = web.get(f"{cine.instance()}/rendered", viewport="20,20", quality="60")
    assert jpeg.headers["content-type"] == "image/jpeg"
    assert Picture.open(io.BytesIO(jpeg.content)).size == (20, 16)
    by_query = web.get(f"{cine.instance()}/rendered?accept=image/png", "text/html")
    assert by_query.headers["content-type"] == "image/png"
    assert web.client.retrieve_instance_rendered(*cine.uids(), media_types=("image/jpeg",))[:2] == b"\xff\xd8"


def test_colour_is_shown_in_colour(web: LiveWeb) -> None:
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[..., 0] = 240
    study = stored(web, colour(rgb, study="wado-colour"), syntax=JPEGBaseline8Bit)
    picture = Picture.open(io.BytesIO(web.get(f"{study.instance()}/rendered", "image/png").content))
    red, green, blue = np.asarray(picture)[8, 8]
    assert red > 220 and max(green, blue) < 20


@pytest.mark.parametrize("query", [{"window": "a"}, {"viewport": "0,0"}, {"quality": "0"}, {"secret": "x"}])
def test_parameters_of_pictures_that_make_no_sense_are_refused(
    web: LiveWeb, cine: Study, query: dict[str, str]
) -> None:
    assert web.get(f"{cine.instance()}/rendered", **query).status_code == 400


@pytest.mark.parametrize(
    ("place", "status"),
    [("00420011", 404), ("7FE00010/1/00420011", 404), ("xyz", 400), ("7FE0001", 400)],
)
def test_bulk_data_that_is_not_there_is_not_found(web: LiveWeb, cine: Study, place: str, status: int) -> None:
    assert web.get(f"{cine.instance()}/bulkdata/{place}").status_code == status


def test_nothing_is_found_under_other_uids(web: LiveWeb, cine: Study, compressed: Study) -> None:
    for path, code in (
        ("/studies/1.2.3", "STUDY_NOT_FOUND"),
        (f"/studies/{cine.uid}/series/1.2.3", "SERIES_NOT_FOUND"),
        (f"{cine.path}/instances/1.2.3", "INSTANCE_NOT_FOUND"),
        (f"{cine.path}/instances/{compressed.instances[0]}", "INSTANCE_NOT_FOUND"),
        (f"{cine.path}/instances/1.2.3/rendered", "INSTANCE_NOT_FOUND"),
    ):
        answer = web.get(path)
        assert (answer.status_code, code_of(answer)) == (404, code)


def test_an_undecodable_instance_is_given_as_it_is_or_not_at_all(web: LiveWeb) -> None:
    image = us(CINE, study="wado-broken")
    data = bytearray(part10(image, RLELossless))
    data[-400:-8] = bytes(392)
    assert web.store_instances(bytes(data)).status_code == 200
    path = f"/studies/{image.StudyInstanceUID}"
    assert web.get(path, 'multipart/related; type="application/dicom"; transfer-syntax=*').status_code == 200
    answer = web.get(path)
    assert (answer.status_code, code_of(answer)) == (406, "DECODE_FAILED")
    assert not list((web.data_dir / ".web").iterdir())


def test_a_study_is_said_to_be_complete(web: LiveWeb, compressed: Study) -> None:
    url = f"{web.root}/studies/{compressed.uid}/complete"
    answer = web.http.post(url, json={"expected_instances": 4})
    assert (answer.status_code, answer.json()) == (
        202,
        {
            "study_instance_uid": compressed.uid,
            "state": "receiving",
            "stored_instances": 4,
            "expected_instances": 4,
        },
    )
    (signalled,) = [
        each for each in web.wait_for(web.records.ledger.open_studies()) if each.study_instance_uid == compressed.uid
    ]
    assert (signalled.signal, signalled.expected_instances) == ("complete", 4)
    web.wait_for(web.records.ledger.close(StudyRef(compressed.uid), incomplete=False, now=1.0))
    late = web.http.post(url)
    assert (late.status_code, late.json()["state"]) == (200, StudyState.COMPLETE)
    assert web.http.post(f"{web.root}/studies/1.2.3/complete").status_code == 404


def test_head_is_answered_as_get_without_a_body(web: LiveWeb, compressed: Study) -> None:
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    for path, wanted in (
        ("/studies", ""),
        (f"/studies/{compressed.uid}", accept),
        (f"{compressed.path}/metadata", ""),
        (f"{compressed.instance()}/rendered", "image/png"),
        ("/studies/1.2.3/metadata", ""),
        ("/studies?PatientNme=x", ""),
    ):
        headers = {"Accept": wanted} if wanted else {}
        asked, got = (web.http.request(method, web.root + path, headers=headers) for method in ("HEAD", "GET"))
        assert asked.status_code == got.status_code
        assert (
            asked.headers["content-type"].partition("boundary")[0]
            == got.headers["content-type"].partition("boundary")[0]
        )
        assert asked.headers.get("content-length") == got.headers.get("content-length")
        assert asked.content == b"" != got.content
    assert web.http.head(f"{web.listener.url}/health").status_code == 200
    assert web.http.head(f"{web.root}/studies/1.2.3/complete").status_code == 405
    assert not list((web.data_dir / ".web").iterdir())
