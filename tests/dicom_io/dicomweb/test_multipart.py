"""The reader of multipart/related bodies: whatever the pieces, the same parts; whatever is wrong, an error."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser

from radserve.dicom_io.dicomweb.media import media_type
from radserve.dicom_io.dicomweb.multipart import (
    MultipartLimits,
    MultipartReader,
    MultipartWriter,
    PartEnd,
    PartStart,
    boundary_of,
)
from radserve.errors import ErrorCode, RequestError

Part = tuple[dict[str, str], bytes]
# Pieces of what the reader looks for, so that random data comes near to it.
DATA = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"--", b"-", b"--b", b"\r\n--", b"\r\n--c", b"x", b"\0"])).map(
    b"".join
)
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "x-a", "content-location"]), st.sampled_from(["", "a/b", "x y"])
)


def read(body: bytes, cuts: Iterable[int] = (), boundary: bytes = b"bound", **limits: int) -> list[Part]:
    reader = MultipartReader(boundary, MultipartLimits(**limits))
    parts: list[Part] = []
    whole = 0
    edges = [0, *sorted({min(cut, len(body)) for cut in cuts}), len(body)]
    for start, stop in itertools.pairwise(edges):
        for event in reader.feed(body[start:stop]):
            match event:
                case PartStart(headers):
                    parts.append((dict(headers), b""))
                case PartEnd():
                    whole += 1
                case bytes(data):
                    parts[-1] = (parts[-1][0], parts[-1][1] + data)
    reader.close()
    assert whole == len(parts)
    return parts


def written(parts: list[Part], boundary: bytes = b"bound", before: bytes = b"", after: bytes = b"") -> bytes:
    body = before
    for headers, data in parts:
        lines = [f"{name}: {value}".encode() for name, value in headers.items()]
        body += b"--" + boundary + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + data + b"\r\n"
    return body + b"--" + boundary + b"--" + after


def error_of(body: bytes, **limits: int) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(body, range(0, len(body), 7), **limits)
    return caught.value


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(st.tuples(HEADERS, DATA), min_size=1, max_size=4), cuts=st.lists(st.integers(0, 400), max_size=40)
)
def test_the_parts_are_the_same_whatever_the_pieces(parts: list[Part], cuts: list[int]) -> None:
    body = written(parts, before=b"a preamble\r\n", after=b"\r\nan epilogue --bound--")
    assert read(body, cuts) == parts


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(st.tuples(st.just({"a": "b"}), DATA), min_size=1, max_size=4))
def test_another_reader_finds_the_same_parts(parts: list[Part]) -> None:
    found: list[bytes] = []
    callbacks = {
        "on_part_begin": lambda: found.append(b""),
        "on_part_data": lambda data, start, end: found.append(found.pop() + data[start:end]),
    }
    body = written(parts)
    MultipartParser(b"bound", callbacks).write(body)  # type: ignore[arg-type]
    assert found == [data for _, data in read(body)]


@settings(max_examples=200, deadline=None)
@given(body=st.lists(st.sampled_from([b"--bound", b"\r\n", b"--", b": ", b"a", b" "]), max_size=30).map(b"".join))
def test_any_bytes_end_in_parts_or_in_an_error(body: bytes) -> None:
    try:
        read(body, range(len(body)))
    except RequestError as error:
        assert error.code in (ErrorCode.INVALID_ARGUMENT, ErrorCode.TRUNCATED)


def test_what_the_writer_writes_is_read_again() -> None:
    writer = MultipartWriter()
    body = b"".join(
        [writer.head("application/dicom", size=3, location="http://x/1"), b"abc", writer.tail(), writer.end()]
    )
    boundary = boundary_of(media_type(writer.content_type))
    headers = {"content-type": "application/dicom", "content-length": "3", "content-location": "http://x/1"}
    assert read(body, [5, 30, 31], boundary) == [(headers, b"abc")]


def test_a_part_without_data_needs_no_line_of_its_own() -> None:
    assert read(b"--bound\r\na: b\r\n\r\n--bound--") == [({"a": "b"}, b"")]
    assert read(b"--bound  \t\r\n\r\n\r\n--bound--\r\n") == [({}, b"")]


def test_a_longer_boundary_that_begins_alike_is_refused() -> None:
    assert error_of(b"--bound\r\n\r\nx\r\n--bounding\r\n\r\ny\r\n--bound--").code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--bou",
        b"--bound\r\na: b\r\n\r\ndata",
        b"--bound\r\na: b\r\n\r\ndata\r\n--boun",
        b"--bound\r\n\r\nx\r\n--bound",
    ],
)
def test_a_body_that_ends_early_is_truncated(body: bytes) -> None:
    assert error_of(body).code is ErrorCode.TRUNCATED


@pytest.mark.parametrize("body", [b"no boundary", b"--other\r\n\r\nx\r\n--other--"])
def test_a_body_that_never_shows_its_boundary_is_told_so(body: bytes) -> None:
    error = error_of(body)
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert (
        error.client_message
        == "the multipart body ends before its last boundary: it has none like that of its Content-Type"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"--bound--",
        b"--bound\r\nno colon\r\n\r\nx\r\n--bound--",
        b"--bound\r\na b: c\r\n\r\nx\r\n--bound--",
        b"--bound\r\na: 1\r\nA: 2\r\n\r\nx\r\n--bound--",
        b"--bound junk\r\n\r\nx\r\n--bound--",
    ],
)
def test_a_body_that_is_not_multipart_is_refused(body: bytes) -> None:
    assert error_of(body).code is ErrorCode.INVALID_ARGUMENT


def test_headers_parts_and_preamble_have_their_limits() -> None:
    assert error_of(b"--bound\r\na: " + b"x" * 300, header_bytes=200).code is ErrorCode.REQUEST_TOO_LARGE
    many = b"".join(f"h{number}: x\r\n".encode() for number in range(5))
    assert error_of(b"--bound\r\n" + many + b"\r\n\r\n--bound--", headers=4).code is ErrorCode.REQUEST_TOO_LARGE
    assert error_of(written([({}, b"x")] * 4), parts=3).code is ErrorCode.REQUEST_TOO_LARGE
    assert error_of(b"x" * 400, preamble_bytes=300).code is ErrorCode.INVALID_ARGUMENT
    assert error_of(b"--bound" + b" " * 400, padding_bytes=100).code is ErrorCode.INVALID_ARGUMENT


def test_the_reader_keeps_no_more_than_a_delimiter() -> None:
    reader = MultipartReader(b"bound")
    list(reader.feed(b"--bound\r\na: b\r\n\r\n"))
    for _ in range(1000):
        assert sum(len(event) for event in reader.feed(b"\r\n--boun" * 100) if isinstance(event, bytes)) > 700
        assert len(reader._buffer) < 16


@pytest.mark.parametrize("boundary", ["", "x" * 201, "ends with a blank ", "new\nline", "ümlaut"])
def test_an_absurd_boundary_is_refused(boundary: str) -> None:
    with pytest.raises(RequestError, match="no boundary"):
        boundary_of(media_type(f'multipart/related; boundary="{boundary}"'))
