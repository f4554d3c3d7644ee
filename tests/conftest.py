"""What holds for all tests: Hypothesis measures no time, since machines are slow or busy as they please."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("roost", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("roost")
