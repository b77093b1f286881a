"""What holds for every test."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

# A slow machine is no failure: no example has a time, and no search for examples is "too slow".
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with the most slow tests come first: at the end of a run no process waits for another's long file."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    integration = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: (-slow[item.path], item.path not in integration))
