"""Whole numbers in ATen calls: those that count steps and samples, and sums of integer products."""

from dataclasses import replace

import torch

from edgewise.emit.calls import Call, Given, Rule, Unsupported
from edgewise.emit.views import View

WHOLE = (torch.int64, torch.int32, torch.bool)
"""Types that have kernels of their own, or are cast to float32 first."""


def whole_numbers(function: str, floats: Rule, given: Given) -> tuple[Call, ...]:
    """`function`, a sum, difference or product: in int64, or by the rule for `floats` once one is cast.

    Raises:
        Unsupported: the result is neither int64 nor float32, or two operands had to be cast.
    """
    a, b = given.args[:2]
    whole = [i for i, x in enumerate((a, b)) if isinstance(x, View) and x.dtype in WHOLE]
    if given.out.dtype == torch.float32 and len(whole) == 1:
        args = [*given.args]
        x = args[whole[0]]
        args[whole[0]] = given.out
        cast = Call("ew_cast", (given.out, "EW_F32", x.expand(given.out.size), x.c_type))
        return (cast, *floats(replace(given, args=tuple(args))))
    longs = all(x.dtype == torch.int64 for x in (given.out, a, b) if isinstance(x, View))
    if not longs or function not in ("ew_add", "ew_sub"):
        raise Unsupported(f"no kernel in C for {str(given.out.dtype).removeprefix('torch.')}")
    alpha = int(given.kwargs.get("alpha", 1)) * (1 if function == "ew_add" else -1)
    a = a.expand(given.out.size)
    if isinstance(b, View):
        return (Call("ew_add_i64", (given.out, a, b.expand(given.out.size), alpha)),)
    return (Call("ew_add_scalar_i64", (given.out, a, int(b) * alpha)),)


def number_less_whole(floats: Rule, given: Given) -> tuple[Call, ...]:
    """`rsub(x, number)`, `number - x`: in int64, or by the rule for `floats` once x is cast."""
    x, number = given.args[:2]
    if given.out.dtype != torch.int64:
        return whole_numbers("ew_rsub", floats, given)
    return (
        Call("ew_fill_bytes", (given.out, given.out.c_type, int(number))),
        Call("ew_add_i64", (given.out, given.out, x.expand(given.out.size), -1)),
    )


def _by_number(function: str, given: Given) -> tuple[Call, ...]:
    x, number = given.args[:2]
    if isinstance(number, View) or given.out.dtype != torch.int64:
        raise Unsupported("no kernel in C but for int64 by a number")
    return (Call(function, (given.out, x.expand(given.out.size), int(number))),)


def remainder(given: Given) -> tuple[Call, ...]:
    """`remainder(x, number)`."""
    return _by_number("ew_remainder_i64", given)


def rounded_quotient(given: Given) -> tuple[Call, ...]:
    """`div(x, number, rounding_mode="floor")`."""
    if given.kwargs["rounding_mode"] != "floor":
        raise Unsupported("no kernel in C for a quotient that is cut")
    return _by_number("ew_floor_divide_i64", given)


def whole_clamp(given: Given, low: int | None, high: int | None) -> tuple[Call, ...]:
    """`clamp(x, low, high)` in int64."""
    most = 2**62
    limits = (-most if low is None else int(low), most if high is None else int(high))
    return (Call("ew_clamp_i64", (given.out, given.args[0].expand(given.out.size), *limits)),)


def arange(given: Given) -> tuple[Call, ...]:
    """`arange(end)`, or `arange(start, end, step)`."""
    start, step = (given.args[0] if len(given.args) > 1 else 0), (given.args[2:3] or (1,))[0]
    if given.out.dtype == torch.float32:
        return (Call("ew_ramp", (given.out, float(start), float(step))),)
    if given.out.dtype != torch.int64:
        raise Unsupported("no kernel in C but for int64 and float32")
    return (Call("ew_arange", (given.out, int(start), int(step))),)


def linspace(given: Given) -> tuple[Call, ...]:
    """`linspace(start, end, steps)`."""
    start, end, steps = given.args
    if given.out.dtype != torch.float32:
        raise Unsupported("no kernel in C but for float32")
    return (Call("ew_ramp", (given.out, float(start), (end - start) / max(steps - 1, 1))),)
