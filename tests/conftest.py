"""Settings for the whole suite.

The Hypothesis profile is bounded so that the whole suite stays within minutes on two shared cores;
``HYPOTHESIS_PROFILE=deep`` looks a hundred times longer. A failing example prints how to repeat it.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    max_examples=40,
    deadline=None,  # timings belong in bench/
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("deep", parent=settings.get_profile("default"), max_examples=4000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
