"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A slow machine is no failure: no example has a time, and no search for examples is "too slow".
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("patient")
