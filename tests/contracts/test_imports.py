"""Dependencies flow one way (docs/architecture.md): each package is imported in a fresh process."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

IMPORT_ALL = """
import importlib, json, pkgutil, sys
package, exempt = sys.argv[1], [each for each in sys.argv[2].split(",") if each]
root = importlib.import_module(package)
names = [package]
if len(sys.argv) > 3:  # the core: its own modules, not the packages below
    names += [f"{package}.{each.name}" for each in pkgutil.iter_modules(root.__path__) if not each.ispkg]
else:
    names += [each.name for each in pkgutil.walk_packages(root.__path__, package + ".")]
for name in names:
    if not name.endswith("__main__") and not any(f"{name}.".startswith(f"{each}.") for each in exempt):
        importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


def modules_after_importing(package: str, *, exempt: str = "", shallow: bool = False) -> set[str]:
    arguments = [package, exempt, *(["shallow"] if shallow else [])]
    run = subprocess.run([sys.executable, "-c", IMPORT_ALL, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


@pytest.mark.parametrize(
    ("package", "exempt", "forbidden"),
    [
        (
            "radserve.dicom_io",
            "",
            ["torch", "monai", "tritonclient", "radserve.models", "radserve.pipelines", "radserve.server"],
        ),
        (
            "radserve.models",
            # tools of their own; the backend module runs inside Triton's own Python process
            "radserve.models.train,radserve.models.export,radserve.models.compress,radserve.models.importing,radserve.models.tuning,"
            "radserve.models.triton.backend_model",
            ["torch", "pydicom", "radserve.pipelines", "radserve.server", "radserve.dicom_io"],
        ),
        (
            "radserve.pipelines",
            # imported at call time, in a worker
            "radserve.pipelines.preprocess.transforms,radserve.pipelines.preprocess.worker,"
            "radserve.pipelines.preprocess.plugin_step",
            ["torch", "monai", "pydicom", "fastapi", "tritonclient", "radserve.server", "radserve.dicom_io"],
        ),
        ("radserve.evaluation", "", ["torch", "pydicom", "tritonclient", "radserve.server"]),
        ("radserve.server", "", ["torch", "monai", "tensorrt"]),
    ],
)
def test_a_package_does_not_import_what_it_must_not(package: str, exempt: str, forbidden: list[str]) -> None:
    modules = modules_after_importing(package, exempt=exempt)
    assert sorted(modules.intersection(forbidden)) == []


def test_the_core_imports_the_standard_library_and_numpy_alone() -> None:
    modules = modules_after_importing("radserve", shallow=True)
    tops = {name.partition(".")[0] for name in modules}
    baseline = {name.partition(".")[0] for name in modules_of_a_bare_interpreter()}
    foreign = tops - baseline - set(sys.stdlib_module_names) - {"numpy", "radserve"}
    assert sorted(name for name in foreign if not name.startswith(("_", "mtrand", "cython_runtime"))) == []
    below = {name for name in modules if name.startswith("radserve.") and name.count(".") > 1}
    assert below == set()


def test_the_contract_would_see_a_forbidden_import() -> None:
    assert "pydicom" in modules_after_importing("radserve.dicom_io")


def sources() -> dict[str, ast.Module]:
    """The modules of the project by name, as their folders are mapped to packages."""
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    found = {}
    for package, folder in folders.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = ast.parse(path.read_text())
    return found


def imports_between(modules: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Which modules each imports, inside functions and for type checkers, too."""
    graph: dict[str, set[str]] = {}
    for name, tree in modules.items():
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        found = {f"{node.module}.{each.name}" for node in nodes for each in node.names}
        graph[name] = {each for each in found | {str(node.module) for node in nodes} if each in modules} - {name}
    return graph


def test_no_module_imports_one_that_imports_it() -> None:
    graph = imports_between(sources())
    assert len(graph) > 500
    TopologicalSorter(graph).prepare()  # raises CycleError, which names them


def test_a_circle_of_imports_would_be_seen() -> None:
    modules = {"a.b": ast.parse("def f():\n    from a import c"), "a.c": ast.parse("from a.b import f")}
    with pytest.raises(CycleError, match=r"a\.b.*a\.c|a\.c.*a\.b"):
        TopologicalSorter(imports_between(modules)).prepare()


def test_what_test_modules_share_lies_in_a_module_of_support() -> None:
    pattern = re.compile(r"^\s*(?:from|import) (tests[\w.]*\.test_\w+)", re.MULTILINE)
    shared = {path.name: pattern.findall(path.read_text()) for path in (ROOT / "tests").rglob("*.py")}
    assert len(shared) > 300
    assert {name: found for name, found in shared.items() if found} == {}


def modules_of_a_bare_interpreter() -> set[str]:
    code = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))
