"""Whether delivered drafts say what the classifier decides, and how often either is right, from collected scores.

    python benchmarks/delivered_drafts.py SCORES.csv ...

SCORES.csv is what `radserve evaluate collect` writes: what each draft asserts as it was delivered (a withheld text
asserts nothing), the probability with its threshold, and the true label.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Drafts:
    """Counts of one finding: `contradicting` drafts assert something else than the decision, or both states.

    `decision_right` and `text_right` are of the delivered texts that assert a state.
    """

    studies: int
    delivered: int
    contradicting: int
    decision_right: int
    text_right: int


def count(rows: Sequence[dict[str, str]]) -> Drafts:
    """Count the rows (one a study) of one finding."""
    said = [each for each in rows if each["report_says"] in ("present", "absent", "both")]
    decided = [float(each["probability"]) >= float(each["threshold"]) for each in said]
    stated = [{"present": True, "absent": False}.get(each["report_says"]) for each in said]
    true = [each["label"] == "1" for each in said]
    return Drafts(
        studies=len(rows),
        delivered=len(said),
        contradicting=sum(one is not other for one, other in zip(stated, decided, strict=True)),
        decision_right=sum(one is other for one, other in zip(decided, true, strict=True)),
        text_right=sum(one is other for one, other in zip(stated, true, strict=True)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scores", type=Path, nargs="+")
    for path in parser.parse_args().scores:
        by_finding = defaultdict(list)
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                by_finding[row["finding"]].append(row)
        print(json.dumps({path.name: {name: asdict(count(rows)) for name, rows in by_finding.items()}}, indent=2))


if __name__ == "__main__":
    main()
