"""TorchScript, which is code: loaded where it can do nothing but compute."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from radserve.models.importing.imported import refused

MOST_CODE = 1 << 26
# The operators of TorchScript that write or read files, or call other machines.
_OUTSIDE = re.compile(rb"\b(save|from_file|load_tensor|rpc_sync|rpc_async|rpc_remote)\b")


def load_script(path: Path) -> Any:
    """The module in a TorchScript archive, on the CPU. Raises PACK_INVALID.

    Its code is read as text first: loading may run some of it (`__setstate__`). Code with an operator that reaches out
    of the process is refused by the operator's name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sources = [each for each in archive.infolist() if each.filename.endswith(".py")]
            if sum(each.file_size for each in sources) > MOST_CODE:
                raise refused(f"{path.name!r} holds more than {MOST_CODE} bytes of code")
            reaching = [found for each in sources for found in _OUTSIDE.findall(archive.read(each))]
        if reaching:
            raise refused(f"{path.name!r} holds TorchScript that reaches out of the process ({reaching[0].decode()!r})")
        return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise refused(f"{path.name!r} is not TorchScript", error) from error
