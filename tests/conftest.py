"""Settings of the property tests: no example fails for being slow, since a shared machine may be slow.

`make test` tries the same examples each time, so that whether a change passes is up to the change. Others are
tried by `make explore`; what that finds becomes an `@example` of its test.
"""

from hypothesis import HealthCheck, settings

_common = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("same", _common, derandomize=True)
settings.register_profile("explore", _common, max_examples=1000)
settings.load_profile("same")
