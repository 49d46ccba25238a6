"""Rates of torch ops on this machine, by the op classes that capture gives (`capture/costs.py`).

Products and convolutions are counted with two flops per multiply-add; convolutions are measured as training
uses them, forward and both gradients. Every other class counts one per element of its largest operand, so its
rate is elements/s.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

SAMPLES = 5
SAMPLE_SECONDS = 0.012
MIN_SECONDS = 1e-9  # what is left when the overhead of a tiny op eats its whole time


class OpRates(NamedTuple):
    """Flops (or elements) per second by class, seconds of any op at all, bytes/s through the processor."""

    class_flops_per_second: dict[str, float]
    seconds_per_op: float
    bytes_per_second: float


class Kernel(NamedTuple):
    """A representative of one op class: what to call, the flops of one call, and how many torch ops it is."""

    call: Callable[[], object]
    flops: int
    ops: int = 1


def measure_ops(size: int = 64, progress: Callable[[str], None] | None = None) -> OpRates:
    """Measure every class with tensors whose sides are about `size`; medians of repeats, about 2 s in all."""
    import torch  # noqa: PLC0415  -- a device is loaded without torch; only the probe needs it

    with torch.no_grad():
        one = torch.zeros(1)
        overhead = seconds_of(lambda: torch.add(one, one))
        rates = {}
        for name, kernel in {**_products(torch, size), **_elements(torch, size)}.items():
            if progress:
                progress(name)
            elapsed = seconds_of(kernel.call) - kernel.ops * overhead
            rates[name] = kernel.flops / max(elapsed, MIN_SECONDS)
        source = torch.ones(size * size * 4096)  # 64 MiB by default: beyond the caches of most machines
        target = torch.empty_like(source)
        copying = seconds_of(lambda: target.copy_(source))
    return OpRates(rates, overhead, 2 * 4 * source.numel() / copying)


def seconds_of(call: Callable[[], object], *, samples: int = SAMPLES) -> float:
    """Median seconds of one `call`, over samples long enough for the clock."""
    call()
    started = time.perf_counter()
    call()
    calls = max(1, round(SAMPLE_SECONDS / max(time.perf_counter() - started, 1e-7)))
    found = []
    for _ in range(samples):
        started = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - started) / calls)
    return statistics.median(found)


def _products(torch: Any, size: int) -> dict[str, Kernel]:
    a, b = torch.randn(4 * size, 4 * size), torch.randn(4 * size, 4 * size)
    return {
        "matmul": Kernel(lambda: torch.mm(a, b), 2 * (4 * size) ** 3),
        "convolution": _convolution(torch, size, channels=size // 2, groups=1),
        "depthwise_convolution": _convolution(torch, size, channels=size // 2, groups=size // 2),
    }


def _convolution(torch: Any, size: int, *, channels: int, groups: int) -> Kernel:
    side = size // 2
    x = torch.randn(4, channels, side, side)
    weight = torch.randn(channels, channels // groups, 3, 3)
    pair, wanted = [1, 1], [True, True, False]

    def train() -> None:
        y = torch.ops.aten.convolution(x, weight, None, pair, pair, pair, False, [0, 0], groups)
        torch.ops.aten.convolution_backward(
            y, x, weight, None, pair, pair, pair, False, [0, 0], groups, wanted
        )

    return Kernel(train, 3 * 2 * 4 * side * side * weight.numel(), ops=2)


def _elements(torch: Any, size: int) -> dict[str, Kernel]:
    aten, nn = torch.ops.aten, torch.nn.functional
    rows = torch.randn(size * 4, size * 4)
    image = torch.randn(4, size, size // 2, size // 2)
    image_count, count = image.numel(), rows.numel()
    channels = torch.ones(size)
    index = torch.randint(0, 4 * size, (size,))
    picked = torch.randn(size, 4 * size)
    parameter, gradient, momentum = rows.clone(), torch.randn_like(rows), torch.zeros_like(rows)

    def update() -> None:
        parameter.add_(momentum.mul_(0.9).add_(gradient), alpha=-1e-6)

    def gather() -> None:
        aten.embedding(rows, index)
        aten.embedding_dense_backward(picked, index, 4 * size, -1, False)

    def blend() -> None:  # an activation, its gradient, and a sum: what element-wise ops in training are
        torch.relu(rows)
        aten.threshold_backward(gradient, rows, 0)
        torch.add(rows, gradient)

    return {
        "elementwise": Kernel(blend, 3 * count, ops=3),
        "reduction": Kernel(lambda: rows.sum(dim=0), count),
        "normalization": Kernel(
            lambda: nn.batch_norm(image, None, None, channels, channels, training=True), image_count
        ),
        "softmax": Kernel(lambda: torch.softmax(rows, 1), count),
        "pooling": Kernel(lambda: nn.max_pool2d(image, 2), image_count),
        "embedding": Kernel(gather, 2 * count, ops=2),
        "copy": Kernel(rows.clone, count),
        "random": Kernel(_draw(torch, count), count),
        "optimizer": Kernel(update, count, ops=3),
        "other": Kernel(lambda: torch.cumsum(rows, 1), count),
    }


def _draw(torch: Any, count: int) -> Callable[[], object]:
    """The arithmetic of Philox4x32-10 in 64-bit integers, by which Edgewise draws four numbers a counter."""
    counters = torch.arange(count // 4)

    def draw() -> object:
        c0, c2, mask = counters, counters, 0xFFFFFFFF
        for _ in range(10):
            p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
            c0 = ((p1 >> 32) & mask) ^ (p0 & mask) ^ 0x9E3779B9
            c2 = ((p0 >> 32) & mask) ^ (p1 & mask) ^ 0xBB67AE85
        return c0

    return draw
