"""Copies, constants, and what is put together from them: ATen calls as calls of C kernels."""

from dataclasses import replace

import torch

from edgewise.emit.calls import Call, Given, Rule, Unsupported
from edgewise.emit.views import View, plus


def copy(target: View, source: View) -> Call:
    """`target = source`, of one type or of two."""
    source = source.expand(target.size)
    if torch.int16 in (source.dtype, target.dtype):
        raise Unsupported("no kernel in C for int16")
    if source.dtype == target.dtype:
        return Call("ew_copy", (target, source, source.c_type))
    return Call("ew_cast", (target, target.c_type, source, source.c_type))


def fill(target: View, number: float) -> Call:
    """Every element the same."""
    if target.dtype == torch.float32:
        return Call("ew_fill", (target, float(number)))
    return Call("ew_fill_bytes", (target, target.c_type, int(number)))


def copied(given: Given) -> tuple[Call, ...]:
    """The same, dense."""
    return (copy(given.out, given.args[0]),)


def copied_over(given: Given) -> tuple[Call, ...]:
    """`copy(old, new)` is `new`."""
    return (copy(given.out, given.args[1]),)


def constant(position: int | None, number: float = 0.0) -> Rule:
    """Filled with argument `position`, or with `number`."""
    return lambda given: (fill(given.out, number if position is None else given.args[position]),)


def triangle(upper: int) -> Rule:
    """`tril`, or `triu` if `upper`."""

    def rule(given: Given) -> tuple[Call, ...]:
        x = given.args[0]
        return (Call("ew_triangle", (given.out, x, x.c_type, int(given.arg(1, "diagonal", 0)), upper)),)

    return rule


def concatenation(given: Given) -> tuple[Call, ...]:
    """`cat(tensors, dim)`."""
    dim = given.arg(1, "dim", 0) % given.out.dims
    calls, start = [], 0
    for part in given.args[0]:
        length = part.size[dim]
        if not isinstance(length, int):
            raise Unsupported("its parts are cut along the dim that it joins")
        calls.append(copy(given.out.narrow(dim, start, length), part))
        start += length
    return tuple(calls)


def stack(given: Given) -> tuple[Call, ...]:
    """`stack(tensors, dim)`."""
    dim = given.arg(1, "dim", 0) % given.out.dims
    return tuple(
        copy(given.out.narrow(dim, at, 1).squeeze(dim), part) for at, part in enumerate(given.args[0])
    )


def repeat(given: Given) -> tuple[Call, ...]:
    """`repeat(x, times)`: each dim that repeats is two of the result."""
    x, times = given.args
    out, size = given.out, [1] * (len(times) - x.dims) + list(x.size)
    x = x.expand(size)
    for dim in reversed(range(len(times))):
        if times[dim] > 1:
            n, stride = out.size[dim], out.stride[dim]
            if n != size[dim] * times[dim]:
                raise Unsupported("its result is cut")
            split = (times[dim], size[dim]), (stride * size[dim], stride)
            out = replace(
                out,
                size=(*out.size[:dim], *split[0], *out.size[dim + 1 :]),
                stride=(*out.stride[:dim], *split[1], *out.stride[dim + 1 :]),
            )
            x = x.unsqueeze(dim)
    return (copy(out, x),)


def pad(given: Given) -> tuple[Call, ...]:
    """`constant_pad_nd(x, pads, value)`: a pad below zero cuts x, one above its gradient."""
    source, pads = given.args[:2]
    target = given.out
    for back, (before, behind) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        dim = source.dims - 1 - back
        length = source.size[dim] + min(before, 0) + min(behind, 0)
        source = source.narrow(dim, max(-before, 0), length)
        target = target.narrow(dim, max(before, 0), length)
    return fill(given.out, float(given.arg(2, "value", 0) or 0)), copy(target, source)


def nothing(given: Given) -> tuple[Call, ...]:
    """A tensor whose content does not matter."""
    del given
    return ()


def slice_backward(given: Given) -> tuple[Call, ...]:
    """`slice_backward(dy, size, dim, start, end, step)`."""
    dy, _, dim, start, _, step = given.args
    return fill(given.out, 0), copy(_slice(given.out, dim, start, step, dy), dy)


def slice_scatter(given: Given) -> tuple[Call, ...]:
    """`slice_scatter(x, part, dim, start, end, step)`."""
    x, part = given.args[:2]
    dim, start, step = given.arg(2, "dim", 0), given.arg(3, "start") or 0, given.arg(5, "step", 1)
    return copy(given.out, x), copy(_slice(given.out, dim, start, step, part), part)


def _slice(x: View, dim: int, start: int, step: int, part: View) -> View:
    """The elements of `x` from `start` on, as many along `dim` as `part` has."""
    dim %= x.dims
    size, length = x.size[dim], part.size[dim]
    if isinstance(size, str) or isinstance(length, str):
        raise Unsupported("what it cuts is cut")
    begin = min(start + (size if start < 0 else 0), size)
    return x.narrow(dim, begin, length).spread(dim, step)


def select_backward(given: Given) -> tuple[Call, ...]:
    """`select_backward(dy, size, dim, index)`."""
    dy, _, dim, index = given.args
    return fill(given.out, 0), copy(_select(given.out, dim, index), dy)


def select_scatter(given: Given) -> tuple[Call, ...]:
    """`select_scatter(x, part, dim, index)`."""
    x, part, dim, index = given.args
    return copy(given.out, x), copy(_select(given.out, dim, index), part)


def _select(x: View, dim: int, index: int) -> View:
    """The elements of `x` at `index` along `dim`."""
    dim %= x.dims
    size = x.size[dim]
    if isinstance(size, str):
        raise Unsupported("what it cuts is cut")
    return x.narrow(dim, index % size, 1).squeeze(dim)


def diagonal_backward(given: Given) -> tuple[Call, ...]:
    """`diagonal_backward(dy, size, offset, dim1, dim2)`."""
    dy, _, offset, first, second = given.args
    first, second = first % given.out.dims, second % given.out.dims
    out = given.out.narrow(first, max(-offset, 0), dy.size[-1]).narrow(second, max(offset, 0), dy.size[-1])
    both = plus(out.stride[first], out.stride[second])
    for dim in sorted((first, second), reverse=True):
        out = out.squeeze(dim)
    diagonal = replace(out, size=(*out.size, dy.size[-1]), stride=(*out.stride, both))
    return fill(given.out, 0), copy(diagonal, dy)
