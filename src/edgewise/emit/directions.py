"""Random numbers as calls of C kernels, and random directions, drawn where they are needed and never stored.

A direction follows the storage of a parameter, and a tile of it is a run of its elements. So kernels get
views of one dim, and the number of the first element.
"""

from collections.abc import Mapping, Sequence

import torch

from edgewise.capture import philox
from edgewise.capture.directions import (
    AlongKernel,
    DirectionKernel,
    Drawn,
    NudgeKernel,
    PerturbedKernel,
)
from edgewise.capture.effects import DrawKernel
from edgewise.capture.lowering import Layout
from edgewise.capture.schedules import RefreshKernel
from edgewise.emit.calls import Call, Settings, Table, Unsupported, c_number, only_floats, single
from edgewise.emit.views import Extent, View, plus, run_of, slots_of, times, whole

Layouts = Mapping[str, Layout]
Drawing = DirectionKernel | PerturbedKernel | AlongKernel | NudgeKernel
LAWS = {"rademacher": "EW_RADEMACHER", "normal": "EW_STANDARD_NORMAL"}


def _directions(drawn: Drawn) -> Settings:
    streams = Table("uint32_t", tuple(f"{stream}u" for stream in drawn.streams))
    fields = (f"{drawn.seed}u", "step", LAWS[drawn.law], len(drawn.streams), streams)
    return Settings("ew_directions", fields)


def numbers(kernel: DrawKernel, out: View) -> Call:
    """The call that fills `out`."""
    key = Settings("ew_key", (f"{kernel.seed}u", "step", f"{kernel.stream}u"))
    if kernel.fill is philox.bernoulli:
        threshold = f"{round(kernel.parameters[0] * 2**32)}u"
        return Call("ew_bernoulli", (out, out.c_type, threshold, key))
    if out.dtype != torch.float32:
        raise Unsupported("no kernel in C that draws but float32")
    return Call({philox.uniform: "ew_uniform", philox.normal: "ew_normal"}[kernel.fill], (out, key))


def draw(run: Drawing, outputs: Sequence[str], layouts: Layouts) -> tuple[Call, ...]:
    """The call of one whole execution."""
    slots = slots_of(run.program, layouts) if isinstance(run, AlongKernel) else ()
    names = run.operands if isinstance(run, PerturbedKernel) else ()
    values = {name: whole(name, layouts) for name in names}
    out = run.old if isinstance(run, NudgeKernel) else outputs[0]
    return draw_tile(run, whole(out, layouts), dict(enumerate(slots)), values, 0)


def first_of(strides: Sequence[int], at: Mapping[str, str]) -> Extent:
    """The first element of a tile that begins at `at`, C variables by axis, of a value with these strides."""
    first: Extent = 0
    for dim, stride in enumerate(strides):
        first = plus(first, times(stride, at.get(f"dim{dim}", 0)))
    return first


def draw_tile(
    run: Drawing, out: View, slots: Mapping[int, View], values: Mapping[str, View], first: Extent
) -> tuple[Call, ...]:
    """The call for a tile that begins at element `first`."""
    only_floats(out)
    out = run_of(out)
    if isinstance(run, NudgeKernel):
        scales = Table("float", tuple(c_number(single(scale)) for scale in run.scales))
        return (Call("ew_nudge", (out, scales, first, _directions(run.drawn))),)
    if isinstance(run, AlongKernel):
        c, steps, w, threshold = _read(run, slots)
        like = None if w is None else run_of(w)
        return (Call("ew_along", (out, c, steps, like, threshold, first, _directions(run.drawn))),)
    drawn = _directions(Drawn((run.stream,), run.law, run.seed))
    if isinstance(run, DirectionKernel):
        return (Call("ew_direction", (out, None, None, first, drawn)),)
    w, threshold = (*(values[name] for name in run.operands), None)[:2]
    assert w is not None  # noqa: S101  # it is the first of the operands
    if run.scale is None:
        return (Call("ew_direction", (out, run_of(w), threshold, first, drawn)),)
    return (Call("ew_perturbed", (out, run_of(w), threshold, float(run.scale), first, drawn)),)


def _read(run: AlongKernel, slots: Mapping[int, View]) -> tuple[View, View | None, View | None, View | None]:
    """Coefficients, steps, parameter and threshold."""
    c, *rest = (slots[slot.index] for slot in run.slots)
    if run.earlier:
        return c, rest[0], None, None
    return (c, None, *rest) if run.keeps_top else (c, None, None, None)  # type: ignore[return-value]


def update(run: AlongKernel, optimizer: Call, layouts: Layouts) -> Call:
    """The call `optimizer`, which updates a parameter by a gradient, by the gradient that `run` makes."""
    return update_tile(run, optimizer, dict(enumerate(slots_of(run.program, layouts))), 0)


def update_tile(run: AlongKernel, optimizer: Call, slots: Mapping[int, View], first: Extent) -> Call:
    """The same of a tile of parameter and states that begins at element `first`."""
    parameter, _, *states = optimizer.arguments
    c, steps, _, threshold = _read(run, slots)
    rest = (run_of(state) if isinstance(state, View) else state for state in states)
    assert isinstance(parameter, View)  # noqa: S101  # so are all calls of optimizers
    arguments = (run_of(parameter), c, steps, threshold, first, _directions(run.drawn), *rest)
    return Call(f"{optimizer.function}_along", arguments)


def refresh(run: RefreshKernel, layouts: Layouts) -> Call:
    """A snapshot of a parameter, or the magnitude of its largest elements, in the steps when it is due."""
    state, source = whole(run.state, layouts), whole(run.source, layouts)
    only_floats(state, source)
    if run.count is None:
        return Call("ew_snapshot", (state, source, "step", f"{run.every}u"))
    return Call("ew_threshold", (state, run_of(source), run.count, "step", f"{run.every}u"))
