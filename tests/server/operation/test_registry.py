"""What was decided about packs survives, and damage to it is told and not guessed around."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import pytest

from radserve.errors import StorageError
from radserve.server.operation.registry import KEPT_PROMOTIONS, PackState, PackVersion, Registry

A, B, C = (PackVersion(f"1.{number}.0", str(number) * 64) for number in range(3))


def test_states_are_read_as_they_were_written(tmp_path: Path) -> None:
    states = {
        "one": PackState((A, B), (C,), (C,), MappingProxyType({A: "too old"})),
        "two": PackState(loaded=(B,), first=C),
    }
    Registry(tmp_path / "data" / "models.json").write(states)
    assert Registry(tmp_path / "data" / "models.json").read() == states
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["models.json"]


def test_without_a_file_nothing_was_decided(tmp_path: Path) -> None:
    assert Registry(tmp_path / "models.json").read() == {}


@pytest.mark.parametrize(
    "content",
    [
        *(b"{", b"[]", b'{"schema": "other", "packs": {}}', b'{"schema": "radserve-models/1"}'),
        *(b"\xff", b"[" * 100_000, b'{"schema": "radserve-models/1", "packs": []}'),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "models.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"models\.json"):
        Registry(tmp_path / "models.json").read()


def test_a_file_of_before_knows_no_first_version(tmp_path: Path) -> None:
    table = {"promoted": [], "loaded": [], "shadows": [], "deprecated": []}
    (tmp_path / "models.json").write_text(json.dumps({"schema": "radserve-models/1", "packs": {"one": table}}))
    assert Registry(tmp_path / "models.json").read() == {"one": PackState()}


def test_the_first_promotion_remembers_what_answered_before() -> None:
    state = PackState(loaded=(B,), shadows=(B,)).with_promoted(B, before=A)
    assert (state.active, state.previous, state.loaded, state.shadows) == (B, A, (), ())
    assert state.rolled_back().active == A
    assert state.rolled_back().previous is None


def test_rolling_back_goes_to_the_version_promoted_last() -> None:
    state = PackState().with_promoted(B, A).with_promoted(C, None)
    assert (state.active, state.previous) == (C, B)
    assert state.rolled_back().active == B
    again = state.rolled_back().with_promoted(C, None)
    assert again.promoted == (A, B, C)


def test_a_version_stands_in_the_history_once_and_the_history_is_bounded() -> None:
    state = PackState().with_promoted(B, A).with_promoted(A, None)
    assert state.promoted == (B, A)
    for number in range(2 * KEPT_PROMOTIONS):
        state = state.with_promoted(PackVersion(f"2.{number}.0", "0" * 64), None)
    assert len(state.promoted) == KEPT_PROMOTIONS


def test_what_stays_loaded_is_active_previous_asked_for_or_a_shadow() -> None:
    state = PackState((A, B), (C,), ())
    assert state.kept == {A, B, C}
    assert state.with_promoted(PackVersion("3.0.0", "3" * 64), None).kept == {B, C, PackVersion("3.0.0", "3" * 64)}
    assert state.without(A).promoted == (B,)
