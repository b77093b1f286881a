"""The `prompts.toml` of a pack: the prompt pairs of every label, under a version of their own."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from radserve.models.train.wordings import WORDINGS

PROMPTS_VERSION = "1.0.0"

Prompts = Mapping[str, tuple[Sequence[str], Sequence[str]]]
"""Label name to its positive and its negative prompts."""


def write_prompts(path: Path) -> None:
    """Write the prompts of this project's wordings."""
    lines = [f'version = "{PROMPTS_VERSION}"']
    for wording in WORDINGS:
        lines += ["", f'[labels."{wording.label}"]']
        for key, state in (("positive", True), ("negative", False)):
            lines += [f"{key} = [", *(f"    {json.dumps(pair.of(state))}," for pair in wording.prompts), "]"]
    path.write_text("\n".join(lines) + "\n")


def load_prompts(path: Path) -> Prompts:
    """Read the prompts of a pack or checkpoint folder's `prompts.toml`."""
    labels = tomllib.loads(path.read_text())["labels"]
    return {name: (sides["positive"], sides["negative"]) for name, sides in labels.items()}
