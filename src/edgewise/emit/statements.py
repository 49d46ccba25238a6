"""What an op executes, whole: the kernel calls for its kernel, on views of its values."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from edgewise.capture.effects import BatchNormKernel, ProductKernel
from edgewise.capture.kernels import AtenKernel, Run, resolve
from edgewise.capture.lowering import Layout
from edgewise.capture.optimizers import SGD, AdamW, Optimizer
from edgewise.capture.updates import CarryKernel, Change, Piecewise, UpdateKernel
from edgewise.emit.calls import Call, Given, Settings, Unsupported, single
from edgewise.emit.copies import copy
from edgewise.emit.methods import by_pieces, method_calls
from edgewise.emit.rules import rule_of
from edgewise.emit.views import View, slots_of, whole
from edgewise.graph import Op

Layouts = Mapping[str, Layout]
ALIGNMENT = 8
"""Every value, tile and workspace begins at a multiple of so many bytes."""


def aligned(size: int) -> int:
    """`size` bytes with what follows up to the next aligned address."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def statements(run: Run, op: Op, layouts: Layouts, *, first: bool, room: str) -> tuple[Call, ...]:
    """The calls of one whole execution of `op` by `run`.

    Args:
        run: what executes it in PyTorch.
        op: the op; its outputs get the results.
        layouts: of all values.
        first: whether this is the first execution, which also makes the op's updates.
        room: C expression of the address of the op's workspace.

    Raises:
        Unsupported: there is no C for it.
    """
    made = [whole(name, layouts) for name in op.outputs]
    match run:
        case AtenKernel():
            return aten_call(run, slots_of(run.program, layouts), made)
        case BatchNormKernel():
            running = [whole(name, layouts) for name in run.running] if first else [None, None]
            return batch_norm(run, slots_of(run.program, layouts), made, running)
        case ProductKernel():
            x = slots_of(run.program, layouts)[run.slot]
            return (Call("ew_masked_scale", (made[0], x, whole(run.mask, layouts), run.scale)),)
        case CarryKernel():
            return (copy(whole(run.old, layouts), slots_of(run.program, layouts)[run.new.index]),)
        case UpdateKernel():
            return _update(run, layouts, room)
        case _:
            return method_calls(run, op.outputs, layouts, room)


def aten_call(
    kernel: AtenKernel, slots: Sequence[Any] | Mapping[int, Any], made: Sequence[View]
) -> tuple[Call, ...]:
    """The call of `kernel` on `slots`, whose results go to `made`."""
    positions = kernel.kept or (0,)
    call = kernel.whole
    given = Given(
        tuple(resolve(call.args, slots)),
        {key: resolve(arg, slots) for key, arg in call.kwargs.items()},
        dict(zip(positions, made, strict=True)),
    )
    return rule_of(kernel)(given)


def batch_norm(
    kernel: BatchNormKernel,
    slots: Sequence[Any] | Mapping[int, Any],
    made: Sequence[View],
    running: Sequence[View | None],
) -> tuple[Call, ...]:
    """Batch norm in training; running statistics change if they are given."""
    x, weight, bias = (None if operand is None else slots[operand.index] for operand in kernel.operands)
    if x is None or x.dtype != torch.float32:
        raise Unsupported("no kernel in C but for float32")
    views = (*made, x, weight, bias, *running)
    return (Call("ew_batch_norm", (*views, float(kernel.momentum), float(kernel.eps))),)


# -- updates --------------------------------------------------------------------------------------------


def _update(run: UpdateKernel, layouts: Layouts, room: str) -> tuple[Call, ...]:
    """The update of each parameter, by gradients that are values or are made in the workspace."""
    calls: list[Call] = []
    places: dict[str, str] = {}
    if run.producer is not None and isinstance(run.producer.run, Piecewise):
        return _update_by_pieces(run, run.producer.run, layouts)
    if run.producer is not None:
        begin = 0
        for name in run.producer.op.outputs:
            places[name] = f"{room} + {begin}"
            begin += aligned(layouts[name].storage_bytes)
        made = statements(run.producer.run, run.producer.op, layouts, first=True, room=room)
        calls += [replace(c, arguments=tuple(_placed(a, places) for a in c.arguments)) for c in made]
    for change in run.changes:
        slots = slots_of(change.program, layouts)
        gradient = _placed(slots[change.gradient.index], places)
        calls.extend(_changes(change, gradient, run.optimizer, layouts))
    return tuple(calls)


def _update_by_pieces(run: UpdateKernel, producer: Piecewise, layouts: Layouts) -> tuple[Call, ...]:
    """The update by a gradient that is made piece by piece, after the nudge that belongs to it."""
    (change,) = run.changes
    parameter = whole(change.parameter, layouts)
    states = [whole(name, layouts) for name in change.states.values()]
    update = optimizer_call(run.optimizer, parameter, parameter, states)
    before = method_calls(run.nudge.run, (), layouts, "") if run.nudge is not None else ()
    return (*before, by_pieces(producer, update, layouts))


def _placed(argument: Any, places: Mapping[str, str]) -> Any:
    if isinstance(argument, View) and argument.value in places:
        return replace(argument, place=places[argument.value])
    return argument


def _changes(change: Change, gradient: View, optimizer: Optimizer, layouts: Layouts) -> list[Call]:
    parameter = whole(change.parameter, layouts)
    states = [whole(name, layouts) for name in change.states.values()]
    if change.rows is None:
        return [optimizer_call(optimizer, parameter, gradient, states)]
    calls, begin = [], 0
    for start, stop in change.rows:
        count = stop - start
        own = [state.narrow(0, begin, count) for state in states]
        part = gradient.narrow(0, begin, count)
        calls.append(optimizer_call(optimizer, parameter.narrow(0, start, count), part, own))
        begin += count
    return calls


def optimizer_call(optimizer: Optimizer, parameter: View, gradient: View, states: Sequence[View]) -> Call:
    """The update of `parameter` and its `states`, which may be tiles."""
    if any(view.dtype != torch.float32 for view in (parameter, gradient)):
        raise Unsupported("no update in C but of float32")
    match optimizer:
        case SGD(lr, momentum, weight_decay):
            settings = Settings("ew_sgd_settings", (single(lr), single(momentum), single(weight_decay)))
            return Call("ew_sgd", (parameter, gradient, *(states or (None,)), settings))
        case AdamW(lr, betas, eps, weight_decay):
            settings = Settings("ew_adamw_settings", (lr, *betas, eps, weight_decay))
            return Call("ew_adamw", (parameter, gradient, *states, settings, "step"))
    raise Unsupported(f"no update in C for the optimizer {type(optimizer).__name__}")
