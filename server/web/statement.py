"""The DICOMweb statement (PS3.2 annex on web services), made from the tables that the code itself works by.

    python -m radserve.server.web.statement docs/dicomweb.md

A test compares docs/dicomweb.md with `statement()`, and its resources with those of the application.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pydicom.uid import UID

from radserve.dicom_io.dicomweb.intake import REASONS
from radserve.dicom_io.dicomweb.media import DICOM, DICOM_JSON, IMAGE_TYPES, MULTIPART, OCTETS
from radserve.dicom_io.dicomweb.query import DEFAULT_LIMIT, MOST_RESULTS
from radserve.dicom_io.dicomweb.rendered import OFFERED, PARAMETERS
from radserve.dicom_io.dicomweb.search_attributes import ATTRIBUTES, OF_REQUESTS
from radserve.dicom_io.dimse import statuses
from radserve.dicom_io.markdown import bullets, paragraph, table
from radserve.server.web.errors import MEANINGS
from radserve.server.web.limits import WebLimits
from radserve.server.web.service import ROOT

STUDY, SERIES = "/studies/{study}", "/studies/{study}/series/{series}"
INSTANCE = f"{SERIES}/instances/{{instance}}"
JSON = f"`{DICOM_JSON}`, `application/json`"
PARTS = f'`{MULTIPART}; type="{DICOM}"`'
PICTURES = ", ".join(f"`{each}`" for each in OFFERED)
FRAMES = f'`{MULTIPART}; type="{OCTETS}"` or the media type of the stored frames; one frame alone: `{OCTETS}`'
RESOURCES: Sequence[tuple[str, str, str, str]] = (
    ("POST", f"{ROOT}/studies", "store (STOW-RS)", JSON),
    ("POST", f"{ROOT}{STUDY}", "store instances of this study", JSON),
    ("GET", f"{ROOT}/studies", "search for studies (QIDO-RS)", JSON),
    ("GET", f"{ROOT}/series", "search for series of all studies", JSON),
    ("GET", f"{ROOT}/instances", "search for instances of all studies", JSON),
    ("GET", f"{ROOT}{STUDY}/series", "search for series of a study", JSON),
    ("GET", f"{ROOT}{STUDY}/instances", "search for instances of a study", JSON),
    ("GET", f"{ROOT}{SERIES}/instances", "search for instances of a series", JSON),
    ("GET", f"{ROOT}{STUDY}", "retrieve a study (WADO-RS)", PARTS),
    ("GET", f"{ROOT}{SERIES}", "retrieve a series", PARTS),
    ("GET", f"{ROOT}{INSTANCE}", "retrieve an instance", f"{PARTS}, `{DICOM}`"),
    ("GET", f"{ROOT}{STUDY}/metadata", "headers of a study", JSON),
    ("GET", f"{ROOT}{SERIES}/metadata", "headers of a series", JSON),
    ("GET", f"{ROOT}{INSTANCE}/metadata", "header of an instance", JSON),
    ("GET", f"{ROOT}{INSTANCE}/rendered", "picture of the first frame", PICTURES),
    ("GET", f"{ROOT}{INSTANCE}/frames/{{frames}}", "frames, as a list with commas", FRAMES),
    ("GET", f"{ROOT}{INSTANCE}/frames/{{frames}}/rendered", "picture of a frame", PICTURES),
    (
        "GET",
        f"{ROOT}{INSTANCE}/bulkdata/{{place}}",
        "a value of the header, or the pixels: what metadata links to",
        f'`{MULTIPART}; type="{OCTETS}"`, `{OCTETS}`',
    ),
    ("POST", f"{ROOT}{STUDY}/complete", "the sender has sent all (no part of DICOMweb)", "`application/json`"),
    ("GET", "/health", "whether instances can be taken (no part of DICOMweb)", "`application/json`"),
)


def statement() -> str:
    """The statement as Markdown; the same on every run."""
    intro = """Made from the tables of the code by `python -m radserve.server.web.statement`: do not edit. It says what
        the HTTP port does of PS3.18; what is not named here is not offered: no UPS-RS, no WADO-URI, no XML, no zip, no
        rendered studies or series, no thumbnails. How to start it is in [operations](operations.md#dicomweb)."""
    parts = (_resources, _store, _search, _retrieve, _completion, _statuses, _limits)
    lines = ["# DICOMweb statement", "", *paragraph(intro)]
    for part in parts:
        lines += ["", *part()]
    return "\n".join(lines) + "\n"


def _resources() -> list[str]:
    rows = ((f"`{method} {path}`", meaning, types) for method, path, meaning, types in RESOURCES)
    text = """HEAD is answered as GET is, without the body. The query parameter `accept` stands for the header Accept.
        Links in answers begin with the address that the client used, or with `RADSERVE_HTTP_PUBLIC_URL`. The objects
        of results (SR, SEG ...) are found and retrieved as objects of their study until a later result replaces them;
        they cannot be stored by others: what is stored are images of the SOP classes of the [conformance
        statement](conformance.md)."""
    return ["## 1. Resources", "", *table(("resource", "what", "media types"), rows), "", *paragraph(text)]


def _store() -> list[str]:
    text = f"""The body is {PARTS}, each part a Part 10 file. Parts are written to disk as they come and kept as they
        are, but for a preamble that is in use, which is zeroed; the answer comes when all are durable. The same bytes
        again are a success and one copy; other bytes under a
        SOP Instance UID that is taken are refused and set aside. Data Set Trailing Padding (FFFC,FFFC) does not
        count. A part whose UIDs cannot be read is in Other Failures
        Sequence (0008,119A), the others that are refused in Failed SOP Sequence (0008,1198), with Failure Reason
        (0008,1197):"""
    meanings = {**statuses.MEANINGS, 0xC122: "the transfer syntax is not supported"}
    overridden = {
        statuses.DOES_NOT_MATCH_SOP_CLASS: "the instance is of another study than that of the address",
        statuses.SOP_CLASS_NOT_SUPPORTED: "the SOP class is not an image that is taken here",
        statuses.OUT_OF_RESOURCES: "the disk is full or below its reserve: try later",
    }
    reasons = sorted({*REASONS.values(), statuses.PROCESSING_FAILURE})
    rows = ((f"`{reason:04X}`", overridden.get(reason, meanings[reason])) for reason in reasons)
    after = """A body that ends before its last boundary is answered with 400; parts that were whole may be stored then,
        and sending all of it again does no harm. So is a body that does not have the boundary that it states. One all
        of whose parts are of another type is answered with 415, and so is one all of whose instances are of an SOP
        class or in a transfer syntax that is not taken (`0122`, `C122`); its answer names each as that of 409 does.
        Where a client leaves out the parameter `type`, which RFC 2387 requires, each part has to state its own
        Content-Type."""
    return ["## 2. Store", "", *paragraph(text), "", *table(("reason", "meaning"), rows), "", *paragraph(after)]


def _search() -> list[str]:
    rows = [
        (
            ".".join(f"({part[:4]},{part[4:]})" for part in tag.split(".")),
            ".".join(filter(None, (each.within, each.keyword))),
            each.level.name.lower(),
            each.matching,
            ("always" if each.always else "asked") + (", if known" if each.in_header or each.within else ""),
        )
        for tag, each in sorted({**ATTRIBUTES, **OF_REQUESTS}.items(), key=lambda pair: pair[1].level)
    ]
    return [
        "## 3. Search",
        "",
        *paragraph(
            """An attribute is matched at its level and at those below it; attributes of the levels above are returned
            where the address does not name the study, or where they are asked for. Results of a search of studies or
            series are the newest first."""
        ),
        "",
        *table(("tag", "keyword", "level", "matching", "returned"), rows),
        "",
        *bullets(
            """Wildcards are `*` and `?`; a value with one, and a name in any case, is matched without regard to case
            (SQLite: of ASCII letters). A value without is matched as it is. A name matches by any of its component
            groups.""",
            "`ModalitiesInStudy` and `Modality` take several values with commas; so do UIDs.",
            f"`limit`: {DEFAULT_LIMIT} without it, {MOST_RESULTS} at most; a Warning header says that there are more.",
            """`includefield`: keywords or tags, several with commas or repeated, or `all` for the table. At the level
            of instances any attribute of the header is returned that is asked for; at the others what is not in the
            table is not.""",
            """What is returned "if known" is read from the header of an instance: of any one of the study or series, a
            received one where there is one.""",
            "`fuzzymatching=true` is answered by literal matching and a Warning header.",
            """A key that is not in the table, or has the matching "none" there, is refused with 400 and named: leaving
            it out would find more than was asked for. All keys that PS3.18 section 10.6 requires are matched.""",
            """Keys within RequestAttributesSequence are keywords or tags with a dot (`00400275.00401001`). They and the
            start of the performed procedure step are matched by what any instance of the series says, all of them by
            one request. A store of a version that did not index them reads its files once when it opens.""",
        ),
    ]


def _retrieve() -> list[str]:
    rows = ((UID(uid).name, f"`{uid}`", ", ".join(f"`{name}`" for name in names)) for uid, names in IMAGE_TYPES.items())
    return [
        "## 4. Retrieve",
        "",
        *bullets(
            """Without the parameter `transfer-syntax`, instances and frames are given in Explicit VR Little Endian,
            decoded where they are compressed; with `*` or their own transfer syntax as they were received, byte for
            byte. Other transfer syntaxes are not made: 406.""",
            """Decoded colour is by pixel; chrominance that pixels share is repeated, and the colour space is what the
            codec leaves (RGB or YBR_FULL). An instance that cannot be decoded ends the answer before its last boundary
            where others were sent before it.""",
            """Metadata are the received headers as DICOM JSON; values of more than 1 KiB of binary data and the pixels
            are links. Available Transfer Syntax UID (0008,3002) says how the pixels are stored.""",
            f"""Pictures take the query parameters {", ".join(f"`{name}`" for name in PARAMETERS)} of PS3.18 section
            8.3.5: the window in modality values (linear, linear-exact, sigmoid), the viewport with or without a region
            of the source; the shape is kept, pixels are taken as square, and annotations are not drawn. Without a
            window it is that of the frame, or of the header, or from the 0.5th to the 99.5th percentile.""",
        ),
        "",
        "Stored frames have these media types:",
        "",
        *table(("transfer syntax", "UID", "media type"), rows),
    ]


def _completion() -> list[str]:
    text = f"""`POST {ROOT}{STUDY}/complete`, with `{{"expected_instances": N}}` or without a body, tells the
        [workflow](operations.md#the-way-of-a-study) that all of a study was sent. It is closed when N instances are
        here (202), at once without N, and as incomplete where they do not come within the quiet time. For a study that
        is closed already it changes nothing (200)."""
    return ["## 5. Completion", "", *paragraph(text)]


def _statuses() -> list[str]:
    rows = ((f"{status}", meaning) for status, meaning in MEANINGS.items())
    text = """An error has the JSON body `{"code": CODE, "message": TEXT}` with a code of the [list](errors.md); neither
        the text nor the server's log holds patient data, and no line of the log holds a query string."""
    return ["## 6. Statuses", "", *table(("status", "meaning"), rows), "", *paragraph(text)]


def _limits() -> list[str]:
    limits = WebLimits()
    parts = limits.multipart
    rows = (
        ("body of a store, MiB", f"{limits.request_bytes >> 20}, `RADSERVE_HTTP_MAX_REQUEST_MIB`"),
        ("one instance, MiB", "`RADSERVE_MAX_INSTANCE_MIB`"),
        ("parts of a body", parts.parts),
        ("headers of a part", f"{parts.headers}, of {parts.header_bytes} bytes together"),
        ("what comes before the first boundary, bytes", parts.preamble_bytes),
        ("head of a request, bytes", limits.head_bytes),
        ("time for the head of a request, s", f"{limits.head_seconds:g}"),
        (
            "waiting for a body, s",
            f"{limits.body_seconds:g}, and one more for every {limits.body_bytes_per_second} bytes",
        ),
        ("an answer that is not read, s", f"{limits.stall_seconds:g}"),
        ("body of a completion, bytes", limits.json_bytes),
        ("query parameters", limits.query_fields),
        ("frames of a request", limits.frames),
        ("connections", limits.connections),
        ("content encodings of a request", "none"),
    )
    return ["## 7. Limits", "", *table(("what", "most"), rows)]


def main(arguments: Sequence[str]) -> None:
    """Write the statement to the named file, or to standard output."""
    if arguments:
        Path(arguments[0]).write_text(statement(), encoding="utf-8")
    else:
        sys.stdout.write(statement())


if __name__ == "__main__":
    main(sys.argv[1:])
