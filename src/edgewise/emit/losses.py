"""Losses and their gradients as calls of C kernels."""

from edgewise.emit.calls import Call, Given, Unsupported, only_floats
from edgewise.emit.views import View, product

_REDUCTIONS = ("EW_NONE", "EW_MEAN", "EW_SUM")


def nll(given: Given) -> tuple[Call, ...]:
    """`nll_loss_forward(logp, target, weight, reduction, ignore_index)`."""
    logp, target, weight, reduction, ignored = given.args
    only_floats(logp, weight)
    if logp.dims == 1:
        logp, target = logp.unsqueeze(0), target.unsqueeze(0)
    outs = (given.made[0], given.made.get(1))
    return (Call("ew_nll_loss", (*outs, logp, target, weight, _REDUCTIONS[reduction], ignored)),)


def nll_backward(given: Given) -> tuple[Call, ...]:
    """`nll_loss_backward(dloss, logp, target, weight, reduction, ignore_index, total)`."""
    dloss, logp, target, weight, reduction, ignored, total = given.args
    only_floats(dloss, logp, weight)
    out = given.out
    if logp.dims == 1:
        out, target = out.unsqueeze(0), target.unsqueeze(0)
    views = (out, dloss, target, weight, total)
    return (Call("ew_nll_loss_backward", (*views, _REDUCTIONS[reduction], ignored)),)


def mse(given: Given) -> tuple[Call, ...]:
    """`mse_loss(x, target, reduction)`."""
    x, target = given.args[:2]
    only_floats(x, target)
    return (Call("ew_mse_loss", (given.out, x, target, _REDUCTIONS[given.arg(2, "reduction", 1)])),)


def mse_backward(given: Given) -> tuple[Call, ...]:
    """`mse_loss_backward(dloss, x, target, reduction)`."""
    dloss, x, target, reduction = given.args
    only_floats(dloss, x, target)
    return (Call("ew_mse_loss_backward", (given.out, dloss, x, target, _REDUCTIONS[reduction])),)


def huber(given: Given) -> tuple[Call, ...]:
    """`huber_loss(x, target, reduction, delta)`."""
    x, target = given.args[:2]
    only_floats(x, target)
    reduction, delta = _REDUCTIONS[given.arg(2, "reduction", 1)], float(given.arg(3, "delta", 1.0))
    return (Call("ew_huber_loss", (given.out, x, target, reduction, delta)),)


def huber_backward(given: Given) -> tuple[Call, ...]:
    """`huber_loss_backward(dloss, x, target, reduction, delta)`: the difference, cut off at delta."""
    dloss, x, target, reduction, delta = given.args
    only_floats(dloss, x, target)
    out = given.out
    return (
        Call("ew_sub", (out, x, target, 1.0)),
        Call("ew_clamp", (out, out, -float(delta), float(delta))),
        *_chained(out, dloss, reduction),
    )


def smooth_l1(given: Given) -> tuple[Call, ...]:
    """`smooth_l1_loss(x, target, reduction, beta)`: Huber's loss, in units of beta."""
    beta = _beta(given.arg(3, "beta", 1.0))
    return (*huber(given), Call("ew_mul_scalar", (given.out, given.out, 1 / beta)))


def smooth_l1_backward(given: Given) -> tuple[Call, ...]:
    """`smooth_l1_loss_backward(dloss, x, target, reduction, beta)`."""
    beta = _beta(given.args[4])
    return (*huber_backward(given), Call("ew_mul_scalar", (given.out, given.out, 1 / beta)))


def _beta(beta: float) -> float:
    if not beta:
        raise Unsupported("no kernel in C without a parabola; use the L1 loss")
    return float(beta)


def binary_cross_entropy(given: Given) -> tuple[Call, ...]:
    """`binary_cross_entropy(p, target, weight, reduction)`."""
    p, target, weight = given.args[0], given.args[1], given.arg(2, "weight")
    only_floats(p, target, weight)
    views = (given.out, p, target, weight.expand(p.size) if weight is not None else None)
    return (Call("ew_binary_cross_entropy", (*views, _REDUCTIONS[given.arg(3, "reduction", 1)])),)


def binary_cross_entropy_backward(given: Given) -> tuple[Call, ...]:
    """`binary_cross_entropy_backward(dloss, p, target, weight, reduction)`."""
    dloss, p, target = given.args[:3]
    weight, out = given.arg(3, "weight"), given.out
    only_floats(dloss, p, target, weight)
    calls = [Call("ew_binary_cross_entropy_slope", (out, p, target))]
    if weight is not None:
        calls.append(Call("ew_mul", (out, out, weight.expand(out.size))))
    return (*calls, *_chained(out, dloss, given.arg(4, "reduction", 1)))


def of_logits(given: Given) -> tuple[Call, ...]:
    """`binary_cross_entropy_with_logits(x, target, weight, pos_weight, reduction)`."""
    x, target = given.args[:2]
    weights = [given.arg(2, "weight"), given.arg(3, "pos_weight")]
    only_floats(x, target, *weights)
    views = (given.out, x, target, *(w.expand(x.size) if w is not None else None for w in weights))
    return (Call("ew_binary_cross_entropy_of_logits", (*views, _REDUCTIONS[given.arg(4, "reduction", 1)])),)


def _chained(out: View, dloss: View, reduction: int) -> tuple[Call, ...]:
    """`out`, the slope of each element's loss, times that of the loss that was made of them all."""
    calls = [Call("ew_mul", (out, out, dloss.expand(out.size)))]
    if _REDUCTIONS[reduction] == "EW_MEAN":
        count = product(out.size)
        if not isinstance(count, int):
            raise Unsupported("its input is cut")
        calls.append(Call("ew_mul_scalar", (out, out, 1 / count)))
    return tuple(calls)
