"""Kernels of fixed point against `edgewise.methods.fixed_point`: the same integers."""

import ctypes
import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgewise.methods.fixed_point import operators as ops
from edgewise.methods.fixed_point.arithmetic import Factor, factor_of
from edgewise.methods.fixed_point.draws import Directions, Guidance, Mask, packed, table
from edgewise.methods.fixed_point.in_c import rate_of
from edgewise.methods.fixed_point.loss import (
    _LOGARITHMS,
    _POWERS,
    cross_entropy,
    factor_of_logits,
    in_nats,
    unit_in_nats,
)
from edgewise.methods.fixed_point.moves import Mover, Perturbation, Rate, Update
from edgewise.methods.fixed_point.network import Parameter, moves
from edgewise.methods.fixed_point.probe import Probe
from tests.emit.layouts import empty, layouts, normal, place, seeds
from tests.emit.native import (
    KERNELS,
    WEIGHTS,
    IntegerDirections,
    Pool,
    ProbeSettings,
    RateSettings,
    Requantize,
    kernels,
)
from tests.emit.native import Factor as CFactor
from tests.emit.test_kernels_integers import convolutions, levels

weights = st.sampled_from([torch.int16, torch.int8])
counts = st.integers(1, 100)
STEP = 5


def integers(shape: tuple[int, ...], seed: int, most: int, dtype: torch.dtype) -> Tensor:
    """Whole numbers of both signs."""
    return torch.randint(-most, most + 1, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize(
    ("file", "name", "expected"),
    [
        ("draws", "normal_levels", table("normal")[128:]),
        ("loss", "powers", _POWERS.tolist()),
        ("loss", "logarithms", _LOGARITHMS.tolist()),
    ],
)
def test_tables(file: str, name: str, expected: Any) -> None:
    text = (KERNELS / f"fixed_point_{file}.h").read_text()
    body = re.search(rf"{name}\[\d+\] = {{(.*?)}};", text, re.DOTALL)
    assert body
    assert [int(number.strip(" u\n")) for number in body[1].split(",")[:-1]] == list(expected)


def test_every_size_has_a_rate() -> None:
    """As large as 16 bits allow, and as far as a whole number can be taken for a float."""
    for size in [*range(600), *range(600, 9_400, 7)]:
        factor = rate_of(size)
        upper = moves(size)[127:]
        assert all((z * factor.m + (1 << (factor.k - 1))) >> factor.k == upper[z] for z in range(128)), size


class Case:
    """A mover, the values that it reads, and the same for C."""

    def __init__(self, count: int, seed: int, dtype: torch.dtype, kind: str, directions: int) -> None:
        most = 100 if dtype == torch.int8 else 20_000
        self.w = integers((count,), seed, most, dtype)
        law = ("normal", "rademacher")[seed % 2]
        streams = tuple(range(40, 40 + directions))
        self.tensors: dict[str, Tensor] = {"step": torch.tensor(STEP), "w": self.w.clone()}
        mask = guidance = None
        if kind == "bits":
            self.tensors["bits"] = packed(normal((count,), seed) > 0)
            mask = Mask(bits="bits")
        elif kind == "chance":
            mask = Mask(below=100, stream=9)
        elif kind == "guided":
            self.tensors["last"] = levels((count,), seed)
            guidance = Guidance("last", 0.4, 0.6, STEP)
        parameter = Parameter(self.w, 1.0, most, 7 if dtype == torch.int8 else 301, 55, trained=True)
        self.mover = Mover("w", parameter, Directions(count, law, seed, streams, mask, guidance))
        self.kept, self.last = self.tensors.get("bits"), self.tensors.get("last")
        self.c = IntegerDirections.of(self.mover.directions, STEP)


kinds = st.sampled_from(["all", "bits", "chance", "guided"])


cuts = st.integers(0, 100)


def slices(count: int, cut: int) -> list[slice]:
    """Two slices, or one."""
    return [slice(0, count)] if not 0 < cut < count else [slice(0, cut), slice(cut, count)]


@given(counts, cuts, seeds, weights, kinds, st.integers(-2, 2), st.sampled_from([None, -1, 0, 1]))
def test_shift(
    count: int, cut: int, seed: int, dtype: torch.dtype, kind: str, times: int, sign: int | None
) -> None:
    case = Case(count, seed, dtype, kind, 1)
    key = Perturbation(0, "" if sign is None else "sign")
    signs = None if sign is None else torch.tensor(sign, dtype=torch.int8)
    if signs is not None:
        case.tensors["sign"] = signs
    own = case.mover.parameter
    rate = CFactor(*rate_of(own.rho if key.sign else own.epsilon))

    for part in slices(count, cut):
        last = None if case.last is None else case.last[part]
        w = case.w[part]
        kernels().ew_shift(w, WEIGHTS[dtype], case.kept, last, signs, times, rate, part.start, case.c)

    expected = case.tensors["w"]
    case.mover.shift(expected, {key: times}, case.tensors)
    assert torch.equal(case.w, expected)


@given(counts, cuts, seeds, weights, kinds, st.integers(1, 3), st.booleans(), st.sampled_from([0, 4, 9]))
def test_follow(
    count: int,
    cut: int,
    seed: int,
    dtype: torch.dtype,
    kind: str,
    directions: int,
    normalized: bool,
    decay: int,
) -> None:
    case = Case(count, seed, dtype, kind, directions)
    case.tensors["signs"] = integers((directions,), seed, 1, torch.int8)
    rate = Rate(0.37, decay, normalized)
    units = round(rate.units / directions * (1 << 16))
    settings = RateSettings(units, decay, normalized, case.mover.parameter.most, 77)
    last = None if case.last is None else case.last.clone()
    room = (ctypes.c_int64 * directions)()
    signs = case.tensors["signs"]

    for part in slices(count, 0 if normalized else cut):
        followed = None if last is None else last[part]
        given_ = (case.kept, followed, signs, settings, part.start, case.c, room)
        kernels().ew_follow(case.w[part], WEIGHTS[dtype], *given_)

    update = Update(case.mover, "w", {}, "signs", rate, 77, [range(directions)])
    update(case.tensors, "whole", True, None)  # type: ignore[arg-type]
    assert torch.equal(case.w, case.tensors["w"])
    if last is not None:
        assert torch.equal(last, case.tensors["last"])


# -- operators ------------------------------------------------------------------------------------------


def requantize(output: ops.Output, bias: Factor | None = None, factor: Factor | None = None) -> Requantize:
    """Settings for C."""
    own = factor or output.factor or Factor(0, 0)
    return Requantize(CFactor(*own), output.low, output.high, CFactor(*(bias or Factor(0, 0))))


outputs = st.sampled_from(
    [ops.Output(None), ops.Output(factor_of(0.0007)), ops.Output(factor_of(0.002), 0, 90)]
)
eights = st.sampled_from([ops.Output(factor_of(0.11)), ops.Output(factor_of(0.63), 0, 90)])


def room_for(output: ops.Output, shape: tuple[int, ...]) -> Tensor:
    """For what an operator makes."""
    return empty(shape, 0, torch.int8 if output.factor else torch.int32)


@given(counts, seeds, layouts)
def test_quantize(count: int, seed: int, layout: int) -> None:
    x, out = 3 * normal((count, 2), seed), empty((count, 2), layout, torch.int8)

    kernels().ew_quantize(out, place(x, layout // 3), 0.031)

    assert torch.equal(out, ops.Quantize(0.031)([x], []))


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 9), cuts, outputs, weights, st.booleans(), seeds)
def test_linear(
    rows: int,
    inputs: int,
    made: int,
    cut: int,
    output: ops.Output,
    dtype: torch.dtype,
    biased: bool,
    seed: int,
) -> None:
    x, w = levels((rows, inputs), seed), integers((made, inputs), seed, 120, dtype)
    given_ = [w, integers((made,), seed + 1, 120, dtype)] if biased else [w]
    bias = factor_of(3.7) if biased else None
    y = room_for(output, (rows, made))

    for part in slices(made, cut % 10):
        b = given_[1][part] if biased else None
        kernels().ew_integer_linear(y[:, part], x, w[part], WEIGHTS[dtype], b, requantize(output, bias))

    assert torch.equal(y, ops.Linear(output, bias)([x], given_))


@given(convolutions(), outputs, weights, st.booleans(), seeds)
def test_convolution(case: Any, output: ops.Output, dtype: torch.dtype, biased: bool, seed: int) -> None:
    x_shape, w_shape, c, (stride, padding, dilation, groups) = case
    x, w = levels(x_shape, seed), integers(w_shape, seed, 120, dtype)
    given_ = [w, integers((w_shape[0],), seed + 1, 120, dtype)] if biased else [w]
    bias = factor_of(0.4) if biased else None
    window = ops.Window(w_shape[2:], tuple(stride), tuple(padding), tuple(dilation))  # type: ignore[arg-type]
    expected = ops.Convolution(output, window, groups, bias)([x], given_)
    y = room_for(output, tuple(expected.shape))

    b = given_[1] if biased else None
    kernels().ew_integer_convolution(y, x, w, WEIGHTS[dtype], b, requantize(output, bias), c)

    assert torch.equal(y, expected)


@given(convolutions(), eights, seeds, layouts)
def test_pools(case: Any, output: ops.Output, seed: int, layout: int) -> None:
    x_shape, (_, _, *kernel), _, (stride, padding, dilation, _) = case
    padding = [min(p, k // 2) for p, k in zip(padding, kernel, strict=True)]
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    x_shape = (*x_shape[:2], *(max(n, r) for n, r in zip(x_shape[2:], reach, strict=True)))
    x = levels(x_shape, seed)
    window = ops.Window(tuple(kernel), tuple(stride), tuple(padding), tuple(dilation))  # type: ignore[arg-type]
    whole = ops.Window(tuple(kernel), tuple(stride), (0, 0), tuple(dilation))  # type: ignore[arg-type]
    most, mean = ops.MaxPool(window)([x], []), ops.MeanPool(whole, output)([x], [])
    largest, means = empty(most.shape, layout, torch.int8), empty(mean.shape, layout // 3, torch.int8)

    kernels().ew_integer_max_pool(largest, x, Pool.of(kernel, stride, padding, dilation))
    settings = Pool.of(kernel, stride, (0, 0), dilation)
    kernels().ew_integer_mean_pool(means, x, requantize(output), settings)

    assert torch.equal(largest, most)
    assert torch.equal(means, mean)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple), eights, seeds, layouts)
def test_elementwise(shape: tuple[int, ...], output: ops.Output, seed: int, layout: int) -> None:
    a, b = levels(shape, seed), levels(shape[-1:], seed + 1)
    spread, names = b.expand(shape), ("sum", "product", "scaled", "looked")
    out = {name: empty(shape, layout, torch.int8) for name in names}
    entries = tuple(levels((255,), seed).tolist())
    total = ops.Sum((70_000, 50_000), 17, ops.Output(None, output.low, output.high))

    kernels().ew_integer_sum(out["sum"], place(a, layout // 3), spread, 70_000, 50_000,
                             requantize(total.output, factor=Factor(1, 17)))  # fmt: skip
    kernels().ew_integer_product(out["product"], place(a, layout // 3), spread, requantize(output))
    kernels().ew_integer_scale(out["scaled"], place(a, layout // 3), requantize(output))
    kernels().ew_lookup(out["looked"], place(a, layout // 3), (ctypes.c_int8 * 255)(*entries))

    assert torch.equal(out["sum"], total([a, b], []))
    assert torch.equal(out["product"], ops.Times(output)([a, b], []))
    assert torch.equal(out["scaled"], output.of(a.to(torch.int64)))
    assert torch.equal(out["looked"], ops.Lookup(entries)([a], []))


# -- losses ---------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 12), st.integers(2, 2**29), seeds)
def test_cross_entropy(samples: int, classes: int, most: int, seed: int) -> None:
    logits = integers((samples, classes), seed, most, torch.int32)
    targets = torch.randint(classes, (samples,), generator=torch.Generator().manual_seed(seed))
    factor, loss = factor_of_logits(40 / most), torch.zeros((), dtype=torch.int64)

    kernels().ew_integer_cross_entropy(loss, logits, targets, CFactor(*factor))

    assert loss.equal(cross_entropy(logits, targets, factor))


@given(st.integers(-(2**50), 2**50), st.integers(-(2**50), 2**50))
def test_sign_and_real(a: int, b: int) -> None:
    sign, real = torch.zeros((), dtype=torch.int8), torch.zeros(())

    kernels().ew_integer_sign(sign, torch.tensor(a), torch.tensor(b))
    kernels().ew_integer_real(real, torch.tensor(a), unit_in_nats(12))

    assert int(sign) == (a > b) - (a < b)
    assert real.equal(in_nats(torch.tensor(a), 12))


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 40), st.integers(1, 4), kinds, kinds, seeds)
def test_probe(
    samples: int, classes: int, features: int, directions: int, of_w: str, of_b: str, seed: int
) -> None:
    w, b = (
        Case(n, seed, torch.int16, k, directions) for n, k in ((classes * features, of_w), (classes, of_b))
    )
    x = levels((samples, features), seed)
    targets = torch.randint(classes, (samples,), generator=torch.Generator().manual_seed(seed))
    names = {"w": w.w, "x": x, "batch.1": targets, "step": torch.tensor(STEP)}
    tensors = {**names, "b": b.w, **{k: t for k, t in w.tensors.items() if k in ("bits", "last")}}
    probe = Probe("x", ("w",), ((classes, features),), (w.mover,), None, directions, factor_of_logits(1e-5))
    signs, losses = torch.zeros(directions, dtype=torch.int8), torch.zeros((), dtype=torch.int64)
    rate = CFactor(*rate_of(301))
    nothing, logits = CFactor(0, 0), CFactor(*probe.logits)
    room = (ctypes.c_int32 * (2 * samples * classes + classes))()

    def run(bias: Tensor | None, rates: Any, offset: CFactor) -> None:
        rest = (b.kept, b.last, b.c) if bias is not None else (None, None, None)
        settings = ProbeSettings(rates, offset, logits)
        kernels().ew_probe(signs, losses, x, w.w.view(classes, features), bias, WEIGHTS[torch.int16], targets,
                           w.kept, w.last, w.c, *rest, settings, room)  # fmt: skip

    run(None, (CFactor * 2)(rate, nothing), nothing)
    tensors["w"] = w.w.view(classes, features)
    expected = probe(tensors, "whole", True, None)  # type: ignore[arg-type]
    assert torch.equal(signs, expected[0])
    assert losses.equal(expected[1])
    if of_b != of_w and {of_b, of_w} & {"bits", "guided"}:
        return  # the two would read the same names
    offset = factor_of(31.7)
    run(b.w, (CFactor * 2)(rate, rate), CFactor(*offset))
    if of_b in ("bits", "guided"):
        return
    shapes = ((classes, features), (classes,))
    both = Probe("x", ("w", "b"), shapes, (w.mover, b.mover), offset, directions, probe.logits)
    expected = both(tensors, "whole", True, None)  # type: ignore[arg-type]
    assert torch.equal(signs, expected[0])
    assert losses.equal(expected[1])
    assert math.isfinite(float(losses))
