"""What a program of steps computes, with terms for tensors: equal terms, equal results."""

from edgewise.graph import Graph
from edgewise.plan import Compute, Free, PageIn, PageOut, Step


def results(steps: tuple[Step, ...], graph: Graph, homes: tuple[str, ...] = ()) -> dict[str, object]:
    """The required values at the end, as terms over the sources; `KeyError` for what is not there."""
    ram: dict[str, object] = {value.name: value.name for value in graph.sources() if value.name not in homes}
    tier: dict[str, object] = {name: name for name in homes}
    done: set[str] = set()
    for step in steps:
        match step:
            case Free(name):
                del ram[name]
            case PageOut(name):
                tier[name] = ram[name]
            case PageIn(name):
                ram[name] = tier[name]
            case Compute():
                _compute(step, graph, ram, tier, first=step.op not in done)
                done.add(step.op)
    at_home = {graph.carries.get(name, name) for name in homes}
    return {name: (tier if name in at_home else ram)[name] for name in graph.required}


def _compute(
    step: Compute, graph: Graph, ram: dict[str, object], tier: dict[str, object], *, first: bool
) -> None:
    op = graph.op[step.op]

    def place(name: str) -> dict[str, object]:
        return tier if name in step.streamed else ram

    read = tuple(place(name)[name] for name in op.inputs)
    updates = op.updates if first else ()
    updated = [(place(old), new, (op.name, "updates", place(old)[old], read)) for old, new in updates]
    for old, _ in (*op.option(step.option).overwrites, *updates):
        del place(old)[old]
    for name in op.outputs:
        place(name)[name] = (op.name, name, read)
    for where, new, term in updated:
        where[new] = term
