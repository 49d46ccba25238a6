"""Plans: what to keep, recompute and page, in what order and where; and the check that nothing runs without."""

from edgewise.plan.check import check, replay
from edgewise.plan.nouns import (
    Budget,
    Certificate,
    Compute,
    Free,
    Objective,
    PageIn,
    PageOut,
    Plan,
    Progress,
    ProgressCallback,
    Step,
)

__all__ = [
    "Budget",
    "Certificate",
    "Compute",
    "Free",
    "Objective",
    "PageIn",
    "PageOut",
    "Plan",
    "Progress",
    "ProgressCallback",
    "Step",
    "check",
    "replay",
]
