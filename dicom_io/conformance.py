"""The DICOM conformance statement (PS3.2), made from the tables that the code itself works by.

    python -m radserve.dicom_io.conformance docs/conformance.md

A test compares docs/conformance.md with `statement()`: after a change of the tables, run the command.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.charset import python_encoding
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from radserve.dicom_io import write_not_analysable, write_request, write_sr
from radserve.dicom_io.derived import COPIED
from radserve.dicom_io.dimse import negotiation, query_scu, statuses, tls
from radserve.dicom_io.dimse.access import PeerPolicy
from radserve.dicom_io.dimse.pdu import WireLimits
from radserve.dicom_io.file_meta import IMPLEMENTATION_CLASS_UID
from radserve.dicom_io.markdown import bullets, paragraph, table
from radserve.dicom_io.parse import IMAGE_STORAGE, TRANSFER_SYNTAXES
from radserve.dicom_io.web_peer import peer as web
from radserve.dicom_io.web_peer import qido
from radserve.dicom_io.web_peer.archive import ANY_SYNTAX
from radserve.dicom_io.web_peer.ups import StepState
from radserve.dicom_io.write_base import SERIES, OutputKind
from radserve.dicom_io.write_outputs import OBJECTS, DestinationRole, default_kinds

SCP, SCU = "SCP", "SCU"
DEFINED_TERM = re.compile(r"ISO_IR (?!6$)\d+|ISO 2022 IR \d+|GB18030|GBK")  # PS3.3 C.12.1.1.2; pydicom reads slips too
CONCEPTS = (
    ("probability, in percent, calibrated", write_sr.PROBABILITY),
    ("score, without unit, uncalibrated", write_sr.SCORE),
    ("presence", write_sr.PRESENCE),
    ("presence: positive", write_sr.PRESENT),
    ("presence: negative", write_sr.ABSENT),
    ("presence: no answer", write_sr.UNDETERMINED),
    ("algorithm family", write_sr.ARTIFICIAL_INTELLIGENCE),
    ("the request", write_request.CLINICAL_INFORMATION),
    ("the request: why, and all else it says", write_request.INDICATION),
    ("the request: diagnoses and allergies", write_request.HISTORY),
    ("the request: laboratory values", write_request.LABORATORY),
    ("the request: age in years", write_request.AGE),
    ("the request: sex (CID 7455)", write_request.SEX),
    ("the request: prior studies", write_request.PRIOR),
    ("the request: the prior study", write_request.PRIOR_STUDY),
    ("a warning of the result, in words and by its code", codes.DCM.Comment),
    ("no result", write_not_analysable.SUMMARY_OF_ANALYSES),
    ("no result: could not be analysed", write_not_analysable.FAILED),
    ("no result: not for this model", write_not_analysable.NOT_ATTEMPTED),
)


def statement() -> str:
    """The statement as Markdown; the same on every run."""
    intro = """Made from the tables of the code by `python -m radserve.dicom_io.conformance`: do not edit. It follows
        PS3.2 for what this software does; what is not named here is not supported. Conformance alone does not prove
        that two systems work together: test with yours."""
    parts = (
        _overview,
        _network,
        _transfer_syntaxes,
        _statuses,
        _created,
        _content,
        _character_sets,
        _security,
        _user_agent,
    )
    lines = ["# DICOM conformance statement", "", *paragraph(intro)]
    for part in parts:
        lines += ["", *part()]
    return "\n".join(lines) + "\n"


def _overview() -> list[str]:
    intro = """radserve receives images, analyses them, and sends results: objects in the same study, always drafts that
        no one has verified. It changes no received object and sends none back."""
    return [
        "## 1. Overview",
        "",
        *paragraph(intro),
        "",
        *table(("network service", SCU, SCP), _services()),
        "",
        "Media interchange: files and DICOMDIRs are read from folders and archives; no media are written.",
    ]


def _services() -> list[tuple[str, str, str]]:
    images = sum(uid in IMAGE_STORAGE for uid in negotiation.SUPPORTED)
    return [
        ("Verification", "yes", "yes"),
        (f"Storage of images ({images} SOP classes)", "by C-GET only, as the SCP", "yes"),
        (f"Storage of results ({len(_created_classes())} SOP classes)", "yes", "no"),
        ("Storage Commitment Push Model", "yes", "no"),
        ("Query/Retrieve, study root: FIND (study, series, image), MOVE, GET", "yes", "no"),
    ]


def _network() -> list[str]:
    intro = f"""One application entity, whose title, host and port are settings. No asynchronous operations window and
        no extended negotiation but role selection, by which a peer that opens an association may be the SCP of
        {_names(negotiation.PEER_AS_SCP)}: it reports what it has committed."""
    limits = WireLimits()
    values = (
        ("application context", _named(negotiation.APPLICATION_CONTEXT)),
        ("implementation class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
        ("implementation version name", f"`{negotiation.IMPLEMENTATION_VERSION_NAME}`"),
        ("presentation contexts of an association", f"up to {negotiation.MAX_CONTEXTS}"),
        ("maximum PDU received, bytes", f"{limits.pdu_bytes}, a setting; a longer one ends the association"),
        ("time for the association request, s", f"{limits.negotiation_seconds:g}, a setting"),
        ("time for one PDU, s", f"{limits.pdu_seconds:g}, a setting"),
        ("time between two PDUs, s", f"{limits.idle_seconds:g}, a setting"),
        ("associations of one peer at once", f"{PeerPolicy().associations}, a setting"),
    )
    return [
        "## 2. Network",
        "",
        *paragraph(intro),
        "",
        *table(("item", "value"), values),
        "",
        "An association is rejected for these reasons (PS3.8 table 9-21):",
        "",
        *table(
            ("result", "source", "reason", "meaning"),
            ((one.result, one.source, one.reason, one.text) for one in negotiation.REJECTIONS),
        ),
        "",
        "### 2.1 SOP classes accepted",
        "",
        "Of the transfer syntaxes of a presentation context, one is chosen that is named here.",
        "",
        *table(("SOP class", "UID", "transfer syntaxes"), _accepted()),
        "",
        "### 2.2 SOP classes proposed (SCU)",
        "",
        *table(("SOP class", "UID", "for"), _proposed()),
        "",
        f"Transfer syntaxes proposed: {_names(negotiation.UNCOMPRESSED)}; with C-GET, for images, all of section 3.",
    ]


def _proposed() -> list[tuple[str, str, str]]:
    classes = (
        *((uid, "results") for uid in _created_classes()),
        (negotiation.VERIFICATION, "testing a peer"),
        (negotiation.STORAGE_COMMITMENT, "commitment of results"),
        (query_scu.STUDY_ROOT_FIND, "finding studies in an archive"),
        (query_scu.STUDY_ROOT_MOVE, "pulling studies from an archive"),
        (query_scu.STUDY_ROOT_GET, "pulling studies from an archive"),
    )
    return [(_name(uid), f"`{uid}`", purpose) for uid, purpose in classes]


def _accepted() -> list[tuple[str, str, str]]:
    every = frozenset(TRANSFER_SYNTAXES)
    return [
        (_name(uid), f"`{uid}`", "all of section 3" if taken == every else _names(sorted(taken)))
        for uid, taken in negotiation.SUPPORTED.items()
    ]


def _transfer_syntaxes() -> list[str]:
    syntaxes = sorted(TRANSFER_SYNTAXES, key=lambda uid: [int(part) for part in uid.split(".")])
    return [
        "## 3. Transfer syntaxes of images",
        "",
        "Received bytes are kept as they came; decoding is a separate step, in a process of its own with limits.",
        "",
        *table(("transfer syntax", "UID"), ((_name(uid), f"`{uid}`") for uid in syntaxes)),
    ]


def _statuses() -> list[str]:
    return [
        "## 4. Statuses of C-STORE",
        "",
        *table(
            ("status", "meaning", "the sender should"),
            ((f"`0x{status:04X}`", meaning, _advice(status)) for status, meaning in sorted(statuses.MEANINGS.items())),
        ),
        "",
        "Success is sent after the bytes, their name and their row in the index are on disk (fsync).",
    ]


def _advice(status: int) -> str:
    if statuses.is_success(status):
        return "go on"
    return "try later" if statuses.is_transient(status) else "not send it again as it is"


def _created() -> list[str]:
    numbers = {OutputKind.SR: write_sr.SERIES_NUMBER, **{kind: number for kind, (number, _) in SERIES.items()}}
    rows = [
        (
            f"`{kind}`",
            each.title,
            ", ".join(f"`{uid}`" for uid in each.sop_class_uids),
            ", ".join(sorted(each.modalities)) if each.modalities else "all",
            numbers[kind],
            ", ".join(role for role in DestinationRole if kind in default_kinds(role)),
        )
        for kind, each in OBJECTS.items()
    ]
    copied = f"""Attributes copied from the source where present; those of type 2 are empty where the source lacks them
        or where its value breaks its value representation: {", ".join(COPIED)}."""
    return [
        "## 5. Objects created",
        "",
        *table(("name", "object", "SOP class", "of modalities", "series number", "sent by default to a"), rows),
        "",
        *bullets(
            """Encoding: Explicit VR Little Endian. Study Instance UID, patient and study attributes are those of the
            source; each kind has a series of its own.""",
            """UIDs are derived from the study, its images, the digest of the model pack and what the requester said,
            those of the SR from its warnings, too: the same input gives the same UIDs and the same bytes. Content Date
            and Time are those of the study.""",
            """Every object says in words that it is an AI draft; SR is PRELIMINARY and UNVERIFIED, PARTIAL where
            instances were missing or series left out; PDF is UNVERIFIED; a Parametric Map has Content Qualification
            RESEARCH.""",
            """A negative result is an object, too: SR with Absent, a key object note, a presentation state, a picture
            and a report that say so. SEG and Parametric Map are of positive findings only.""",
            "A study that could not be analysed gets an SR that says so and why, and has the request as others have.",
            """An SR names the orders that the Request Attributes Sequence of its sources does, by accession number or
            Requested Procedure ID, in Referenced Request Sequence (0040,A370).""",
            "A radiograph gets no SEG and no Parametric Map: it has no place in the patient.",
            """Outlines (SR, presentation state) and segments (SEG) enclose the peak of the heat map, at half of its
            height.""",
            "Tracking Identifier and Tracking UID of a finding are the same in SR, SEG and presentation state.",
        ),
        "",
        *paragraph(copied),
    ]


def _content() -> list[str]:
    intro = """Comprehensive SR, template TID 1500 (root 126000, DCM, Imaging Measurement Report): a TID 1410 group for
        each finding with a POLYLINE in the source image (frame numbers for multi-frame sources), algorithm
        identification (TID 4019) with threshold, model version and pipeline digest; device observer (TID 1004). What
        the requester said stands before them in containers of CID 7001, a TEXT for each line, and comments with the
        warnings of the result (TID 1500 is extensible). A study without a result has one TID 1501 group with the
        summary of analyses and a comment (121106, DCM)."""
    finding = ("finding", "the pack's own code of each label, e.g. (233604007, SCT, Pneumonia)")
    others = ((what, f"({each.value}, {each.scheme_designator}, {each.meaning})") for what, each in CONCEPTS)
    return ["## 6. Content of the SR", "", *paragraph(intro), "", *table(("what", "code"), (finding, *others))]


def _character_sets() -> list[str]:
    terms = sorted(term for term in python_encoding if DEFINED_TERM.fullmatch(term))
    read = f"""Read, alone or by code extension where the standard has it: the default repertoire and
        {", ".join(f"`{term}`" for term in terms)}."""
    written = """Written: the character set of the source, so that names stay as they were; `ISO_IR 192` (UTF-8) where
        the object's own texts need more than ASCII or the source names a set that is not in this list. The pages of a
        PDF show Latin, Greek and Cyrillic; other characters are replaced, and the page says so."""
    return ["## 7. Character sets", "", *paragraph(read), "", *paragraph(written)]


def _security() -> list[str]:
    return [
        "## 8. Security",
        "",
        *bullets(
            f"""TLS by the BCP 195 profiles (PS3.15 annex B.9 to B.11): TLS 1.2 or later, cipher suites of forward
            secrecy and authenticated encryption (OpenSSL: `{tls.CIPHERS}` and those of TLS 1.3), no compression, no
            renegotiation; client certificates where the site names their authorities; a certificate can be tied to an
            AE title.""",
            "AE titles: only those listed are served unless the site says otherwise; quotas for each.",
            "No user identity negotiation, no digital signatures, no de-identification of what is sent.",
            "Headers and pixels are parsed in sandboxed processes with limits of memory and time; at receipt, headers "
            "without anything odd by a bounded reader of fixed elements.",
            "Logs hold no patient data.",
        ),
    ]


def _user_agent() -> list[str]:
    intro = f"""HTTP/1.1, TLS by https URLs with the system's authorities or the site's, an Authorization header for
        each host where the site has one. Redirects are not followed. JSON (`{web.JSON}`) is the media type of all but
        instances; an answer has at most {web.MAX_ANSWER_BYTES >> 20} MiB of it. Tried again later: no answer, and the
        statuses {", ".join(map(str, sorted(web.TRANSIENT)))}."""
    keys = ", ".join(qido.KEYS.values())
    rows = (
        ("STOW-RS", "`POST studies`", "one instance; stored is what the Store Instances Response names so"),
        ("QIDO-RS", "`GET studies`", f"keys: {keys}; pages by `limit` and `offset`"),
        ("QIDO-RS", "`GET studies/S/instances`", "what a study has; after an unseen end of a delivery: an instance"),
        ("WADO-RS", "`GET studies/S/series/E[/instances/I]`", f"Accept: `{ANY_SYNTAX}`"),
        ("UPS-RS", "`GET workitems`", "keys: ProcedureStepState=SCHEDULED and those of the site"),
        ("UPS-RS", "`GET workitems/W`", "the whole workitem, before each step"),
        ("UPS-RS", "`PUT workitems/W/state`", ", ".join(state.value for state in StepState if state != "SCHEDULED")),
        ("UPS-RS", "`POST workitems/W/subscribers/A`, `GET subscribers/A` (WebSocket)", "requests to cancel"),
        ("UPS-RS", "`POST workitems/W?T`", "progress, reason of cancellation, performed procedure with its outputs"),
    )
    ups = """As performer of workitems (IHE AIW-I, pull): inputs are taken from the Input Information Sequence (study,
        series, instances) and retrieved from the service that the site names, whatever retrieval URL the workitem
        states. Outputs name their Study, Series and SOP Instance UID and, by destination, a Retrieve AE Title or a
        Retrieve URL."""
    return [
        "## 9. DICOMweb, as user agent",
        "",
        *paragraph(intro),
        "",
        *table(("service", "transaction", "use"), rows),
        "",
        *paragraph(ups),
    ]


def _created_classes() -> list[str]:
    return [uid for each in OBJECTS.values() for uid in each.sop_class_uids]


def _name(uid: str) -> str:
    return f"{UID(uid).name}{' (retired)' if UID(uid).is_retired else ''}"


def _named(uid: str) -> str:
    return f"{_name(uid)} (`{uid}`)"


def _names(uids: Iterable[str]) -> str:
    return ", ".join(_name(uid) for uid in uids)


def main(arguments: Sequence[str]) -> None:
    """Write the statement to the named file, or to standard output."""
    if arguments:
        Path(arguments[0]).write_text(statement(), encoding="utf-8")
    else:
        sys.stdout.write(statement())


if __name__ == "__main__":
    main(sys.argv[1:])
