"""Checkpoints of the Hugging Face hub: fetched as a folder at one commit, then read as a local one is.

Where the hub is and who asks is up to huggingface_hub: HF_ENDPOINT, HF_TOKEN, HF_HOME.
"""

from __future__ import annotations

from pathlib import Path

from radserve.errors import ErrorCode, PackError

PREFIX = "hf-hub:"
# What the readers of folders take; weights in other forms (flax, tensorflow, other pickles) stay where they are.
FILES = (
    *("*.json", "*.txt", "*.model", "*.safetensors", "*.onnx"),
    *("open_clip_pytorch_model.bin", "models/model.pt", "models/model.ts"),
)


def fetch(source: str) -> tuple[Path, str]:
    """The folder of `hf-hub:OWNER/NAME[@REVISION]` in the hub's cache, and its exact name, hf-hub:OWNER/NAME@COMMIT.

    What is in the cache already is not fetched again. Raises PackError PACK_SOURCE where it cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    name, _, revision = source.removeprefix(PREFIX).partition("@")
    try:
        folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=list(FILES)))
    except (HfHubHTTPError, OSError, ValueError) as error:
        message = f"{source!r} cannot be had from the hub: {type(error).__name__}"
        raise PackError(ErrorCode.PACK_SOURCE, message, detail=f"{message}: {error}") from error
    return folder, f"{PREFIX}{name}@{folder.name}"
