"""POET's mixed-integer program, as published (arXiv 2207.07697): the reference for small graphs.

Stage t runs op t for the first time, after any of the earlier ones again. Binary R[c,t], SRam[v,t], SSd[v,t],
MIn[v,t], MOut[v,t], Free[t,c,v]; U[t,c] is the RAM after op c of stage t (poet_solver.py). Generalised to ops
with several outputs, to values that exist before the step, and to updates, which happen once. As in POET,
nothing works in place, parameters have no home in the slower tier, and a page-in counts from the next stage
on.
"""

from collections import defaultdict

from edgewise.plan.milp import INFINITY, Model, Solution, Watch
from edgewise.plan.problem import Problem
from edgewise.plan.schedule import Action, Order

ROW_SCALE = 1e4


class Poet:
    """The model; `order` decodes a solution. Size: O(ops x (values + reads))."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.model = problem, Model()
        self.n, self.values = len(problem.ops), range(len(problem.names))
        self.readers: list[list[int]] = [[] for _ in self.values]
        for c, inputs in enumerate(problem.inputs):
            for v in inputs:
                self.readers[v].append(c)
        costs = [problem.weight(c) for c in (*problem.op_costs, *problem.read_costs, *problem.write_costs)]
        positive = [cost for cost in costs if cost > 0]
        self.unit = sum(positive) / len(positive) if positive else 1.0
        self.run: dict[tuple[int, int], int] = {}
        self.ram: dict[tuple[int, int], int] = {}
        self.sd: dict[tuple[int, int], int] = {}
        self.page_in: dict[tuple[int, int], int] = {}
        self.page_out: dict[tuple[int, int], int] = {}
        self.free: dict[tuple[int, int, int], int] = {}
        self._add_variables()
        self._add_presence()
        for t in range(self.n):
            self._add_memory(t)
        self._add_memory_at_end()
        self._add_limits()

    def _lives(self, v: int, t: int) -> bool:
        """Whether `v` may be in RAM when stage `t` starts."""
        end = self.problem.end_of_life[v]
        return self.problem.birth[v] < t and (end is None or t <= end)

    def _add_variables(self) -> None:
        problem = self.problem
        for t in range(self.n):
            for c in range(t + 1):
                if c == t or problem.ops[c].recomputable:
                    price = 0.0 if c == t else problem.weight(problem.op_costs[c]) / self.unit
                    self.run[c, t] = self.model.variable(1.0 if c == t else 0.0, 1.0, price, integer=True)
        for t in range(self.n + 1):
            for v in self.values:
                if not self._lives(v, t):
                    continue
                surely = (t == 0) or (t == self.n and v in problem.required)
                self.ram[v, t] = self.model.variable(1.0 if surely else 0.0, 1.0, integer=True)
                if problem.can_page and t < self.n:
                    self.sd[v, t] = self.model.binary()
                    self.page_in[v, t] = self.model.binary(problem.weight(problem.read_costs[v]) / self.unit)
                    self.page_out[v, t] = self.model.binary(
                        problem.weight(problem.write_costs[v]) / self.unit
                    )

    def _add_presence(self) -> None:
        """Constraints (2), (3), (4)."""
        row, problem = self.model.row, self.problem
        for (c, t), run in self.run.items():
            for v in problem.reads[c] if c == t else problem.inputs[c]:
                row(
                    [(run, 1.0), *self._minus(self._made(v, t)), *self._minus(self.ram.get((v, t)))],
                    -INFINITY,
                    0.0,
                )
        for (v, t), var in self.ram.items():
            if t:
                sources = (self.ram.get((v, t - 1)), self._made(v, t - 1), self.page_in.get((v, t - 1)))
                row([(var, 1.0), *(pair for s in sources for pair in self._minus(s))], -INFINITY, 0.0)
        for (v, t), var in self.sd.items():
            row([(self.page_in[v, t], 1.0), (var, -1.0)], -INFINITY, 0.0)
            row([(self.page_out[v, t], 1.0), (self.ram[v, t], -1.0)], -INFINITY, 0.0)
            before = (self.sd.get((v, t - 1)), self.page_out.get((v, t - 1)))
            row([(var, 1.0), *(pair for s in before for pair in self._minus(s))], -INFINITY, 0.0)

    @staticmethod
    def _minus(variable: int | None) -> list[tuple[int, float]]:
        return [] if variable is None else [(variable, -1.0)]

    def _made(self, v: int, t: int) -> int | None:
        """The run of stage `t` that makes `v`, if there is one."""
        c = self.problem.birth[v]
        if c < 0 or (t != c and v not in self.problem.outputs[c]):
            return None
        return self.run.get((c, t))

    def _add_memory(self, t: int) -> None:
        """Constraints (5) and (6): RAM after each op of stage `t`, as a chain of continuous variables."""
        problem = self.problem
        scale = max(1, problem.budget.ram_bytes) / ROW_SCALE
        limit = problem.budget.ram_bytes / scale
        held = [(self.ram[v, t], problem.bytes[v] / scale) for v in self.values if (v, t) in self.ram]
        freed: list[tuple[int, float]] = []
        previous: int | None = None
        for c in range(t + 1):
            if (c, t) not in self.run:
                continue
            made = sum(problem.bytes[v] for v in problem.outputs[c]) / scale
            now = self.model.variable(0.0, limit)
            # `now` counts what is in RAM while op c runs: outputs are there, its operands are not yet freed
            row = [(now, -1.0), (self.run[c, t], made), *freed]
            row += held if previous is None else [(previous, 1.0)]
            self.model.row(row, 0.0, 0.0)
            workspace = (
                problem.working_bytes[c]
                - sum(problem.bytes[v] for v in (*problem.reads[c], *problem.outputs[c]))
            ) / scale
            if workspace > 0:
                self.model.row([(now, 1.0), (self.run[c, t], workspace)], -INFINITY, limit)
            freed = [(self._free(t, c, v), -problem.bytes[v] / scale) for v in self._may_free(c, t)]
            previous = now

    def _add_memory_at_end(self) -> None:
        """What is required after the last stage fits too, whatever was paged in for it."""
        scale = max(1, self.problem.budget.ram_bytes) / ROW_SCALE
        held = [(var, self.problem.bytes[v] / scale) for (v, t), var in self.ram.items() if t == self.n]
        self.model.row(held, -INFINITY, self.problem.budget.ram_bytes / scale)

    def _may_free(self, c: int, t: int) -> list[int]:
        """Operands that op `c` may be the last to want in stage `t`; what op `t` updates stays until then."""
        problem = self.problem
        return [v for v in (*problem.inputs[c], *problem.outputs[c]) if problem.end_of_life[v] != t]

    def _free(self, t: int, c: int, v: int) -> int:
        """Free[t,c,v] = 1 exactly if op c runs and nothing wants `v` in this stage or the next."""
        if (t, c, v) in self.free:
            return self.free[t, c, v]
        free = self.free[t, c, v] = self.model.binary()
        wants = [self.run[j, t] for j in self.readers[v] if j > c and (j, t) in self.run]
        stays = self.ram.get((v, t + 1))
        wants += [] if stays is None else [stays]
        self.model.row([(free, 1.0), (self.run[c, t], -1.0)], -INFINITY, 0.0)
        for var in wants:
            self.model.row([(free, 1.0), (var, 1.0)], -INFINITY, 1.0)
        return free

    def _add_limits(self) -> None:
        """Constraint (7), on all that takes time; and the limit of energy."""
        problem, budget, plain = self.problem, self.problem.budget, self.problem.plain_cost
        for limit, which in ((budget.seconds, 0), (budget.joules, 1)):
            if limit is None:
                continue
            unit = max(plain[which], limit, 1e-300) / ROW_SCALE
            terms = [(var, problem.op_costs[c][which] / unit) for (c, t), var in self.run.items() if c < t]
            terms += [(var, problem.read_costs[v][which] / unit) for (v, _), var in self.page_in.items()]
            terms += [(var, problem.write_costs[v][which] / unit) for (v, _), var in self.page_out.items()]
            self.model.row(terms, -INFINITY, (limit - plain[which]) / unit)

    def solve(self, *, time_limit: float, gap: float, watch: Watch | None = None) -> Solution:
        """Run HiGHS. Bound and objective are overheads in `unit`s, of POET's restricted problem."""
        return self.model.solve(time_limit=time_limit, gap=gap, watch=watch)

    def order(self, solution: Solution) -> Order:
        """The actions that `solution` stands for, stage by stage: page-outs, runs, page-ins."""
        if solution.values is None:
            raise ValueError("a solution without values has no order")
        names, ops = self.problem.names, self.problem.ops
        steps: dict[int, list[Action]] = defaultdict(list)
        for variables, what in ((self.page_out, "out"), (self.run, "compute"), (self.page_in, "in")):
            for (x, t), var in sorted(variables.items(), key=lambda item: (item[0][1], item[0][0])):
                if solution.values[var] > 0.5:
                    steps[t].append(
                        Action("compute", ops[x].name)
                        if what == "compute"
                        else Action("out" if what == "out" else "in", names[x])
                    )
        return tuple(action for t in range(self.n) for action in steps[t])
