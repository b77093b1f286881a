"""kill -9 at every point of a study's way: afterwards there is exactly one result, delivered exactly once."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.dicoms import uid
from tests.support.workflow_process import INSTANCES, points

ROOT = Path(__file__).parents[2]


def run_rounds(root: Path, rounds: list[str], *options: str) -> list[int]:
    """The exit status of each round, and of a last one without a kill."""
    command = [sys.executable, "-m", "tests.support.workflow_process", str(root), *options]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        found = []
        for number, point in enumerate([*rounds, "-"]):
            # A sender that got no acknowledgement sends again: the next round of the same study does that.
            for study, at in ((number, point), (number, "-")) if point.startswith(RECEIVING) else ((number, point),):
                process.stdin.write(f"study{study} {at}\n")
                process.stdin.flush()
                found.append(int(process.stdout.readline()))
        process.stdin.close()
    return found


RECEIVING = ("tree.", "index.")


@pytest.mark.slow
@pytest.mark.parametrize("half", [0, 1])
def test_a_process_that_is_killed_at_any_point_leaves_one_result_delivered_once(tmp_path: Path, half: int) -> None:
    rounds = [point for point in points() if point.startswith(RECEIVING)] if half == 0 else []
    rounds += [point for point in points() if not point.startswith(RECEIVING)][half::2] * 2
    statuses = run_rounds(tmp_path, rounds)
    assert statuses.count(-signal.SIGKILL) == len(rounds), "each round was killed at its point"
    assert set(statuses) == {0, -signal.SIGKILL} and statuses[-1] == 0

    studies = len(rounds) + 1
    with sqlite3.connect(tmp_path / "index.db") as database:
        database.row_factory = sqlite3.Row
        results = database.execute("SELECT * FROM results").fetchall()
        deliveries = database.execute("SELECT * FROM deliveries").fetchall()
        assert database.execute("SELECT count(*) FROM instances").fetchone()[0] == studies * INSTANCES
        assert database.execute("SELECT count(*) FROM quarantine").fetchone()[0] == 0
        assert {row["state"] for row in database.execute("SELECT state FROM studies")} == {"delivered"}
        last = Counter(row["study_instance_uid"] for row in results if row["revision"] == 1)
    assert last == {uid("study", f"study{number}"): 1 for number in range(studies)}
    folders = {path.name for path in (tmp_path / "results").iterdir() if path.name != ".incoming"}
    assert folders == {row["result_uid"] for row in results}
    assert not list((tmp_path / "results" / ".incoming").iterdir())
    assert {row["state"] for row in deliveries} == {"delivered"} and len(deliveries) == 2 * len(results)
    sent = Counter((tmp_path / "pacs" / "log").read_text().splitlines())
    assert sent == {f"pacs {row['sop_instance_uid']}": 1 for row in deliveries}


def test_where_the_destination_cannot_be_asked_an_unseen_end_is_one_more_sending_of_the_same(tmp_path: Path) -> None:
    """Also the proof that the count of sendings sees a second one."""
    assert run_rounds(tmp_path, ["sender.send:after"], "no-probe") == [-signal.SIGKILL, 0]
    sent = Counter((tmp_path / "pacs" / "log").read_text().splitlines())
    assert sorted(sent.values()) == [1, 1, 1, 2]
    assert len(list((tmp_path / "pacs").glob("pacs-*"))) == 4
