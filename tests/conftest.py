"""Settings of the property tests: no example fails for being slow, since a shared machine may be slow."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "edgewise", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("edgewise")
