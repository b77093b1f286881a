"""What a preprocessing worker imports first: MONAI without the optional packages that no allowed transform uses.

`import monai` imports every module of MONAI, and with them whatever it can use and finds installed: torchvision,
transformers, scikit-learn, matplotlib and more. Hidden from it, they are absent for MONAI and the worker is ready in
less than half the CPU time. For worker processes alone: elsewhere a user may want these parts of MONAI.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast

from radserve.pipelines.preprocess.allowed import UNUSED_BY_MONAI


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """Within the block an import of these packages fails as if they were not installed."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = cast(ModuleType, None)  # the import system's own mark of a module that is not there
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with absent(*UNUSED_BY_MONAI):
    import radserve.pipelines.preprocess.transforms  # noqa: F401
