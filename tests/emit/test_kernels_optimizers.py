"""Updates against `edgewise.capture.optimizers`."""

import torch
from hypothesis import strategies as st

from edgewise.capture.optimizers import SGD, AdamW, zero_states
from tests.emit.layouts import assert_close, given, layouts, normal, place, seeds
from tests.emit.native import Adamw, Sgd, kernels

shapes = st.lists(st.integers(1, 6), max_size=4).map(tuple)


@given(shapes, st.sampled_from([0.0, 0.9]), st.sampled_from([0.0, 1e-3]), seeds, layouts)
def test_sgd(shape: tuple[int, ...], momentum: float, decay: float, seed: int, layout: int) -> None:
    optimizer, start = SGD(0.1, momentum, decay), normal(shape, seed)
    exact, states = start.double(), zero_states(optimizer, start.double())
    parameter, buffer = place(start, layout), place(torch.zeros(shape), layout // 3) if momentum else None

    for step in range(3):
        gradient = normal(shape, seed + step + 1)
        optimizer.update(exact, gradient.double(), states, step)
        kernels().ew_sgd(parameter, place(gradient, layout // 5), buffer, Sgd(0.1, momentum, decay))

    assert_close(parameter, exact, terms=start)
    if buffer is not None:
        assert_close(buffer, states["momentum"], terms=torch.ones(shape))


@given(shapes, st.sampled_from([0.9, 0.3]), st.sampled_from([0, 1, 10_000_000]), seeds, layouts)
def test_adamw(shape: tuple[int, ...], beta1: float, first_step: int, seed: int, layout: int) -> None:
    optimizer, start = AdamW(1e-2, (beta1, 0.999)), normal(shape, seed)
    exact, states = start.double(), zero_states(optimizer, start.double())
    parameter, *moments = place(start, layout), *(place(torch.zeros(shape), layout // i) for i in (3, 7))
    settings = Adamw(1e-2, beta1, 0.999, 1e-8, 1e-2)

    for step in range(first_step, first_step + 3):
        gradient = normal(shape, seed + step + 1)
        optimizer.update(exact, gradient.double(), states, step)
        kernels().ew_adamw(parameter, place(gradient, layout // 5), *moments, settings, step)

    assert_close(parameter, exact, terms=start)
    for made, name in zip(moments, optimizer.state_names, strict=True):
        assert_close(made, states[name], terms=torch.ones(shape))
