"""What is done to one element after another, against PyTorch in float64, in any layout and in place."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from tests.emit.layouts import assert_close, empty, given, layouts, normal, place, seeds
from tests.emit.native import TYPES, kernels

aten = torch.ops.aten
shapes = st.lists(st.integers(1, 5), max_size=4).map(tuple)
Function = Callable[..., torch.Tensor]

UNARY: dict[str, tuple[Function, tuple[Any, ...]]] = {
    "add_scalar": (lambda x: x + 1.5, (1.5,)),
    "mul_scalar": (lambda x: x * -0.3, (-0.3,)),
    "div_scalar": (lambda x: x / 7, (7.0,)),
    "rsub_scalar": (lambda x: 1 - x, (1.0,)),
    "clamp": (lambda x: x.clamp(-0.5, 0.75), (-0.5, 0.75)),
    "neg": (torch.neg, ()),
    "abs": (torch.abs, ()),
    "sign": (torch.sign, ()),
    "exp": (torch.exp, ()),
    "reciprocal": (torch.reciprocal, ()),
    "relu": (torch.relu, ()),
    "sigmoid": (torch.sigmoid, ()),
    "tanh": (torch.tanh, ()),
    "silu": (F.silu, ()),
    "hardswish": (F.hardswish, ()),
    "hardsigmoid": (F.hardsigmoid, ()),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), (0.1,)),
    "softplus": (lambda x: F.softplus(x, 1.5, 2.0), (1.5, 2.0)),
    "log_sigmoid": (F.logsigmoid, ()),
    "elu": (lambda x: aten.elu(x, 1.3, 1.1, 0.7), (1.3, 1.1, 0.7)),
    "expm1": (torch.expm1, ()),
    "mish": (F.mish, ()),
    "erf": (torch.erf, ()),
    "sin": (torch.sin, ()),
    "cos": (torch.cos, ()),
    "floor": (torch.floor, ()),
    "round": (torch.round, ()),
}
POSITIVE: dict[str, tuple[Function, tuple[Any, ...]]] = {
    "log": (torch.log, ()),
    "sqrt": (torch.sqrt, ()),
    "rsqrt": (torch.rsqrt, ()),
    "log1p": (torch.log1p, ()),
}
BINARY: dict[str, tuple[Function, tuple[Any, ...]]] = {
    "add": (lambda a, b: torch.add(a, b, alpha=0.7), (0.7,)),
    "sub": (lambda a, b: torch.sub(a, b, alpha=2), (2.0,)),
    "mul": (torch.mul, ()),
    "div": (torch.div, ()),
    "maximum": (torch.maximum, ()),
    "minimum": (torch.minimum, ()),
    "prelu": (aten._prelu_kernel, ()),
    "mish_backward": (aten.mish_backward, ()),
    "hardtanh_backward": (lambda dy, x: aten.hardtanh_backward(dy, x, -0.5, 1.0), (-0.5, 1.0)),
    "sigmoid_backward": (aten.sigmoid_backward, ()),
    "tanh_backward": (aten.tanh_backward, ()),
    "silu_backward": (aten.silu_backward, ()),
    "hardswish_backward": (aten.hardswish_backward, ()),
    "hardsigmoid_backward": (aten.hardsigmoid_backward, ()),
    "leaky_relu_backward": (lambda dy, x: aten.leaky_relu_backward(dy, x, 0.1, False), (0.1,)),
    "softplus_backward": (lambda dy, x: aten.softplus_backward(dy, x, 1.5, 2.0), (1.5, 2.0)),
    "log_sigmoid_backward": (
        lambda dy, x: aten.log_sigmoid_backward(dy, x, (-x.abs()).exp()),
        (),
    ),
}
DIFFERENCES = {
    "add",
    "tanh_backward",
    "sigmoid_backward",
    "silu_backward",
    "mish_backward",
    "hardswish_backward",
    "elu_backward",
}
"""They can come close to zero where the first operand does not."""

SPECIAL = torch.tensor([0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 0.5, float("inf"), float("-inf"), float("nan")])


def kernel(name: str) -> Callable[..., None]:
    return getattr(kernels(), f"ew_{name}")


def check(
    name: str,
    function: Function,
    extra: tuple[Any, ...],
    operands: list[torch.Tensor],
    layout: int,
    terms: torch.Tensor | None = None,
) -> None:
    """In a layout of its own for each operand, and in the place of the first one."""
    terms = operands[0] if name in DIFFERENCES else terms
    expected, out = function(*(x.double() for x in operands)), empty(operands[0].shape, layout)
    kernel(name)(out, *(place(x, layout // i) for i, x in enumerate(operands, 3)), *extra)
    assert_close(out, expected, terms=terms)

    inside = place(operands[0], layout)
    kernel(name)(inside, inside, *operands[1:], *extra)
    assert torch.equal(inside, out)


@pytest.mark.parametrize("name", UNARY)
@given(shape=shapes, seed=seeds, layout=layouts)
def test_unary(name: str, shape: tuple[int, ...], seed: int, layout: int) -> None:
    check(name, *UNARY[name], [3 * normal(shape, seed)], layout)


@pytest.mark.parametrize("name", POSITIVE)
@given(shape=shapes, seed=seeds, layout=layouts)
def test_unary_of_positive_numbers(name: str, shape: tuple[int, ...], seed: int, layout: int) -> None:
    check(name, *POSITIVE[name], [(3 * normal(shape, seed)).exp()], layout)


@pytest.mark.parametrize("name", BINARY)
@given(shape=shapes, seed=seeds, layout=layouts)
def test_binary(name: str, shape: tuple[int, ...], seed: int, layout: int) -> None:
    check(name, *BINARY[name], [2 * normal(shape, seed), 2 * normal(shape, seed + 1)], layout)


@given(st.sampled_from([2, 3, -1, -2, 0.5, -0.5, 1.7, -2.3, 0.0, 1.0]), shapes, seeds, layouts)
def test_pow_scalar(exponent: float, shape: tuple[int, ...], seed: int, layout: int) -> None:
    check("pow_scalar", lambda x: x**exponent, (exponent,), [normal(shape, seed).exp()], layout)


@given(shapes, seeds, layouts)
def test_pow(shape: tuple[int, ...], seed: int, layout: int) -> None:
    check("pow", torch.pow, (), [normal(shape, seed).exp(), 3 * normal(shape, seed + 1)], layout)


@given(shapes, seeds, layouts)
def test_xlogy(shape: tuple[int, ...], seed: int, layout: int) -> None:
    a, b = 2 * normal(shape, seed), normal(shape, seed + 1).relu()
    check("xlogy", torch.xlogy, (), [torch.where(b == 0, 0, a), b], layout, terms=a)


@given(shapes, seeds, layouts)
def test_prelu_backward(shape: tuple[int, ...], seed: int, layout: int) -> None:
    dy, x, slope = (normal(shape, seed + i) for i in range(3))
    dx, dslope = empty(shape, layout), empty(shape, layout // 3)

    kernels().ew_prelu_backward(dx, dslope, place(dy, layout // 5), place(x, layout // 7), slope)

    expected = aten._prelu_kernel_backward(dy.double(), x.double(), slope.double())
    assert_close(dx, expected[0])
    assert_close(dslope, expected[1])


def test_mish_far_from_zero() -> None:
    x, y, slope = torch.tensor([-120.0, -30.0, 19.9, 20.1, 120.0, float("inf")]), empty((6,)), empty((6,))

    kernels().ew_mish(y, x)
    kernels().ew_mish_backward(slope, torch.ones(6), x)

    torch.testing.assert_close(y, F.mish(x.double()).float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(slope[:-1], aten.mish_backward(torch.ones(5), x[:-1]), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("is_result", [False, True])
@given(shapes, seeds, layouts)
def test_elu_backward(is_result: bool, shape: tuple[int, ...], seed: int, layout: int) -> None:
    def reference(dy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return aten.elu_backward(dy, 1.3, 1.1, 0.7, is_result, x)

    x = normal(shape, seed)
    kept = aten.elu(x, 1.3, 1.1, 0.7) if is_result else x
    check("elu_backward", reference, (1.3, 1.1, 0.7, is_result), [normal(shape, seed + 1), kept], layout)


@pytest.mark.parametrize("tanh", [False, True])
@given(shapes, seeds, layouts)
def test_gelu(tanh: bool, shape: tuple[int, ...], seed: int, layout: int) -> None:
    form = "tanh" if tanh else "none"
    x, dy = 2 * normal(shape, seed), normal(shape, seed + 1)
    check("gelu", lambda x: F.gelu(x, approximate=form), (tanh,), [x], layout, terms=x)
    check(
        "gelu_backward",
        lambda dy, x: aten.gelu_backward(dy, x, approximate=form),
        (tanh,),
        [dy, x],
        layout,
        terms=dy,
    )


@pytest.mark.parametrize("threshold", [0.0, 0.4])
@given(shapes, seeds, layouts)
def test_threshold_backward(threshold: float, shape: tuple[int, ...], seed: int, layout: int) -> None:
    def reference(dy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return aten.threshold_backward(dy, x, threshold)

    check(
        "threshold_backward", reference, (threshold,), [normal(shape, seed), normal(shape, seed + 1)], layout
    )


@pytest.mark.parametrize(
    "name", ["relu", "abs", "neg", "clamp", "reciprocal", "sqrt", "exp", "tanh", "sigmoid", "log"]
)
def test_special_numbers(name: str) -> None:
    function, extra = (UNARY | POSITIVE)[name]
    out = empty(SPECIAL.shape)

    kernel(name)(out, SPECIAL, *extra)

    torch.testing.assert_close(out, function(SPECIAL), equal_nan=True)


@pytest.mark.parametrize("name", ["maximum", "minimum", "hardtanh_backward", "hardswish_backward"])
def test_special_pairs(name: str) -> None:
    function, extra = BINARY[name]
    a, b = torch.meshgrid(
        SPECIAL, SPECIAL[:-1], indexing="ij"
    )  # ATen itself is not of one mind about the last
    out = empty(a.shape)

    kernel(name)(out, a, b, *extra)

    torch.testing.assert_close(out, function(a.contiguous(), b.contiguous()), equal_nan=True)


def test_the_gradient_of_relu_at_special_numbers() -> None:
    dy, out = torch.arange(1.0, 11), empty(SPECIAL.shape)

    kernels().ew_threshold_backward(out, dy, SPECIAL, 0.0)

    assert torch.equal(out, aten.threshold_backward(dy, SPECIAL, 0))


def test_broadcast_operands_come_expanded() -> None:
    a, b = normal((2, 3, 4), 1), normal((3, 1), 2).expand(2, 3, 4)
    out = empty(a.shape)

    kernels().ew_add(out, a, b, 1.0)

    assert torch.equal(out, a + b)


def integers(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> torch.Tensor:
    made = torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed))
    return (
        made.bool()
        if dtype is torch.bool
        else (made % 2).to(dtype)
        if dtype is torch.uint8
        else made.to(dtype)
    )


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@given(shapes, seeds, layouts)
def test_copy_and_fill(dtype: torch.dtype, shape: tuple[int, ...], seed: int, layout: int) -> None:
    x = integers(shape, seed, dtype)
    out, filled = empty(shape, layout, dtype), empty(shape, layout, dtype)

    kernels().ew_copy(out, place(x, layout // 3), TYPES[dtype])
    kernels().ew_fill_bytes(filled, TYPES[dtype], 1)

    assert torch.equal(out, x)
    assert torch.equal(filled, torch.ones(shape).to(dtype))


@given(shapes, layouts)
def test_fill(shape: tuple[int, ...], layout: int) -> None:
    out = empty(shape, layout)

    kernels().ew_fill(out, -0.25)

    assert_close(out, torch.full(shape, -0.25))


@pytest.mark.parametrize("to", TYPES, ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_cast(dtype: torch.dtype, to: torch.dtype) -> None:
    x = integers((3, 4, 5), 7, dtype)
    x = x * 1.75 if dtype is torch.float32 else x
    out = empty(x.shape, 11, to)

    kernels().ew_cast(out, TYPES[to], place(x, 5), TYPES[dtype])

    expected = x.bool().to(to) if to is torch.uint8 else x.to(to)
    assert torch.equal(out, expected)


RELATIONS = [torch.eq, torch.ne, torch.lt, torch.le, torch.gt, torch.ge]


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda r: r.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.int32, torch.uint8, torch.int8], ids=str)
def test_compare(relation: Function, dtype: torch.dtype) -> None:
    a, b = integers((4, 5), 1, dtype), integers((4, 5), 2, dtype)
    out, number = RELATIONS.index(relation), TYPES[dtype]
    both, scalar = empty((4, 5), 3, torch.bool), empty((4, 5), 4, torch.bool)

    kernels().ew_compare(both, place(a, 3), place(b, 9), number, out)
    kernels().ew_compare_scalar(scalar, place(a, 3), number, 1.0, out)

    assert torch.equal(both, relation(a, b))
    assert torch.equal(scalar, relation(a, 1))


@given(shapes, seeds, layouts)
def test_masks(shape: tuple[int, ...], seed: int, layout: int) -> None:
    a, b, mask = normal(shape, seed), normal(shape, seed + 1), integers(shape, seed, torch.bool)
    chosen, filled, scaled = (empty(shape, layout) for _ in range(3))
    negated, both, either = (empty(shape, layout, torch.bool) for _ in range(3))
    scattered, other = place(mask, layout // 7), integers(shape, seed + 5, torch.bool)

    kernels().ew_where(chosen, scattered, place(a, layout // 3), place(b, layout // 5))
    kernels().ew_masked_fill(filled, place(a, layout // 3), scattered, -1.0)
    kernels().ew_masked_scale(scaled, place(a, layout // 3), scattered, 1.25)
    kernels().ew_logical_not(negated, scattered)
    kernels().ew_logical_and(both, scattered, other)
    kernels().ew_logical_or(either, scattered, other)

    assert torch.equal(chosen, torch.where(mask, a, b))
    assert torch.equal(filled, a.masked_fill(mask, -1.0))
    assert torch.equal(scaled, a * mask * 1.25)
    assert torch.equal(negated, ~mask)
    assert torch.equal(both, mask & other)
    assert torch.equal(either, mask | other)


@pytest.mark.parametrize("upper", [False, True])
@given(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)), st.integers(-6, 6), seeds, layouts)
def test_triangle(upper: bool, shape: tuple[int, ...], diagonal: int, seed: int, layout: int) -> None:
    x, reference = normal(shape, seed), torch.triu if upper else torch.tril
    out, inside = empty(shape, layout), place(x, layout // 5)

    kernels().ew_triangle(out, place(x, layout // 3), 0, diagonal, upper)
    kernels().ew_triangle(inside, inside, 0, diagonal, upper)

    assert_close(out, reference(x, diagonal))
    assert torch.equal(inside, out)


def test_triangle_of_integers() -> None:
    x, out = torch.ones(4, 5, dtype=torch.int64), empty((4, 5), 3, torch.int64)

    kernels().ew_triangle(out, x, TYPES[torch.int64], 1, 0)

    assert torch.equal(out, x.tril(1))


@pytest.mark.parametrize("name", ["add", "relu"])
def test_an_empty_tensor_is_left_alone(name: str) -> None:
    out = torch.empty(3, 0)

    kernel(name)(out, out, *([out, 1.0] if name == "add" else []))
