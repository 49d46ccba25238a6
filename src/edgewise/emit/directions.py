"""Random directions as calls of C kernels: drawn where they are needed, and never stored.

What is drawn follows the storage of a parameter, and a tile of it is a run of its elements. So kernels get
views of one dim, and the number of the first element.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgewise.capture.directions import (
    AlongKernel,
    DirectionKernel,
    Drawn,
    NudgeKernel,
    PerturbedKernel,
)
from edgewise.capture.lowering import Layout
from edgewise.capture.schedules import RefreshKernel
from edgewise.emit.calls import Call, Settings, Table, single
from edgewise.emit.views import Extent, View, plus, product, slots_of, times, whole

Layouts = Mapping[str, Layout]
Drawing = DirectionKernel | PerturbedKernel | AlongKernel
LAWS = {"rademacher": "EW_RADEMACHER", "normal": "EW_STANDARD_NORMAL"}


def run_of(view: View) -> View:
    """All elements of a dense view in the order of memory, as one dim."""
    return replace(view, size=(product(view.size),), stride=(1,))


def _directions(drawn: Drawn) -> Settings:
    streams = Table("uint32_t", tuple(f"{stream}u" for stream in drawn.streams))
    fields = (f"{drawn.seed}u", "step", LAWS[drawn.law], len(drawn.streams), streams)
    return Settings("ew_directions", fields)


def draw(run: Drawing | NudgeKernel, outputs: Sequence[str], layouts: Layouts) -> tuple[Call, ...]:
    """The call of one whole execution."""
    if isinstance(run, NudgeKernel):
        return (nudge(run, layouts),)
    slots = slots_of(run.program, layouts) if isinstance(run, AlongKernel) else ()
    names = run.operands if isinstance(run, PerturbedKernel) else ()
    values = {name: whole(name, layouts) for name in names}
    return _calls(run, whole(outputs[0], layouts), dict(enumerate(slots)), values, 0)


def draw_tile(
    run: Drawing, out: View, slots: Mapping[int, View], values: Mapping[str, View], at: Mapping[str, str]
) -> tuple[Call, ...]:
    """The call for a tile that begins at `at`, C variables by axis; from there follows its first element."""
    first: Extent = 0
    for dim, stride in enumerate(run.like.stride):
        first = plus(first, times(stride, at.get(f"dim{dim}", 0)))
    return _calls(run, out, slots, values, first)


def _calls(
    run: Drawing, out: View, slots: Mapping[int, View], values: Mapping[str, View], first: Extent
) -> tuple[Call, ...]:
    out = run_of(out)
    match run:
        case DirectionKernel(stream, law, seed):
            return (Call("ew_direction", (out, None, None, first, _directions(Drawn((stream,), law, seed)))),)
        case PerturbedKernel((name, *rest), stream, law, scale, seed):
            w, threshold = run_of(values[name]), values[rest[0]] if rest else None
            drawn = _directions(Drawn((stream,), law, seed))
            if scale is None:
                return (Call("ew_direction", (out, w, threshold, first, drawn)),)
            return (Call("ew_perturbed", (out, w, threshold, float(scale), first, drawn)),)
        case AlongKernel():
            c, steps, w, threshold = _read(run, slots)
            w = run_of(w) if w is not None else None
            return (Call("ew_along", (out, c, steps, w, threshold, first, _directions(run.drawn))),)


def _read(
    run: AlongKernel, slots: Mapping[int, View]
) -> tuple[View, View | None, View | None, View | None]:
    """Coefficients, steps, parameter and threshold."""
    c, *rest = (slots[slot.index] for slot in run.slots)
    if run.earlier:
        return c, rest[0], None, None
    return (c, None, *rest) if run.keeps_top else (c, None, None, None)  # type: ignore[return-value]


def nudge(run: NudgeKernel, layouts: Layouts) -> Call:
    """The sum of directions, added in place."""
    scales = Table("float", tuple(single(scale) for scale in run.scales))
    return Call("ew_nudge", (run_of(whole(run.old, layouts)), scales, _directions(run.drawn)))


def update(run: AlongKernel, optimizer: Call, layouts: Layouts) -> Call:
    """The call `optimizer`, which updates a parameter by a gradient, by the gradient that `run` makes."""
    parameter, _, *states = optimizer.arguments
    c, steps, _, threshold = _read(run, dict(enumerate(slots_of(run.program, layouts))))
    rest = (run_of(state) if isinstance(state, View) else state for state in states)
    assert isinstance(parameter, View)  # noqa: S101  # so are all calls of optimizers
    arguments = (run_of(parameter), c, steps, threshold, _directions(run.drawn), *rest)
    return Call(f"{optimizer.function}_along", arguments)


def refresh(run: RefreshKernel, layouts: Layouts) -> Call:
    """A snapshot of a parameter, or the magnitude of its largest elements, in the steps when it is due."""
    state, source = whole(run.state, layouts), whole(run.source, layouts)
    if run.count is None:
        return Call("ew_snapshot", (state, source, "step", f"{run.every}u"))
    return Call("ew_threshold", (state, run_of(source), run.count, "step", f"{run.every}u"))
