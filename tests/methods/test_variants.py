"""Top share and SVRG; and, by number, the six defects of the code of arXiv 2506.21833 that ours lacks.

1. the gradient is scaled by epsilon; 2. weights are not put back where they were; 3. of several directions
the one of the smallest slope is kept; 4. directions that are zero almost everywhere; 5. the two passes of a
pair move different elements; 6. all weights are copied to be moved.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, philox
from edgewise.capture.directions import FIRST_STREAM
from edgewise.capture.schedules import kth_magnitude
from edgewise.errors import UsageError
from edgewise.methods import ForwardGradient, Method, Spsa, Svrg, TopShare
from edgewise.plan import plain_plan
from edgewise.run import Executor
from edgewise.zoo.task import resolve_task
from tests.methods.steps import PLAIN, captured_by, exact_gradient, flattened, network
from tests.support import DEVICE

VARIANTS = [
    Spsa(),
    Spsa(directions=3),
    Spsa(in_place=True),
    Spsa(top=TopShare(0.25, 2)),
    Spsa(svrg=Svrg(6, 2)),
    ForwardGradient(top=TopShare(0.25, 2)),
    ForwardGradient(svrg=Svrg(6, 2)),
]


def small() -> nn.Sequential:
    return network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))


NAMES = [name for name, _ in small().named_parameters()]


def batch(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, 3, generator=generator), torch.arange(5) % 3


def at_rest(method: Method, steps: int, moved: dict[int, float] | None = None) -> Iterator[Tensor]:
    """The gradients of steps in a row on one batch, the weights put back and the method's states kept.

    `moved` says by what factor the weights stand apart from the first ones, from that step on.
    """
    captured = captured_by(method, small(), batch())
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        first = {name: w for name, w in executor.state().items() if name in NAMES}
        factor = 1.0
        for step in range(steps):
            factor = (moved or {}).get(step, factor)
            begin = {name: factor * w for name, w in first.items()}
            executor.load_state({**executor.state(), **begin})
            executor.step(batch(), step)
            after = executor.state()
            yield flattened(begin, NAMES) - flattened(after, NAMES)


# -- SVRG ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [Spsa(svrg=Svrg(9, 4)), ForwardGradient(directions=2, svrg=Svrg(9, 4))], ids=str
)
def test_where_the_weights_stand_every_step_is_the_mean_of_the_first(method: Method) -> None:
    """While w is w~, z (c(w) - c(w~)) is nothing, and g is mu; then the next period begins."""
    found = torch.stack(list(at_rest(method, 12)))
    mu = found[:4].mean(0)
    assert torch.allclose(found[4:9], mu.expand(5, -1), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found[9], mu, rtol=1e-2)


def test_svrg_is_unbiased_away_from_its_snapshot_and_varies_less() -> None:
    """g - mu estimates the difference of the gradients at w and w~."""
    steps, batches, factor = 200, 4, 1.1
    found = torch.stack(list(at_rest(Spsa(svrg=Svrg(10_000, batches)), steps, {batches: factor}))).double()
    near, away = small(), small()
    with torch.no_grad():
        for w in away.parameters():
            w.mul_(factor)
    mu = found[:batches].mean(0)
    exact = [flattened(exact_gradient(model, batch()), NAMES) for model in (near, away)]
    error = found[batches:].mean(0) - mu - (exact[1] - exact[0])
    deviation = found[batches:].std(0) / (steps - batches) ** 0.5
    assert (error.abs() <= 4 * deviation + 2e-3 * exact[0].norm()).all()
    assert found[batches:].var(0).sum() < 0.1 * found[:batches].square().sum(1).mean()


# -- top share -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [Spsa(top=TopShare(0.25, 1)), ForwardGradient(top=TopShare(0.25, 1))], ids=str
)
def test_only_the_largest_weights_move_and_without_bias(method: Method) -> None:
    model = small()
    found = torch.stack(list(at_rest(method, 400))).double()
    top = []
    for w in model.parameters():
        bound = w.abs().flatten().sort(descending=True).values[round(0.25 * w.numel()) - 1]
        top.append((w.abs() >= bound).flatten())
    mask = torch.cat(top)
    assert (found[:, ~mask] == 0).all()
    assert (found[:, mask] != 0).any(0).all()
    exact = flattened(exact_gradient(model, batch()), NAMES)
    error = (found.mean(0) - exact)[mask]
    assert (error.abs() <= 4 * found.std(0)[mask] / len(found) ** 0.5 + 2e-3 * exact.norm()).all()


def test_the_largest_are_chosen_on_schedule() -> None:
    """Under one that is due in every third step, what has grown in between waits for it."""
    captured = captured_by(Spsa(top=TopShare(0.25, 3)), small(), batch(), optimizer=SGD(0.0))
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        found = []
        for step in range(4):
            executor.step(batch(), step)
            state = executor.state()
            found.append(float(state["0.weight.threshold"]))
            executor.load_state({**state, "0.weight": 2 * state["0.weight"]})
    assert found[1] == found[2] == found[0]
    assert found[3] == 8 * found[0]


@pytest.mark.parametrize("count", [1, 7, 100, 40_000])
def test_a_magnitude_of_some_rank_is_exact(count: int) -> None:
    w = torch.randn(40_000, generator=torch.Generator().manual_seed(count))
    w[::3] = w[0]  # ties
    w[1] = 0.0
    assert kth_magnitude(w, count) == w.abs().sort(descending=True).values[count - 1]


# -- six defects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", VARIANTS[:5], ids=str)
def test_1_the_gradient_does_not_depend_on_epsilon(method: Spsa) -> None:
    settings = {name: getattr(method, name) for name in method.__struct_fields__}
    wide, narrow = (next(at_rest(Spsa(**{**settings, "epsilon": epsilon}), 1)) for epsilon in (2e-2, 5e-3))
    assert torch.allclose(wide, narrow, rtol=1e-2, atol=1e-3)
    assert wide.norm() > 0.1


@pytest.mark.parametrize("method", [m for m in VARIANTS if m != Spsa(in_place=True)], ids=str)
def test_2_a_step_of_no_length_leaves_the_weights_as_they_are(method: Method) -> None:
    """To the bit; `in_place` to its roundings (test_in_place.py)."""
    captured = captured_by(method, small(), batch(), optimizer=SGD(0.0))
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        before = executor.state()
        for step in range(8):
            executor.step(batch(step), step)
        after = executor.state()
    assert all(torch.equal(before[name], after[name]) for name in NAMES)


def direction(step: int, i: int) -> Tensor:
    """z_i of all parameters of `small()`."""
    sizes = [w.numel() for w in small().parameters()]
    drawn = []
    for index, size in enumerate(sizes):
        stream = FIRST_STREAM + len(sizes) * i + index
        drawn += [piece for _, piece in philox.sign_pieces(size, step, stream, 0)]
    return torch.cat(drawn)


def test_3_all_directions_count() -> None:
    captured = captured_by(Spsa(directions=4), small(), batch(), optimizer=PLAIN)
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        before = executor.state()
        c = executor.step(batch(), 0).notes["coefficients"]
        moved = flattened(before, NAMES) - flattened(executor.state(), NAMES)
    assert torch.allclose(moved, sum(c[i] * direction(0, i) for i in range(4)), atol=1e-6)  # type: ignore[arg-type]
    assert (c != 0).all()


def test_4_directions_fill_the_space() -> None:
    """No element is left out, and no two directions, of one step or of two, have much in common."""
    found = torch.stack([direction(step, i) for step in range(40) for i in range(4)])
    assert (found.abs() == 1).all()
    cosines = found @ found.T / found.shape[1] - torch.eye(len(found))
    assert cosines.square().mean() == pytest.approx(1 / found.shape[1], rel=0.2)


def test_5_both_passes_move_the_same_elements() -> None:
    """Epsilon is so large here that the largest of w + eps z are others than the largest of w."""
    epsilon, model = 0.5, small()
    captured = captured_by(Spsa(epsilon=epsilon, top=TopShare(0.25, 1)), model, batch(), optimizer=PLAIN)
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        before = executor.state()
        c = executor.step(batch(), 0).notes["coefficients"][0]
        z = {name: (before[name] - after) / c for name, after in executor.state().items() if name in NAMES}
    losses = []
    for scale in (epsilon, -epsilon):
        w = {name: before[name] + scale * z[name].round() for name in NAMES}
        losses.append(
            nn.functional.cross_entropy(torch.func.functional_call(model, w, batch()[0]), batch()[1])
        )
    assert torch.allclose((losses[0] - losses[1]) / (2 * epsilon), c, rtol=1e-5)


def test_6_no_copy_of_all_weights_is_made() -> None:
    """Beside w, one layer of w + eps z at a time; of a network of eight equal layers that is little."""
    layers = [layer for _ in range(8) for layer in (nn.Linear(64, 64), nn.ReLU())]
    x = torch.randn(1, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([0])
    model = network(*layers)
    peak = plain_plan(captured_by(Spsa(), model, x).graph, DEVICE).peak_bytes
    weights = [w.nbytes for w in model.parameters()]
    assert peak < sum(weights) + 1.8 * max(weights)


def test_the_memory_of_variants() -> None:
    """SVRG keeps the weights once more; a top share a number for each parameter."""
    task = resolve_task("mlp", batch=8)
    plain, svrg, top = (
        plain_plan(captured_by(m, task.model, task.example_batch, task.loss).graph, DEVICE).peak_bytes
        for m in (Spsa(), Spsa(svrg=Svrg(64, 8)), Spsa(top=TopShare()))
    )
    weights = sum(w.nbytes for w in task.model.parameters())
    assert weights <= svrg - plain < 1.1 * weights
    assert top - plain < 200


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TopShare(0.0), r"`share` is 0.0; it must be in \(0, 1\]"),
        (lambda: TopShare(every=0), "`every` is 0; it must be at least 1"),
        (lambda: Svrg(8, 8), "`batches` is 8; it must be below `every`, 8"),
        (lambda: Spsa(in_place=True, top=TopShare()), "`in_place` and `top` do not go together"),
        (lambda: ForwardGradient(top=TopShare(), svrg=Svrg()), "`top` and `svrg` do not go together"),
    ],
)
def test_settings_out_of_range(make: object, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make()  # type: ignore[operator]
