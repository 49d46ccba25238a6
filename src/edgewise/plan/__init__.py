"""Plans: what to keep, recompute and page, in what order and where; and the check before any of it runs."""

from edgewise.plan.check import check, replay
from edgewise.plan.file import decode_plan, encode_plan, load_plan, save_plan
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
from edgewise.plan.pareto import Curve, Point, TradeOff, decode_curve, encode_curve, trade_off
from edgewise.plan.planner import SOLVERS, Minimum, make_plan, minimum_ram, plain_plan

__all__ = [
    "SOLVERS",
    "Budget",
    "Certificate",
    "Compute",
    "Curve",
    "Free",
    "Minimum",
    "Objective",
    "PageIn",
    "PageOut",
    "Plan",
    "Point",
    "Progress",
    "ProgressCallback",
    "Step",
    "TradeOff",
    "check",
    "decode_curve",
    "decode_plan",
    "encode_curve",
    "encode_plan",
    "load_plan",
    "make_plan",
    "minimum_ram",
    "plain_plan",
    "replay",
    "save_plan",
    "trade_off",
]
