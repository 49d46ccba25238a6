"""Ops that treat rows, or channels, one by one: softmax, norms, pooling, reductions.

What such an op does to one row does not depend on how many rows it is given: softmax and layer norm keep
their bits. Reductions and batch norms may take several rows or channels at once, by vectors, and what is left
over one by one: there the last bit may differ.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from edgewise.capture.effects import BatchNormKernel
from edgewise.capture.lowering import Layout
from edgewise.capture.tiling.broadcast import along_dims, dim_axes
from edgewise.capture.tiling.calls import Call
from edgewise.capture.tiling.nest import Along, At, Axis, Nest, Operand, Window

CHANNELS = "channels"


def _repeated(
    call: Call, axes: Sequence[Axis], operands: Sequence[Operand], alongs: Sequence[Any], **more: Any
) -> Nest:
    """The same call on each tile; the dims of result i follow `alongs[i]`."""
    results = tuple(call.output(i, tuple(along)) for i, along in enumerate(alongs))
    return Nest(
        tuple(axes),
        call.program,
        tuple(operands),
        results,
        lambda tiles, _, __: call.repeat(tiles),
        (tuple(axis.name for axis in axes),),
        **{"linear": True, "exact": True, **more},
    )


def softmax(call: Call) -> Nest | None:
    """`_softmax(x, dim, ...)` and its kin, and their backward passes `(gradient, result, dim, ...)`."""
    size = call.result(0).shape
    dim = next(arg for arg in call.args if isinstance(arg, int)) % max(len(size), 1)
    along = tuple(a if i != dim else None for i, a in enumerate(along_dims(size)))
    axes = [axis for i, axis in enumerate(dim_axes(size)) if i != dim]
    if not axes:
        return None
    # Rows that do not lie in one piece are treated several at a time, by vectors or one by one.
    exact = dim == len(size) - 1 and all(call.meta(slot).stride(dim) == 1 for slot in call.slots)
    return _repeated(call, axes, [call.operand(slot, along) for slot in call.slots], [along], exact=exact)


def layer_norm(call: Call) -> Nest | None:
    """`native_layer_norm(x, shape, weight, bias, eps)`."""
    x, shape, *parameters, _ = call.args
    size = call.meta(x).shape
    along = _leading(size, len(size) - len(shape))
    operands = [call.operand(x, along)]
    operands += [call.operand(slot, (None,) * len(shape)) for slot in parameters if slot is not None]
    axes = dim_axes(size)[: len(size) - len(shape)]
    return _repeated(call, axes, operands, [along] * 3) if axes else None


def layer_norm_backward(call: Call) -> Nest | None:
    """`native_layer_norm_backward(gradient, x, shape, mean, deviation, weight, bias, mask)`.

    The gradients of weight and bias are sums over rows.
    """
    gradient, x, shape, mean, deviation, weight, bias, _ = call.args
    size = call.meta(x).shape
    along, flat = _leading(size, len(size) - len(shape)), (None,) * len(shape)
    operands = [call.operand(slot, along) for slot in (gradient, x, mean, deviation)]
    operands += [call.operand(slot, flat) for slot in (weight, bias) if slot is not None]
    axes = dim_axes(size)[: len(size) - len(shape)]
    assert call.kept is not None  # noqa: S101  # it has three results
    return _repeated(call, axes, operands, [along if i == 0 else flat for i in call.kept]) if axes else None


def _leading(size: Sequence[int], count: int) -> tuple[Along, ...]:
    return tuple(a if i < count else None for i, a in enumerate(along_dims(size)))


def planewise(call: Call) -> Nest | None:
    """Pooling: everything but the last two dims is an axis."""
    size = call.result(0).shape
    count = len(size) - 2
    along = _leading(size, count)
    views = [call.meta(slot) for slot in call.slots]
    if count < 1 or any(view.shape[:count] != size[:count] or view.dim() != len(size) for view in views):
        return None
    if not all(view.is_contiguous() for view in views):
        return None
    operands = [call.operand(slot, along, dense=True) for slot in call.slots]
    return _repeated(call, dim_axes(size)[:count], operands, [along] * len(call.outputs))


def reduction(call: Call) -> Nest | None:
    """`sum(x, dims, keepdim)`, whose parts may be added up, and `mean(x, dims, keepdim)`, whose may not."""
    x, *rest = call.args
    size = call.meta(x).shape
    dims = [d % max(len(size), 1) for d in (rest[0] if rest and rest[0] else range(len(size)))]
    keep = bool(rest[1]) if len(rest) > 1 else False
    names = along_dims(size)
    is_sum = call.target.overloadpacket.__name__ == "sum"
    result = [None if d in dims else names[d] for d in range(len(size)) if keep or d not in dims]
    order = [d for d in range(len(size)) if d not in dims] + (dims if is_sum else [])
    axes = [dim_axes(size)[d] for d in order]
    along = tuple(a if is_sum or d not in dims else None for d, a in enumerate(names))
    if not axes or len(result) != call.result(0).dim():
        return None
    return _repeated(call, axes, [call.operand(x, along)], [result], exact=False)


def batch_norm(kernel: BatchNormKernel, call: Call, layouts: Mapping[str, Layout]) -> Nest | None:
    """`native_batch_norm` in training, channel by channel, with the running statistics."""
    operands = [slot for slot in kernel.operands if slot is not None]
    x = call.meta(operands[0])
    if not x.is_contiguous():
        return None
    along = _channels(x.dim())
    running = tuple(_stored(name, layouts[name]) for name in kernel.running)
    found = (
        call.operand(operands[0], along, dense=True),
        *(call.operand(s, (Window(CHANNELS),)) for s in operands[1:]),
    )

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        del at, cut
        rest = iter(tiles[: len(found)])
        given: list[Any] = [None if slot is None else next(rest) for slot in kernel.operands]
        return kernel.normalize(*given, *tiles[len(found) :])

    results = tuple(call.output(i, along if i == 0 else (Window(CHANNELS),)) for i in range(3))
    return Nest((Axis(CHANNELS, x.shape[1]),), call.program, found, results, body, ((CHANNELS,),),
                inouts=running)  # fmt: skip


def batch_norm_frozen(call: Call) -> Nest | None:
    """`_native_batch_norm_legit_no_training(x, weight, bias, mean, var, ...)`: any slice of x by itself."""
    size = call.meta(call.slots[0]).shape
    along = along_dims(size)
    if len(size) < 2:
        return None
    operands = [call.operand(slot, (along[1],) if i else along) for i, slot in enumerate(call.slots)]
    alongs = [along, *[(None,)] * (len(call.outputs) - 1)]  # statistics that are left empty
    return _repeated(call, dim_axes(size), operands, alongs, exact=False)


def batch_norm_backward(call: Call) -> Nest | None:
    """`native_batch_norm_backward(gradient, x, weight, ...)`, channel by channel."""
    views = [call.meta(slot) for slot in call.slots]
    if not all(view.is_contiguous() for view in views[:2]):
        return None
    channel = (Window(CHANNELS),)
    operands = [
        call.operand(slot, _channels(view.dim()) if i < 2 else channel, dense=i < 2)
        for i, (slot, view) in enumerate(zip(call.slots, views, strict=True))
    ]
    assert call.kept is not None  # noqa: S101  # it has three results
    alongs = [_channels(views[0].dim()) if i == 0 else channel for i in call.kept]
    axes = (Axis(CHANNELS, views[0].shape[1]),)
    return _repeated(call, axes, operands, alongs, exact=False)


def _channels(dims: int) -> tuple[Along, ...]:
    return (None, Window(CHANNELS), *(None,) * (dims - 2))


def _stored(name: str, layout: Layout) -> Operand:
    return Operand(name, None, layout.size, layout.stride, layout.dtype.itemsize, (Window(CHANNELS),))
