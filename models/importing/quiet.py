"""What other libraries say while a checkpoint is read and exported is not for who imports it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep what libraries tell of their steps from the reader: open_clip says "initialized randomly" of a model whose
    weights are loaded a moment later, and the exporters tell of every graph. Errors are raised and come through."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "transformers")]
    levels = [each.level for each in loggers]
    root = logging.getLogger()
    by_root = _NotOfTheRootLogger()
    for each in loggers:
        each.setLevel(logging.ERROR)
    root.addFilter(by_root)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="torch\\..*|onnxscript\\..*|open_clip\\..*")
            yield
    finally:
        root.removeFilter(by_root)
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


class _NotOfTheRootLogger(logging.Filter):
    """Of what is said to the root logger itself, as open_clip does and nothing of ours, only errors pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR
