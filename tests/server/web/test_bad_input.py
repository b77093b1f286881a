"""Requests that nobody should send: each has its answer, none costs memory, and none ends the service."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

import psutil
import pytest

from tests.support.web import DICOM_TYPE, LiveWeb, multipart

Case = tuple[int, Callable[[], bytes]]
PADDED_UID = "1." + "2" * 70
TYPE = f"{DICOM_TYPE}; boundary=b"


def post(body: bytes = b"", content_type: str = TYPE, path: str = "/dicom-web/studies", **headers: str) -> bytes:
    given = {"Host": "server", "Content_Type": content_type, "Content_Length": str(len(body)), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def get(path: str, **headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: server", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def bomb() -> bytes:
    return gzip.compress(bytes(64 << 20))


def nested(depth: int) -> bytes:
    body = b"DICM"
    for level in range(depth):
        body = multipart(f"n{level}", body, content_type=f"multipart/related; boundary=n{level - 1}")
    return multipart("b", body, content_type="multipart/related; boundary=n")


CHUNKED = {"Content_Length": "", "Transfer_Encoding": "chunked"}
CASES: dict[str, Case] = {
    # what is said of the body
    "gzip bomb": (415, lambda: post(bomb(), Content_Encoding="gzip")),
    "deflate bomb": (415, lambda: post(zlib.compress(bytes(64 << 20)), Content_Encoding="deflate")),
    "stacked encodings": (415, lambda: post(b"x", Content_Encoding="gzip, gzip, gzip, br")),
    "no content type": (415, lambda: post(b"x", content_type="")),
    "JSON instead of DICOM": (415, lambda: post(b"[]", content_type="application/dicom+json")),
    "no type of the parts": (
        415,
        lambda: post(multipart("b", b"x", content_type=""), content_type="multipart/related; boundary=b"),
    ),
    "only the part says its type": (
        409,
        lambda: post(multipart("b", b"x"), content_type="multipart/related; boundary=b"),
    ),
    "bare DICOM": (415, lambda: post(bytes(128) + b"DICM", content_type="application/dicom")),
    "form data": (415, lambda: post(multipart("b", b"x"), content_type="multipart/form-data; boundary=b")),
    "XML entities": (
        415,
        lambda: post(
            b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><a>&b;</a>',
            content_type='multipart/related; type="application/dicom+xml"; boundary=b',
        ),
    ),
    "two boundaries": (400, lambda: post(multipart("b", b"x"), content_type=f"{DICOM_TYPE}; boundary=b; boundary=c")),
    "no boundary": (400, lambda: post(multipart("b", b"x"), content_type=DICOM_TYPE)),
    "empty boundary": (400, lambda: post(multipart("b", b"x"), content_type=f'{DICOM_TYPE}; boundary=""')),
    "endless boundary": (400, lambda: post(b"x", content_type=f"{DICOM_TYPE}; boundary={'b' * 5000}")),
    "boundary with a line end": (400, lambda: post(b"x", content_type=f'{DICOM_TYPE}; boundary="b\\r\\nX: y"')),
    "unread Accept": (406, lambda: post(multipart("b", b"x"), Accept="application/dicom+xml")),
    "absurd Accept": (400, lambda: post(multipart("b", b"x"), Accept=";;;,,q=9")),
    # how long it is
    "huge Content-Length": (413, lambda: post(Content_Length=str(1 << 50))),
    "Content-Length beyond 64 bits": (400, lambda: post(Content_Length="9" * 30)),
    "negative Content-Length": (400, lambda: post(Content_Length="-5")),
    "two Content-Lengths": (
        400,
        lambda: post(b"abc").replace(b"Content-Length: 3", b"Content-Length: 3\r\nContent-Length: 30"),
    ),
    "length and chunks": (400, lambda: post(b"0\r\n\r\n", Transfer_Encoding="gzip")),
    "chunk of absurd size": (400, lambda: post(b"f" * 40 + b"\r\n", **CHUNKED)),
    "no body": (400, post),
    # the parts
    "no part": (400, lambda: post(b"--b--\r\n")),
    "another boundary than said": (400, lambda: post(multipart("other", b"x"))),
    "endless preamble": (400, lambda: post(b"x" * (1 << 20))),
    "endless header": (413, lambda: post(b"--b\r\nContent-Type: " + b"a" * (1 << 20))),
    "endless headers": (413, lambda: post(b"--b\r\n" + b"X: y\r\n" * 200_000)),
    "many headers": (413, lambda: post(b"--b\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(99)) + b"\r\n\r\n--b--")),
    "header without a colon": (400, lambda: post(b"--b\r\nContent-Type\r\n\r\nx\r\n--b--")),
    "headers without an end": (400, lambda: post(b"--b\r\nContent-Type: application/dicom\r\n")),
    "too many parts": (413, lambda: post(b"--b\r\n\r\n\r\n" * 501 + b"--b--")),
    "empty part": (409, lambda: post(multipart("b", b""))),
    "part without DICOM": (409, lambda: post(multipart("b", b"<html>"))),
    "part of another type": (415, lambda: post(multipart("b", b"x", content_type="application/pdf"))),
    "part in base64": (
        415,
        lambda: post(
            b"--b\r\nContent-Type: application/dicom\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n--b--"
        ),
    ),
    "nested multipart": (415, lambda: post(nested(20))),
    "preamble of a program": (409, lambda: post(multipart("b", b"MZ" + bytes(126) + b"DICM"))),
    "zip": (409, lambda: post(multipart("b", b"PK\3\4" + bytes(200)))),
    # addresses
    "path traversal": (404, lambda: get("/dicom-web/studies/..%2f..%2f..%2fetc%2fpasswd")),
    "dots for a UID": (400, lambda: get("/dicom-web/studies/..")),
    "NUL in a UID": (400, lambda: get("/dicom-web/studies/1.2%00.3")),
    "backslashes in a UID": (400, lambda: get("/dicom-web/studies/..%5c..%5cetc")),
    "UID of 72 characters": (400, lambda: get(f"/dicom-web/studies/{PADDED_UID}/metadata")),
    "UID of 5,000 characters": (400, lambda: get(f"/dicom-web/studies/1/series/{'1' * 5000}")),
    "digits that are not ASCII": (400, lambda: get("/dicom-web/studies/1.%D9%A3")),
    "endless address": (400, lambda: get("/dicom-web/studies/" + "1" * 200_000)),
    "study of a store": (400, lambda: post(multipart("b", b"x"), path="/dicom-web/studies/not-a-uid")),
    "bulk data beside the file": (404, lambda: get("/dicom-web/studies/1/series/1/instances/1/bulkdata/../../x")),
    # queries
    "unknown query key": (400, lambda: get("/dicom-web/studies?PatientNme=Doe")),
    "query key in a sequence": (
        400,
        lambda: get("/dicom-web/series?RequestAttributesSequence.ReasonForTheRequestedProcedure=1"),
    ),
    "script as a query key": (400, lambda: get("/dicom-web/studies?%3Cscript%3E=1")),
    "bad date": (400, lambda: get("/dicom-web/studies?StudyDate=yesterday")),
    "bad limit": (400, lambda: get("/dicom-web/studies?limit=-1")),
    "query that is not UTF-8": (400, lambda: get("/dicom-web/studies?PatientName=%FF%FE")),
    "hundreds of keys": (400, lambda: get("/dicom-web/studies?" + "&".join(["PatientID=a"] * 500))),
    "many wildcards": (200, lambda: get("/dicom-web/studies?PatientName=" + "*a" * 120 + "b")),
    # JSON
    "deep JSON": (400, lambda: post(b"[" * 4000, "application/json", "/dicom-web/studies/1.2/complete")),
    "long JSON": (413, lambda: post(b" " * 100_000, "application/json", "/dicom-web/studies/1.2/complete")),
    "another JSON": (400, lambda: post(b'{"a": 1}', "application/json", "/dicom-web/studies/1.2/complete")),
    "a number that is none": (
        400,
        lambda: post(b'{"expected_instances": true}', "application/json", "/dicom-web/studies/1.2/complete"),
    ),
    "an endless number": (
        400,
        lambda: post(
            b'{"expected_instances": ' + b"9" * 4000 + b"}", "application/json", "/dicom-web/studies/1/complete"
        ),
    ),
    # HTTP
    "unknown method": (405, lambda: get("/dicom-web/studies").replace(b"GET", b"PURGE")),
    "deletion": (405, lambda: get("/dicom-web/studies/1.2").replace(b"GET", b"DELETE")),
    "no HTTP": (400, lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n"),
    "a DICOM association": (400, lambda: b"\x01\x00\x00\x00\x00\xcd\x00\x01" + bytes(66) + b"\r\n\r\n"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_request_has_its_answer(web: LiveWeb, name: str) -> None:
    expected, make = CASES[name]
    before, files = psutil.Process().memory_info().rss, web.files()
    status, body = web.raw(make())
    assert status == expected, body[:300]
    assert web.files() == files
    assert psutil.Process().memory_info().rss - before < 150 << 20
    if body.startswith(b"{"):
        assert json.loads(body).keys() <= {"code", "message", "0008119A", "00081198"}
    assert web.http.get(f"{web.listener.url}/health").status_code == 200


def test_there_are_enough_of_them() -> None:
    assert len(CASES) > 50
