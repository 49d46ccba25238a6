"""The peers: methods published by others, to compare with. All give checked plans through `make_plan`.

| solver | file | what it is |
|---|---|---|
| `every-block` | every_block.py | checkpoint every block |
| `square-root` | square_root.py | Chen et al. |
| `greedy` | greedy.py | eviction on demand, after DTR |
| `page-everything` | problem.py | nothing stays in RAM between ops |
| `checkmate` | checkmate.py | the optimal rematerialization, nothing paged |
| `poet` | poet.py | POET's program |

The last two are programs that a solver needs time for; the planner runs them. Those here just propose plans.
"""

from collections.abc import Callable, Iterator

from edgewise.plan.every_block import every_block
from edgewise.plan.greedy import greedy
from edgewise.plan.problem import Candidate, Problem, floor_bytes, judge, page_everything
from edgewise.plan.square_root import square_root
from edgewise.plan.tilings import cheapest_tilings

Proposals = Callable[[Problem], Iterator[Candidate]]


def paged(problem: Problem) -> Iterator[Candidate]:
    """The plan that holds nothing between ops, if the device can page; ops too large for RAM run as loops."""
    if not problem.can_page:
        return
    tilings = cheapest_tilings(problem, max(problem.budget.ram_bytes, floor_bytes(problem)))
    candidate = judge(problem, *page_everything(problem.tiled(tilings or {})))
    if candidate is not None:
        yield candidate


PEERS: dict[str, Proposals] = {
    "every-block": every_block,
    "square-root": square_root,
    "greedy": greedy,
    "page-everything": paged,
}


def infeasible_words(problem: Problem, solver: str, proposals: list[Candidate]) -> tuple[str, int | None]:
    """Why none of `proposals` fits, and the least RAM with which one would."""
    ram_bytes = problem.budget.ram_bytes
    least = min((candidate.certificate.peak_bytes for candidate in proposals), default=None)
    if least is None:
        return f"Solver `{solver}` found no plan within {ram_bytes:,} B. Take solver `auto`.", None
    if least <= ram_bytes:
        why = "exceed the limit of seconds or joules"
        return f"The plans of solver `{solver}` {why}. Raise it, or take solver `auto`.", None
    words = f"The plan of solver `{solver}` needs {least:,} B of RAM, above the budget of {ram_bytes:,} B."
    return f"{words} Try `--ram {least}`, or take solver `auto`.", least
