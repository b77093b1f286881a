"""The steps of a training run are done once; what failed is done again; another plan is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from radserve.errors import ErrorCode, PackError
from radserve.models.train.loop import Recipe
from radserve.models.train.steps import Steps


def test_a_step_that_was_done_is_not_done_again(tmp_path: Path) -> None:
    done: list[str] = []
    for _ in range(2):
        Steps(tmp_path).once("members", lambda: done.append("members"))
        Steps(tmp_path).once("decoder", lambda: done.append("decoder"))
    assert done == ["members", "decoder"] and list(Steps(tmp_path).seconds) == done


def test_a_step_that_failed_is_done_again(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Steps(tmp_path).once("gates", fail)
    done: list[str] = []
    Steps(tmp_path).once("gates", lambda: done.append("gates"))
    assert done == ["gates"]


def test_a_folder_goes_on_with_its_own_plan_alone(tmp_path: Path) -> None:
    Steps(tmp_path).claim(Recipe())
    Steps(tmp_path).claim(Recipe())
    with pytest.raises(PackError, match="holds a run with other settings") as caught:
        Steps(tmp_path).claim(replace(Recipe(), steps=3))
    assert caught.value.code is ErrorCode.PACK_INVALID
