"""What holds for every test: a busy machine is no counterexample."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Hypothesis's own profile (of CI, where that is set) without limits on an example's time.
settings.register_profile(
    "untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")
