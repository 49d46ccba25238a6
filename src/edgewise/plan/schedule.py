"""From an order of actions to the steps of a plan: the least that must stay in RAM for that order.

A solver decides an order of *actions*: which op runs when (again), what is paged out and in, and which
parameters live in the slower tier. Everything else follows. A value stays in RAM from the action that brings
it until its last reader before the next action that brings it again; an action that nobody needs is dropped;
an op works in place where its operand's stay ends there anyway. So for a given order this is the smallest RAM
at every moment, and the solvers need not reason about `Free` at all.
"""

from typing import Literal, NamedTuple

from edgewise.graph import Graph, Op, Option
from edgewise.plan.nouns import Compute, Free, PageIn, PageOut, Step


class Action(NamedTuple):
    """`compute` an op, or bring a value `out` to or `in` from the slower tier.

    With a tiled `option`, the op takes those of its operands in `streamed` that are not in RAM anyway from
    the slower tier. Without, it works in place where it can.
    """

    what: Literal["compute", "out", "in"]
    name: str
    option: str = ""
    streamed: frozenset[str] = frozenset()


Order = tuple[Action, ...]


def plain_order(graph: Graph) -> Order:
    """Every op once, in the order of the graph, nothing paged: what plain training does."""
    return tuple(Action("compute", op.name) for op in graph.ops)


def lay_out(order: Order, graph: Graph, homes: frozenset[str] = frozenset()) -> tuple[Step, ...]:
    """Steps of a plan that performs `order` with every value in RAM no longer than it must be.

    Actions without a use are left out. A page-out of the updated value is added for each home that needs it.
    """
    return _Layout(order, graph, homes).steps()


class _Layout:
    def __init__(self, order: Order, graph: Graph, homes: frozenset[str]) -> None:
        self.graph, self.homes = graph, homes
        self.at_home = frozenset(graph.carries.get(name, name) for name in homes)
        self.order = self._with_home_writes(order)
        self.firsts = self._firsts()
        self.needed = [False] * len(self.order)
        self.streamed: list[frozenset[str]] = [frozenset()] * len(self.order)
        self.stay_end: list[dict[str, int]] = [
            {} for _ in self.order
        ]  # values brought -> last action of each
        self.initial_end = self._trace()  # the same for what is in RAM from the start

    def _with_home_writes(self, order: Order) -> Order:
        """Append the page-out of each updated value that lives in the slower tier, unless it is there."""
        out = {action.name for action in order if action.what == "out"}
        result: list[Action] = []
        done: set[str] = set()
        for action in order:
            result.append(action)
            if action.what == "compute" and action.name not in done:
                done.add(action.name)
                updates = self.graph.op[action.name].updates
                news = (new for old, new in updates if old not in action.streamed)
                result.extend(Action("out", new) for new in news if new in self.at_home and new not in out)
        return tuple(result)

    def _firsts(self) -> list[bool]:
        done: set[str] = set()
        firsts = []
        for action in self.order:
            firsts.append(action.what == "compute" and action.name not in done)
            if action.what == "compute":
                done.add(action.name)
        return firsts

    def _trace(self) -> dict[str, int]:
        """Walk backwards: which actions are needed, and until when each stay in RAM lasts."""
        end = len(self.order)
        wanted: dict[str, int] = {name: end for name in self.graph.required if name not in self.at_home}
        stored_wanted: set[str] = set(self.at_home - self.homes)
        for index in range(end - 1, -1, -1):
            what, name = self.order[index][:2]
            if what == "in":
                if name in wanted:
                    self.needed[index] = True
                    self.stay_end[index][name] = wanted.pop(name)
                    stored_wanted.add(name)
            elif what == "out":
                if name in stored_wanted:
                    self.needed[index] = True
                    stored_wanted.discard(name)
                    wanted.setdefault(name, index)
            else:
                self._trace_compute(index, self.graph.op[name], wanted, stored_wanted)
        return wanted

    def _trace_compute(self, index: int, op: Op, wanted: dict[str, int], stored_wanted: set[str]) -> None:
        first = self.firsts[index]
        # an output that is wanted in RAM is made there
        streamed = self.order[index].streamed - {name for name in op.outputs if name in wanted}
        resident = [name for name in op.outputs if name not in streamed]
        stored = {name for name in op.outputs if name in streamed}
        for old, new in op.updates if first else ():
            if old in streamed:
                stored.add(new)
            else:
                resident.append(new)
        keeps = [name for name in resident if name in wanted]
        if not keeps and stored.isdisjoint(stored_wanted) and not (first and op.updates):
            return
        self.needed[index] = True
        stored_wanted -= stored
        for name in keeps:
            # A recomputation ends an earlier stay only if nothing else still needs that one.
            self.stay_end[index][name] = wanted.pop(name)
        reads = op.reads if first else op.inputs
        # what is in RAM for a later reader need not be read from the tier
        inputs = {name for name in reads if name not in wanted}
        self.streamed[index] = streamed & (inputs | set(op.outputs))
        for name in reads:
            if name in self.streamed[index]:
                stored_wanted.add(name)
            else:
                wanted.setdefault(name, index)

    def steps(self) -> tuple[Step, ...]:
        ends: dict[str, int] = dict(self.initial_end)
        at_start = (value.name for value in self.graph.sources() if value.name not in self.homes)
        steps: list[Step] = [Free(name) for name in at_start if name not in ends]
        for index, (what, name, *_) in enumerate(self.order):
            if not self.needed[index]:
                continue
            if what == "in":
                steps.append(PageIn(name))
                ends[name] = self.stay_end[index][name]
                dying = [name] if ends[name] <= index else []
            elif what == "out":
                steps.append(PageOut(name))
                dying = [name] if ends.get(name) == index else []
            else:
                dying = self._compute(index, self.graph.op[name], ends, steps)
            for value in dying:
                ends.pop(value, None)
                steps.append(Free(value))
        return tuple(steps)

    def _compute(self, index: int, op: Op, ends: dict[str, int], steps: list[Step]) -> list[str]:
        """Append the execution of `op`; return what is to be freed after it."""
        first = self.firsts[index]
        dying = {name for name in op.inputs if ends.get(name) == index}
        stays, streamed = self.stay_end[index], self.streamed[index]
        option = op.option(self.order[index].option) or _least_memory(op, dying, self.graph)
        steps.append(Compute(op.name, option.name, tuple(sorted(streamed))))
        gone = {old for old, _ in option.overwrites}
        unused = [n for n in op.outputs if n not in stays and n not in ends and n not in streamed]
        for old, new in op.updates if first else ():
            ends.pop(old, None)
            if new not in stays and old not in streamed:
                unused.append(new)
        for name in gone:
            ends.pop(name, None)
        ends.update(stays)
        inputs = dict.fromkeys(op.inputs)  # an op may read a value twice; it is freed once
        return [
            name for name in inputs if name in dying and name not in gone and ends.get(name) == index
        ] + unused


def _least_memory(op: Op, dying: set[str], graph: Graph) -> Option:
    """The option of least RAM among those that overwrite nothing but `dying` values; `whole` at a tie."""
    best, least = op.options[0], None
    untiled = [option for option in op.options if not option.is_tiled]
    for option in sorted(untiled, key=lambda option: option.name != "whole"):
        need = option.workspace_bytes - sum(graph.value[old].bytes for old, _ in option.overwrites)
        if all(old in dying for old, _ in option.overwrites) and (least is None or need < least):
            best, least = option, need
    return best
