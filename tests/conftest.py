"""What holds for every test."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

# A slow machine is no failure: no example has a time, and no search for examples is "too slow".
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _no_log_level_of_a_test_before() -> None:
    """A command that was run in this process has set what the root logger lets through, as it does in its own."""
    logging.getLogger().setLevel(logging.WARNING)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First the integration tests, then the rest, and of both the files with the most slow tests before the others.

    So the server that the former share has ended when the latter look at this process's descriptors, children and logs;
    and at the end of a run no process waits for another's long file.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    integration = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: (item.path not in integration, -slow[item.path]))
