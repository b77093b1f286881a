"""A package of someone else: a folder with a module and the metadata that pip would have left."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def install(site: Path, package: str, code: str, **points: str) -> Path:
    """Put `package` 1.0 in `site`: its module `package`_plugin, and entry points as lines of each group."""
    folder = site / f"{package}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    text = "".join(f"[radserve.{group}]\n{lines}\n" for group, lines in points.items())
    (folder / "entry_points.txt").write_text(text)
    (site / f"{package}_plugin.py").write_text(code)
    sys.modules.pop(f"{package}_plugin", None)  # that of another test
    importlib.invalidate_caches()
    return site
