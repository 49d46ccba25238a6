"""Convolutions and their gradients against float64, whole and in pieces."""

from typing import NamedTuple

import torch
from hypothesis import assume
from hypothesis import strategies as st

from tests.emit.layouts import assert_close, empty, given, layouts, normal, place, seeds
from tests.emit.native import Convolution, kernels

aten = torch.ops.aten
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


class Case(NamedTuple):
    """A convolution: operands and settings as `aten.convolution` has them."""

    x: torch.Tensor
    w: torch.Tensor
    dy: torch.Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def settings(self) -> Convolution:
        return Convolution.of(self.stride, self.padding, self.dilation, self.groups)

    @property
    def sizes(self) -> "Case":
        """The same of the squares: the roots of its results are the sizes of the sums of this one."""
        return self._replace(x=self.x.square(), w=self.w.square(), dy=self.dy.square())

    def gradients(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of x, weight and bias, in float64."""
        sizes = [len(self.w)]
        rest = (sizes, self.stride, self.padding, self.dilation, False, [0, 0], self.groups, [True] * 3)
        return aten.convolution_backward(self.dy.double(), self.x.double(), self.w.double(), *rest)

    def forward(self, bias: torch.Tensor | None) -> torch.Tensor:
        """In float64."""
        given = None if bias is None else bias.double()
        rest = (self.stride, self.padding, self.dilation, False, [0, 0], self.groups)
        return aten.convolution(self.x.double(), self.w.double(), given, *rest)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Small convolutions of all kinds, with a gradient of the right shape."""
    groups, kernel = (
        draw(st.sampled_from([1, 1, 2, 3])),
        draw(st.tuples(st.integers(1, 4), st.integers(1, 3))),
    )
    stride, dilation = draw(pairs), draw(pairs)
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 2)))
    size = draw(st.tuples(st.integers(1, 11), st.integers(1, 12)))
    out, inputs, batch = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    for s, p, d, k in zip(size, padding, dilation, kernel, strict=True):
        assume(s + 2 * p >= d * (k - 1) + 1)
    seed = draw(seeds)
    x, w = normal((batch, groups * inputs, *size), seed), normal((groups * out, inputs, *kernel), seed + 1)
    shape = aten.convolution(x, w, None, stride, padding, dilation, False, [0, 0], groups).shape
    return Case(x, w, normal(shape, seed + 2), stride, padding, dilation, groups)


@given(cases(), st.booleans(), layouts)
def test_convolution(case: Case, biased: bool, layout: int) -> None:
    bias = normal((len(case.w),), 5) if biased else None
    y = empty(case.dy.shape, layout)

    kernels().ew_convolution(y, place(case.x, layout // 3), place(case.w, layout // 5), bias, case.settings)

    assert_close(y, case.forward(bias), terms=case.sizes.forward(None).sqrt())


@given(cases(), layouts)
def test_convolution_input_gradient(case: Case, layout: int) -> None:
    dx = empty(case.x.shape, layout)

    kernels().ew_convolution_input_gradient(
        dx, place(case.dy, layout // 3), place(case.w, layout // 5), case.settings
    )

    assert_close(dx, case.gradients()[0], terms=case.sizes.gradients()[0].sqrt())


@given(cases(), layouts)
def test_convolution_weight_and_bias_gradients(case: Case, layout: int) -> None:
    dw, db, dy = empty(case.w.shape, layout), empty((len(case.w),)), place(case.dy, layout // 3)

    kernels().ew_convolution_weight_gradient(dw, dy, place(case.x, layout // 5), case.settings)
    kernels().ew_convolution_bias_gradient(db, dy)

    for made, exact, size in zip((dw, db), case.gradients()[1:], case.sizes.gradients()[1:], strict=True):
        assert_close(made, exact, terms=size.sqrt())


@given(cases(), st.data(), layouts)
def test_a_forward_in_bands_channels_and_batches_has_the_same_bits(
    case: Case, data: st.DataObject, layout: int
) -> None:
    bias, whole, (n, channels, rows, _) = normal((len(case.w),), 5), empty(case.dy.shape), case.dy.shape
    kernels().ew_convolution(whole, case.x, case.w, bias, case.settings)
    first, last = sorted((data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, rows - 1))))
    begin, each = data.draw(st.integers(0, case.groups - 1)), channels // case.groups
    some = slice(each // 2, each) if case.groups == 1 else slice(begin * each, channels)
    top = case.stride[0] * first - case.padding[0]
    end = case.stride[0] * last - case.padding[0] + case.dilation[0] * (case.w.shape[2] - 1) + 1
    read = slice(max(top, 0), max(0, min(end, case.x.shape[2])))
    inputs = slice(0, None) if case.groups == 1 else slice(begin * case.w.shape[1], None)
    x = place(case.x[n // 2 :, inputs, read], layout)
    band = empty(whole[n // 2 :, some, first : last + 1].shape, layout // 3)
    groups = 1 if case.groups == 1 else case.groups - begin
    padding = (max(top, 0) - top, case.padding[1])
    settings = Convolution.of(case.stride, padding, case.dilation, groups)

    kernels().ew_convolution(band, x, place(case.w[some], layout // 5), place(bias[some], layout), settings)

    assert torch.equal(band, whole[n // 2 :, some, first : last + 1])


@given(cases(), st.data(), layouts)
def test_an_input_gradient_in_bands_has_the_same_bits(case: Case, data: st.DataObject, layout: int) -> None:
    whole, (n, channels, rows, _) = empty(case.x.shape), case.x.shape
    kernels().ew_convolution_input_gradient(whole, case.dy, case.w, case.settings)
    first, last = sorted((data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, rows - 1))))
    some = slice(channels // 2, None) if case.groups == 1 else slice(None)
    band = empty(whole[n // 2 :, some, first : last + 1].shape, layout // 3)
    stride, span = case.stride[0], case.dilation[0] * (case.w.shape[2] - 1)
    low = max(0, -(-(first + case.padding[0] - span) // stride))  # the first row of dy that meets the band
    dy = place(case.dy[n // 2 :, :, low:], layout)
    padding = (case.padding[0] + first - stride * low, case.padding[1])
    settings = Convolution.of(case.stride, padding, case.dilation, case.groups)

    kernels().ew_convolution_input_gradient(band, dy, place(case.w[:, some], layout // 5), settings)

    assert torch.equal(band, whole[n // 2 :, some, first : last + 1])


@given(cases(), st.integers(-2, 3), st.integers(1, 9))
def test_any_padding_and_number_of_rows(case: Case, padding: int, rows: int) -> None:
    stride, dilation, span = case.stride[0], case.dilation[0], case.dilation[0] * (case.w.shape[2] - 1)
    wide = torch.nn.functional.pad(case.x, (0, 0, 20, stride * rows + span + 20))
    reference = case._replace(x=wide[:, :, 20 - padding :], padding=(0, case.padding[1]))
    expected = reference.forward(None)[:, :, :rows]
    y = empty(expected.shape)
    settings = Convolution.of(
        case.stride, (padding, case.padding[1]), (dilation, case.dilation[1]), case.groups
    )

    kernels().ew_convolution(y, case.x, case.w, None, settings)

    assert_close(y, expected, terms=reference.sizes.forward(None)[:, :, :rows].sqrt())
