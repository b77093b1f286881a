"""Prompt sets of a site."""

from __future__ import annotations

from pathlib import Path

from radserve.models.prompts.prompt_set import PromptSetFile, read_prompt_set

SET = """\
id = "site-set"
version = "2.0"
pack = "cxr-bus-mini"

[labels."Pneumonia"]
positive = ["chest radiograph consistent with {finding} .", "positive for {finding} ."]
negative = ["no sign of {finding} ."]
synonyms = ["lung infection"]

[labels."Malignant breast lesion"]
positive = ["suspicious for {finding} ."]
negative = ["negative for {finding} ."]

[tasks.view.options]
frontal = ["frontal radiograph ."]
lateral = ["lateral radiograph ."]
"""


def read(folder: Path, text: str = SET) -> PromptSetFile:
    path = folder / "site.toml"
    path.write_text(text, encoding="utf-8")
    return read_prompt_set(path)
