"""What the actions of a relaxation cost, and the limits on it: shared by the bounds.

Every row is loosened by twice the tolerance of the solver, so that what it proves of the program holds for
every plan.
"""

from edgewise.devices import Cost
from edgewise.plan.milp import INFINITY, Model, Watch
from edgewise.plan.problem import Problem

ROW_SCALE = 1e4
"""Rows in bytes, seconds or joules are scaled to this right-hand side."""

SLACK = 1e-6
"""HiGHS may violate a row by that much, relative to the scaled right-hand side; rows are twice as loose."""

Terms = list[tuple[int, float]]


class Ledger:
    """A program whose objective is an overhead, in units of `unit`; `limit` adds the rows that bound it."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.model = problem, Model()
        costs = (*problem.op_costs, *problem.read_costs, *problem.write_costs)
        positive = [price for cost in costs if (price := problem.primary(cost)) > 0]
        self.unit = sum(positive) / len(positive) if positive else 1.0
        self.scale = max(1, problem.budget.ram_bytes) / ROW_SCALE
        self.seconds: Terms = []
        self.joules: Terms = []
        self.link: Terms = []

    def priced(self, cost: Cost, link: float = 0.0, *, integer: bool = True) -> int:
        """A variable in [0, 1] for an action that costs `cost` and keeps the link busy for `link` seconds."""
        variable = self.model.binary(self.problem.primary(cost) / self.unit, integer=integer)
        self.seconds.append((variable, cost.seconds))
        self.joules.append((variable, cost.joules))
        self.link.append((variable, link))
        return variable

    def wear(self, written: Terms) -> None:
        """`written` bytes keep the limit of the budget, if it has one."""
        limit = self.problem.budget.written_bytes
        if limit is not None:
            unit = max(1, limit) / ROW_SCALE
            self.model.row([(var, x / unit) for var, x in written], -INFINITY, limit / unit + 2 * SLACK)

    def memory_row(self, terms: Terms, room: int) -> None:
        """`terms`, in bytes, take no more than `room`."""
        self.model.row([(var, x / self.scale) for var, x in terms], -INFINITY, room / self.scale + 2 * SLACK)

    def load(self, terms: Terms) -> int:
        """A variable, in units of `scale` bytes, for no less than the bytes of `terms`."""
        load = self.model.variable(0.0, INFINITY, 0.0)
        self.model.row([(load, -1.0), *((var, x / self.scale) for var, x in terms)], -INFINITY, 2 * SLACK)
        return load

    def limit(self) -> None:
        """The limits of the budget; and where transfers overlap, compute waits while the link is busier."""
        problem = self.problem
        budget, plain, idle = problem.budget, problem.plain_cost, problem.device.compute.watts_idle
        span = max(plain.seconds, 1e-300)
        if problem.overlaps:
            cost = Cost(span, span * idle)
            waiting = self.model.variable(0.0, INFINITY, problem.primary(cost) / self.unit)
            busy = [(var, x / span) for var, x in self.link if x]
            computing = [(var, -x / span) for var, x in self.seconds if x]
            self.model.row([*busy, *computing, (waiting, -1.0)], -INFINITY, 1.0 + 2 * SLACK)
            self.seconds.append((waiting, span))
            self.joules.append((waiting, span * idle))
        for limit, spent, terms in (
            (budget.seconds, plain.seconds, self.seconds),
            (budget.joules, plain.joules, self.joules),
        ):
            if limit is not None:
                unit = max(spent, limit, 1e-300) / ROW_SCALE
                self.model.row(
                    [(var, x / unit) for var, x in terms], -INFINITY, (limit - spent) / unit + 2 * SLACK
                )

    def solve(self, *, time_limit: float, gap: float, watch: Watch | None = None) -> float:
        """The overhead that was proved, in units of the objective; infinite if nothing keeps the rows."""
        solution = self.model.solve(time_limit=time_limit, gap=gap, watch=watch)
        if solution.status == "infeasible":
            return INFINITY
        return max(0.0, solution.bound) * self.unit * (1 - SLACK) if solution.bound > -INFINITY else 0.0
