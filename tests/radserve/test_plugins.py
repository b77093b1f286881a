"""What installed packages add is found by entry points; what cannot be used is named, and the rest goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.plugins import API_VERSION, Point, load
from tests.support.plugin_site import install


@runtime_checkable
class Greeter(Protocol):
    def greet(self, name: str) -> str: ...


GREETERS = Point[Greeter]("radserve.test_greeters", Greeter, frozenset({"own"}))
GREETER = "class Greeter:\n    def greet(self, name):\n        return f'hello {name}'\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_without_packages_there_is_none() -> None:
    assert load(GREETERS) == {}


def test_a_class_is_made_and_an_object_is_taken_as_it_is(site: Path) -> None:
    code = GREETER + "ready = Greeter()\n"
    install(site, "polite", code, test_greeters="made = polite_plugin:Greeter\ntaken = polite_plugin:ready")
    found = load(GREETERS)
    assert {name: plugin.usable().greet("you") for name, plugin in found.items()} == dict.fromkeys(
        ("made", "taken"), "hello you"
    )
    assert str(found["made"]) == "plug-in 'made' of polite 1.0"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import no_such_package_there\n", "ModuleNotFoundError: No module named 'no_such_package_there'"),
        ("raise SystemExit('bye')\n", "SystemExit: bye"),
        ("class Other: pass\n", "has no attribute 'Greeter'"),
        ("class Greeter:\n    def __init__(self, needed): pass\n", "missing 1 required positional argument: 'needed'"),
        ("class Greeter: pass\n", "broken_plugin:Greeter is a Greeter, expected a Greeter"),
        (f"RADSERVE_PLUGIN_API = {API_VERSION + 1}\n{GREETER}", "it is for plug-in API 2, this radserve has 1"),
    ],
)
def test_one_that_cannot_be_used_is_named_and_leaves_the_others(site: Path, code: str, problem: str) -> None:
    install(site, "broken", code, test_greeters="broken = broken_plugin:Greeter")
    install(site, "working", GREETER, test_greeters="working = working_plugin:Greeter")
    found = load(GREETERS)
    assert found["working"].usable().greet("you") == "hello you"
    assert problem in found["broken"].problem
    with pytest.raises(RadserveError, match=r"plug-in 'broken' of broken 1\.0 cannot be used") as refusal:
        found["broken"].usable()
    assert refusal.value.code is ErrorCode.PLUGIN_FAILED


def test_a_name_of_ours_and_a_name_of_two_packages_are_refused(site: Path) -> None:
    install(site, "first", GREETER, test_greeters="own = first_plugin:Greeter\nsame = first_plugin:Greeter")
    install(site, "second", GREETER, test_greeters="same = second_plugin:Greeter")
    found = load(GREETERS)
    assert (found["own"].value, found["own"].problem) == (None, "radserve has its own of this name")
    assert (found["same"].value, found["same"].package) == (None, "first 1.0 and second 1.0")
