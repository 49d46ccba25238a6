"""The gradients of a convolution as two ops: that of its input, and those of its parameters.

One call that makes them all holds all of them at once, with every operand. Apart, each has a small working
set, can run at another time, and be tiled its own way. The gradient of x reads the weight and not x; that of
the weight reads x and not the weight: of what it is the gradient of, only the layout is needed. So it is no
operand; what ATen wants to see in its place is a `blank`.
"""

import mmap
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture.costs import cost_of
from edgewise.capture.kernels import AtenKernel, Instruction
from edgewise.capture.lowering import Layout, Lowering
from edgewise.graph import Op

aten = torch.ops.aten


def blank(layout: Layout) -> Tensor:
    """A tensor that takes no memory as long as nobody touches its elements: pages of a map come when used."""
    pages = mmap.mmap(-1, max(layout.storage_bytes, 1))
    flat = torch.frombuffer(pages, dtype=torch.uint8)
    return flat[: layout.storage_bytes].view(layout.dtype).as_strided(layout.size, layout.stride)


def input_gradient(gradient: Tensor, weight: Tensor, x: Layout, settings: Sequence[Any]) -> Tensor:
    """Gradient of a convolution's input; of x itself only the layout is needed.

    The weight may be int8. `settings` are those of `convolution_backward`, from the stride to the groups.
    """
    mask, weight = (True, False, False), weight.to(gradient.dtype)
    return aten.convolution_backward(gradient, blank(x), weight, None, *settings, mask)[0]  # type: ignore[no-any-return]


def parameter_gradients(
    gradient: Tensor, x: Tensor, weight: Layout, settings: Sequence[Any], *, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Gradients of a convolution's weight and bias, as far as `wanted`; the weight itself is not read.

    They stay together because one pass over the operands makes both, and a sum in its place has other bits.
    """
    bias_sizes = [weight.size[1] * settings[-1] if settings[3] else weight.size[0]]
    found = aten.convolution_backward(gradient, x, blank(weight), bias_sizes, *settings, (False, *wanted))
    return found[1], found[2]


def split_convolution_backward(low: Lowering, node: fx.Node) -> None:
    """`convolution_backward(gradient, x, weight, bias_sizes, *settings, mask)` as one op or two."""
    gradient, x, weight, _, *rest = node.args
    settings = tuple(rest[:-1])
    layouts = [Layout.of(low.fake[operand]) for operand in (x, weight)]  # type: ignore[index]
    wanted = tuple(item in {user.args[1] for user in node.users} for item in range(3))
    if wanted[0]:
        _add(low, node, input_gradient, (gradient, weight, layouts[0], settings), {}, (0,))
    if wanted[1] or wanted[2]:
        kept = tuple(item for item in (1, 2) if wanted[item])
        call = (gradient, x, layouts[1], settings)
        _add(low, node, parameter_gradients, call, {"wanted": wanted[1:]}, kept)


def _add(
    low: Lowering,
    node: fx.Node,
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    items: tuple[int, ...],
) -> None:
    """An op that makes the results `items` of `node` by calling `target`."""
    mask = tuple(item in items for item in range(3))
    fakes = [low.fake[node][item] for item in items]
    kind, flops = cost_of(node.target, (*low.fake_of(tuple(node.args[:-1])), mask), fakes)
    outputs = tuple(
        low.new_value(node, fake, suffix=f".{item}", item=item)
        for item, fake in zip(items, fakes, strict=True)
    )
    program, slots = low.program(args)
    kept = None if items == (0,) else tuple(item - 1 for item in items)
    name = f"{low.op_name(node)}.{'input' if items == (0,) else 'parameters'}"
    op = Op(name, program.operands, outputs, flops, kind, layer=low.layer(node))
    kernel = AtenKernel(program, Instruction(target, slots, kwargs), kept, {})
    low.add(op, kernel, backward=node not in low.forward)
