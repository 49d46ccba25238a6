"""The same elements in other places: a strided copy, or a few of them, for each of these ATen ops."""

from collections.abc import Callable, Sequence
from itertools import product

from edgewise.emit.calls import Call, Given, Rule, Unsupported, only_floats
from edgewise.emit.copies import copy, fill
from edgewise.emit.views import View


def flip(given: Given) -> tuple[Call, ...]:
    """`flip(x, dims)`."""
    x, dims = given.args
    for dim in dims:
        x = x.reverse(dim % x.dims)
    return (copy(given.out, x),)


def roll(given: Given) -> tuple[Call, ...]:
    """`roll(x, shifts, dims)`: along each dim two parts change places."""
    x, shifts = given.args[:2]
    dims = given.arg(2, "dims") or ()
    if not dims:
        raise Unsupported("no kernel in C but along dims")
    parts = []
    for dim, shift in zip(dims, shifts, strict=True):
        size = _number(x.size[dim % x.dims])
        by = shift % size if size else 0
        cuts = ((0, by, size - by), (size - by, 0, by))  # from, to, length
        parts.append([(dim % x.dims, *cut) for cut in cuts if cut[2]])
    calls = []
    for chosen in product(*parts):
        source, target = x, given.out
        for dim, begin, to, length in chosen:
            source, target = source.narrow(dim, begin, length), target.narrow(dim, to, length)
        calls.append(copy(target, source))
    return tuple(calls)


def pixel_shuffle(given: Given) -> tuple[Call, ...]:
    """`pixel_shuffle(x, r)`: `[..., C r r, H, W]` becomes `[..., C, H r, W r]`."""
    x, factor = given.args
    return (copy(_pixels(given.out, factor), _channels(x, factor)),)


def pixel_unshuffle(given: Given) -> tuple[Call, ...]:
    """`pixel_unshuffle(x, r)`, the way back."""
    x, factor = given.args
    return (copy(_channels(given.out, factor), _pixels(x, factor)),)


def _channels(x: View, factor: int) -> View:
    """`[..., C r r, H, W]` as `[..., C, r, r, H, W]`."""
    at = x.dims - 3
    return x.split(at, factor * factor).split(at + 1, factor)


def _pixels(x: View, factor: int) -> View:
    """`[..., C, H r, W r]` as `[..., C, r, r, H, W]`."""
    x = x.split(x.dims - 1, factor).split(x.dims - 2, factor)
    *before, h, down, w, right = range(x.dims)
    return x.permute((*before, down, right, h, w))


def channel_shuffle(given: Given) -> tuple[Call, ...]:
    """`channel_shuffle(x, groups)`: dim 1 as [groups, n] becomes [n, groups]."""
    x, groups = given.args
    x = x.split(1, _number(x.size[1]) // groups)
    out = given.out.split(1, groups)
    return (copy(out, x.permute((0, 2, 1, *range(3, x.dims)))),)


Cut = tuple[int, int, int, bool]
"""A part of a padded dim: where it begins there and in x, how long it is, whether it is in reverse order."""


def reflection(size: int, before: int, behind: int) -> tuple[Cut, ...]:
    """The parts of a dim of `size` that is continued by its reflections."""
    return (
        (0, 1, before, True),
        (before, 0, size, False),
        (before + size, size - 1 - behind, behind, True),
    )


def repeated_edges(size: int, before: int, behind: int) -> tuple[Cut, ...]:
    """The parts of a dim of `size` that is continued by its first and last element."""
    return (
        *((at, 0, 1, False) for at in range(before)),
        (before, 0, size, False),
        *((before + size + at, size - 1, 1, False) for at in range(behind)),
    )


def padded(cuts: Callable[[int, int, int], tuple[Cut, ...]]) -> Rule:
    """`reflection_pad(x, pads)` and the like, over the last one or two dims."""

    def rule(given: Given) -> tuple[Call, ...]:
        x, pads = given.args
        return tuple(copy(out, part) for out, part in _parts(given.out, x, pads, cuts))

    return rule


def padded_backward(cuts: Callable[[int, int, int], tuple[Cut, ...]]) -> Rule:
    """`reflection_pad_backward(dy, x, pads)` and the like: each part of dy is added where it came from."""

    def rule(given: Given) -> tuple[Call, ...]:
        dy, _, pads = given.args
        only_floats(dy)
        parts = _parts(dy, given.out, pads, cuts)
        sums = tuple(Call("ew_add", (part, part, slope, 1.0)) for slope, part in parts)
        return (fill(given.out, 0), *sums)

    return rule


def _parts(
    padded: View, x: View, pads: Sequence[int], cuts: Callable[[int, int, int], tuple[Cut, ...]]
) -> list[tuple[View, View]]:
    """Parts of `padded`, and what of `x` belongs there."""
    found = [(padded, x)]
    if min(pads) < 0:
        raise Unsupported("no kernel in C for padding that cuts")
    for back, (before, behind) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        dim = x.dims - 1 - back
        found = [
            (target.narrow(dim, to, length), part.reverse(dim) if turned else part)
            for target, source in found
            for to, begin, length, turned in cuts(_number(x.size[dim]), before, behind)
            if length
            for part in (source.narrow(dim, begin, length),)
        ]
    return found


def _number(extent: object) -> int:
    if not isinstance(extent, int):
        raise Unsupported("its input is cut")
    return extent


def gated(given: Given) -> tuple[Call, ...]:
    """`glu(x, dim)`: the first half times the sigmoid of the second."""
    x, out = given.args[0], given.out
    only_floats(x)
    value, gate = _halves(x, given.arg(1, "dim", -1))
    return Call("ew_sigmoid", (out, gate)), Call("ew_mul", (out, out, value))


def gated_backward(given: Given) -> tuple[Call, ...]:
    """`glu_backward(dy, x, dim)`."""
    dy, x, dim = given.args
    only_floats(dy, x)
    value, gate = _halves(x, dim)
    of_value, of_gate = _halves(given.out, dim)
    return (
        Call("ew_sigmoid", (of_gate, gate)),
        Call("ew_mul", (of_value, dy, of_gate)),
        Call("ew_sigmoid_backward", (of_gate, dy, of_gate)),
        Call("ew_mul", (of_gate, of_gate, value)),
    )


def _halves(x: View, dim: int) -> tuple[View, View]:
    half = _number(x.size[dim % x.dims]) // 2
    return x.narrow(dim % x.dims, 0, half), x.narrow(dim % x.dims, half, half)
