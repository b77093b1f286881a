"""The last re-evaluation as a monitoring system asks for it: one line and an exit code."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from radserve.server.cli import app
from radserve.server.reevaluation_command import State, last_state
from tests.support.operation import evaluation_record
from tests.support.reevaluating import Site, labelled

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC).timestamp()
WEEK = 168.0


def record(folder: Path, name: str, auroc: float) -> None:
    folder.mkdir(exist_ok=True)
    text = json.loads(evaluation_record("a" * 64, auroc=auroc))
    text["model"] |= {"version": "1.0.0"}
    (folder / f"{name}.json").write_text(json.dumps({"areas": {}, "failed": {}, "record": text}))


@pytest.mark.parametrize(
    ("records", "state", "words"),
    [
        ({}, State.UNKNOWN, "no re-evaluation has ended yet"),
        ({"2026-03-07T12-00-00Z": 0.95}, State.OK, "passed: Pneumonia auroc 0.9500"),
        ({"2026-02-20T12-00-00Z": 0.95}, State.WARNING, "none came since: 384 h ago, expected every 168 h"),
        ({"2026-03-07T12-00-00Z": 0.8}, State.CRITICAL, "Pneumonia auroc: value 0.8 is not >= 0.9"),
        ({"2026-02-20T12-00-00Z": 0.8}, State.CRITICAL, "tiny 1.0.0 at 2026-02-20T12-00-00Z"),
        ({"2026-02-28T12-00-00Z": 0.8, "2026-03-07T12-00-00Z": 0.95}, State.OK, "2026-03-07"),  # the newest counts
    ],
)
def test_the_newest_record_decides(tmp_path: Path, records: dict[str, float], state: State, words: str) -> None:
    for name, auroc in records.items():
        record(tmp_path / "reevaluations", name, auroc)
    found, text = last_state(tmp_path / "reevaluations", WEEK, NOW)
    assert found is state
    assert words in text


def test_a_record_that_cannot_be_read_is_not_taken_for_a_good_one(tmp_path: Path) -> None:
    record(tmp_path, "2026-03-07T12-00-00Z", 0.95)
    (tmp_path / "2026-03-08T00-00-00Z.json").write_text("{")
    assert last_state(tmp_path, WEEK, NOW) == (
        State.UNKNOWN,
        "2026-03-08T00-00-00Z.json cannot be read (JSONDecodeError)",
    )


async def test_what_a_run_wrote_is_understood(tmp_path: Path) -> None:
    site = Site(tmp_path)
    scores = await site.scores()
    await site.job(labelled(scores, wrong=0)).once()
    state, text = last_state(tmp_path / "runs", WEEK, site.clock.now())
    assert state is State.OK
    assert text.startswith("re-evaluation of tiny 1.0.0 at ") and text.endswith("passed: Pneumonia auroc 1.0000")
    site.clock.advance(60)
    await site.job(labelled(scores, wrong=2)).once()
    assert last_state(tmp_path / "runs", WEEK, site.clock.now())[0] is State.CRITICAL


def test_the_command_prints_one_line_and_ends_with_the_code_of_the_state(tmp_path: Path) -> None:
    def run() -> tuple[int, str]:
        found = CliRunner().invoke(app, ["models", "alarm", "--data-dir", str(tmp_path)])
        return found.exit_code, found.stdout

    assert run() == (3, "UNKNOWN: no re-evaluation has ended yet\n")
    record(tmp_path / "reevaluations", "2026-03-07T12-00-00Z", 0.8)
    code, printed = run()
    assert code == 2
    assert printed.startswith("CRITICAL: re-evaluation of tiny 1.0.0") and printed.count("\n") == 1
