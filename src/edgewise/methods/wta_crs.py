"""Winner-take-all column-row sampling: a linear layer that keeps a few rows of its input (arXiv 2305.15265).

The weight's gradient is a sum of outer products over the n rows of the batch, grad_W = sum_i dZ_i^T H_i. Of
a distribution p over the rows, the winners, a set C of the most probable ones, are kept as they are, and
k - |C| rows are drawn from the rest, with replacement:

    grad_W = sum_{i in C} dZ_i^T H_i + (1 - P) / (k - |C|) sum_j dZ_j^T H_j / p_j        P = sum_C p

which is unbiased for any p. |C| minimizes (1 - P) / (k - |C|), the factor of its variance (theorem 2 of the
paper). Only the k rows, scaled, are saved for the backward pass. Here p_i ~ ||H_i||: the paper multiplies by
||dZ_i|| of the sample's last visit, and a step that can be repeated from its batch knows no visits.

The rows are drawn by `torch.rand`, which a captured step keys by (seed, step): recomputation draws the same.
"""

import torch
from torch import Tensor, nn

from edgewise.errors import UsageError

LEAST_ROWS = 10
"""Below so few rows, sampling is not worth its variance (the paper's own limit)."""


def rows_kept(rows: int, share: float) -> int:
    """How many rows are kept of `rows`."""
    return min(rows, max(LEAST_ROWS, round(share * rows)))


def sampled(p: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """As many rows as `uniforms`, and the factor of each, of n with probabilities `p`.

    The first |C| are the winners, in order of p; each of the others is drawn from the rest by its uniform
    number in [0, 1).
    Shapes depend on n and k only, whatever |C| is: every slot is drawn, and the winners' draws are not used.
    """
    k = len(uniforms)
    # In double: a product of a float uniform below 1 and the sum stays below the sum, so no draw is lost.
    ordered, index = p.double().sort(descending=True)
    slots = torch.arange(k, device=p.device)
    before = nn.functional.pad(ordered.cumsum(0)[: k - 1], (1, 0))  # P of the first c rows, c = 0 .. k-1
    rest = (1 - before).clamp(min=0)
    count = (rest / (k - slots)).argmin()
    losers = torch.where(torch.arange(len(p), device=p.device) < count, 0.0, ordered)
    sums = losers.cumsum(0)
    drawn = torch.searchsorted(sums, uniforms * sums[-1], right=True).clamp(max=len(p) - 1)
    place = torch.where(slots < count, slots, drawn)
    # Where nothing is left to draw from, all that is left is zero, and so is its factor.
    factor = sums[-1] / ((k - count) * ordered[place].clamp(min=torch.finfo(torch.float64).tiny))
    return index[place], torch.where(slots < count, 1.0, factor).to(p.dtype)


class _Sampled(torch.autograd.Function):
    """`x W^T + b`, of which x is saved by rows."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor, factor: Tensor) -> Tensor:
        """All rows of the output; `rows` and `factor` are what the backward pass will use."""
        del rows, factor
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Save k rows of x."""
        del output
        x, weight, bias, rows, factor = inputs
        ctx.has_bias = bias is not None
        ctx.save_for_backward(x.index_select(0, rows) * factor[:, None], weight, rows)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN205
        """Exact for x and bias; estimated for the weight."""
        kept, weight, rows = ctx.saved_tensors
        of_x = gradient @ weight if ctx.needs_input_grad[0] else None
        of_weight = gradient.index_select(0, rows).t() @ kept if ctx.needs_input_grad[1] else None
        of_bias = gradient.sum(0) if ctx.has_bias and ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias, None, None


class WtaCrsLinear(nn.Linear):
    """A linear layer whose backward pass has `share` of the rows of its input, at least ten.

    Forward pass, gradient of the input and of the bias are exact. In evaluation it is an ordinary layer.
    """

    share: float

    @classmethod
    def like(cls, layer: nn.Linear, share: float) -> "WtaCrsLinear":
        """A layer with the very parameters of `layer`.

        Raises:
            UsageError: `share` is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise UsageError(f"WTA-CRS: `share` is {share}; it must be above 0 and at most 1.")
        made = cls(1, 1, bias=False)
        made.in_features, made.out_features = layer.in_features, layer.out_features
        made.weight, made.bias, made.share = layer.weight, layer.bias, share
        return made.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Linear`; all dims but the last are rows."""
        flat = x.reshape(-1, self.in_features)
        k = rows_kept(len(flat), self.share)
        if not self.training or k >= len(flat) or not self.weight.requires_grad:
            return super().forward(x)
        with torch.no_grad():
            norms = flat.norm(dim=1)
            # The smallest number above 0 spares a batch of zeros the division by their sum.
            p = norms / norms.sum().clamp(min=torch.finfo(norms.dtype).tiny)
            rows, factor = sampled(p, torch.rand(k, dtype=norms.dtype))
        out: Tensor = _Sampled.apply(flat, self.weight, self.bias, rows, factor)  # type: ignore[no-untyped-call]
        return out.reshape(*x.shape[:-1], self.out_features)


def use_wta_crs(model: nn.Module, share: float, *, below: tuple[str, ...] = ("",)) -> tuple[str, ...]:
    """Put a `WtaCrsLinear` in the place of every linear layer below the module paths; their paths.

    Raises:
        UsageError: `share` is out of range, or a path has no linear layer.
    """
    found = [path for path, m in model.named_modules() if type(m) is nn.Linear and path]
    chosen: dict[str, None] = {}
    for top in below:
        under = [path for path in found if not top or path == top or path.startswith(f"{top}.")]
        if not under:
            listed = ", ".join(f"`{path}`" for path in found[:8]) or "none"
            raise UsageError(f"WTA-CRS: there is no linear layer below `{top}`. The model has: {listed}.")
        chosen.update(dict.fromkeys(under))
    for path in chosen:
        parent, _, name = path.rpartition(".")
        layer = model.get_submodule(path)
        assert isinstance(layer, nn.Linear)  # noqa: S101  # for the type checker: only these were found
        setattr(model.get_submodule(parent), name, WtaCrsLinear.like(layer, share))
    return tuple(chosen)
