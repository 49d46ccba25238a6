"""A thin builder of mixed-integer linear programs, solved by HiGHS in a thread so that Ctrl-C works.

Solvers build a `Model` row by row and get back a `Solution`; nothing else in Edgewise touches HiGHS.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Linear = Mapping[int, float]
"""Variable -> coefficient."""

INFINITY = float("inf")
WAIT_SECONDS = 0.05

Watch = Callable[[float | None, float | None], None]
"""Called now and then with the objective of the incumbent and the bound, as far as they are known."""


@dataclass(frozen=True)
class Solution:
    """What HiGHS found; `values` is `None` without an incumbent. `bound` is valid whatever the status."""

    status: Literal["optimal", "infeasible", "stopped"]
    values: np.ndarray[Any, np.dtype[np.float64]] | None
    objective: float
    bound: float
    interrupted: bool = False


@dataclass
class Model:
    """Minimize a linear objective over bounded variables and linear rows."""

    cost: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[int] = field(default_factory=list)
    coefficients: list[float] = field(default_factory=list)

    def binary(self, cost: float = 0.0, *, integer: bool = True) -> int:
        """A new variable in [0, 1]."""
        return self.variable(0.0, 1.0, cost, integer=integer)

    def variable(self, lower: float, upper: float, cost: float = 0.0, *, integer: bool = False) -> int:
        """A new variable."""
        self.cost.append(cost)
        self.lower.append(lower)
        self.upper.append(upper)
        self.integer.append(integer)
        return len(self.cost) - 1

    def row(self, terms: Linear | Iterable[tuple[int, float]], lower: float, upper: float) -> None:
        """`lower <= sum of terms <= upper`; terms of the same variable add up."""
        sums: dict[int, float] = {}
        for column, coefficient in terms.items() if isinstance(terms, Mapping) else terms:
            sums[column] = sums.get(column, 0.0) + coefficient
        for column, coefficient in sums.items():
            if coefficient:
                self.columns.append(column)
                self.coefficients.append(coefficient)
        self.starts.append(len(self.columns))
        self.row_lower.append(lower)
        self.row_upper.append(upper)

    def solve(
        self,
        *,
        time_limit: float,
        gap: float,
        watch: Watch | None = None,
        start: Mapping[int, float] | None = None,
    ) -> Solution:
        """Solve to the relative `gap`, or for `time_limit` seconds. Ctrl-C keeps the incumbent."""
        if not self.cost:
            return self._solve_without_variables()
        return _Run(self, time_limit, gap, watch, start).result()

    def _solve_without_variables(self) -> Solution:
        rows = zip(self.row_lower, self.row_upper, strict=True)
        if all(low <= 0 <= high for low, high in rows):
            return Solution("optimal", np.zeros(0), 0.0, 0.0)
        return Solution("infeasible", None, INFINITY, INFINITY)


class _Run:
    """One run of HiGHS."""

    def __init__(
        self,
        model: Model,
        time_limit: float,
        gap: float,
        watch: Watch | None,
        start: Mapping[int, float] | None,
    ) -> None:
        import highspy  # noqa: PLC0415  # importing edgewise.plan must stay cheap

        self.watch, self.stop, self.interrupted = watch, False, False
        self.incumbent: np.ndarray[Any, np.dtype[np.float64]] | None = None
        self.seen: tuple[float | None, float | None] = (None, None)
        self.highs = highs = highspy.Highs()
        highs.setOptionValue("output_flag", False)
        highs.setOptionValue("threads", 1)
        highs.setOptionValue("random_seed", 0)
        highs.setOptionValue("time_limit", max(0.01, time_limit))
        highs.setOptionValue("mip_rel_gap", gap)
        highs.setOptionValue("mip_abs_gap", 1e-9)
        highs.passModel(_as_highs(model, highspy))
        if start:
            columns = np.array(list(start), dtype=np.int32)
            highs.setSolution(len(start), columns, np.array(list(start.values()), dtype=np.float64))
        highs.cbMipInterrupt += self._on_tick
        highs.cbSimplexInterrupt += self._on_tick
        highs.cbMipImprovingSolution += self._on_solution

    def _on_tick(self, event: Any) -> None:
        if self.stop:
            event.interrupt()
        out = event.data_out
        primal, dual = float(out.mip_primal_bound), float(out.mip_dual_bound)
        if abs(dual) < INFINITY:
            self.seen = (primal if primal < INFINITY else None, dual)

    def _on_solution(self, event: Any) -> None:
        self.incumbent = np.array(event.data_out.mip_solution)
        self.seen = (float(event.data_out.objective_function_value), self.seen[1])

    def result(self) -> Solution:
        thread = threading.Thread(target=self.highs.run, daemon=True)
        thread.start()
        told = time.monotonic()
        while thread.is_alive():
            try:
                thread.join(WAIT_SECONDS)
                if self.watch and time.monotonic() - told > 0.5:
                    told = time.monotonic()
                    self.watch(*self.seen)
            except KeyboardInterrupt:
                self.stop = self.interrupted = True
        return self._read()

    def _read(self) -> Solution:
        import highspy  # noqa: PLC0415

        status = self.highs.getModelStatus()
        states = highspy.HighsModelStatus
        if status in (states.kInfeasible, states.kUnboundedOrInfeasible):
            return Solution("infeasible", None, INFINITY, INFINITY, self.interrupted)
        info = self.highs.getInfo()
        optimal = status == states.kOptimal
        found = int(info.primal_solution_status) == 2  # kSolutionStatusFeasible
        values = np.array(self.highs.getSolution().col_value) if found else self.incumbent
        objective = float(info.objective_function_value) if found else INFINITY
        is_mip = any(self.highs.getLp().integrality_)
        bound = float(info.mip_dual_bound) if is_mip else (objective if optimal else -INFINITY)
        return Solution("optimal" if optimal else "stopped", values, objective, bound, self.interrupted)


def _as_highs(model: Model, highspy: Any) -> Any:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(model.cost), len(model.row_lower)
    lp.col_cost_ = np.array(model.cost)
    lp.col_lower_, lp.col_upper_ = np.array(model.lower), np.array(model.upper)
    lp.row_lower_, lp.row_upper_ = np.array(model.row_lower), np.array(model.row_upper)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.array(model.starts, dtype=np.int32)
    lp.a_matrix_.index_ = np.array(model.columns, dtype=np.int32)
    lp.a_matrix_.value_ = np.array(model.coefficients)
    if any(model.integer):
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[flag] for flag in model.integer]
    return lp
