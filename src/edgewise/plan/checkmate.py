"""Checkmate: the optimal rematerialization of arXiv 1910.02653 section 4.3, nothing paged.

Its program is POET's without SSd, MIn and MOut (`poet.py`): so it is that, on a device with no tier to page
to.
"""

import msgspec

from edgewise.devices import Memory
from edgewise.plan.poet import Poet
from edgewise.plan.problem import Problem


class Checkmate(Poet):
    """The model; used as `Poet` is."""

    def __init__(self, problem: Problem) -> None:
        device = msgspec.structs.replace(problem.device, memory=Memory(problem.device.memory.ram))
        super().__init__(Problem(problem.graph, device, problem.budget, problem.minimize, problem.cost_model))
