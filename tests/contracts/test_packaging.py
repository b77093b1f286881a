"""The wheel is exactly radserve/, with every package of the tree in it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = {
    "src/radserve": "radserve",
    "dicom_io": "radserve.dicom_io",
    "evaluation": "radserve.evaluation",
    "models": "radserve.models",
    "pipelines": "radserve.pipelines",
    "server": "radserve.server",
    "proto/radserve/v1": "radserve.v1",
}


def packages_in_the_tree() -> set[str]:
    found = set()
    for folder, package in HOUSE.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            below = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join((package, *below)))
    return found


def modules_in_the_tree() -> set[str]:
    return {
        "/".join((package.replace(".", "/"), path.relative_to(ROOT / folder).as_posix()))
        for folder, package in HOUSE.items()
        for path in (ROOT / folder).rglob("*.py")
    }


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_listed_packages_are_the_folders() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    assert listed == packages_in_the_tree()


def test_the_wheel_contains_radserve_alone(wheel_names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel_names}
    assert tops == {"radserve", next(top for top in tops if top.endswith(".dist-info"))}


def test_the_wheel_contains_every_module(wheel_names: set[str]) -> None:
    assert modules_in_the_tree() - wheel_names == set()


def test_the_wheel_contains_the_default_pack_the_api_and_the_type_marker(wheel_names: set[str]) -> None:
    pack = {
        f"radserve/models/packs/cxr-bus-mini/{path.name}" for path in (ROOT / "models/packs/cxr-bus-mini").iterdir()
    }
    assert len(pack) > 5
    wanted = {"radserve/py.typed", "radserve/v1/inference.proto", "radserve/v1/inference_pb2.pyi", *pack}
    assert wanted - wheel_names == set()
