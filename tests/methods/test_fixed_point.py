"""Theorems of the step in integers: exact restoring, unbiased rounding, the float method's own results."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgewise.capture import SGD, AdamW, Captured
from edgewise.errors import BudgetInfeasible, UsageError
from edgewise.methods import Block, FixedPoint, capture_with
from edgewise.methods.fixed_point import inference_graph, quantize
from edgewise.methods.fixed_point import step as building
from edgewise.methods.fixed_point.draws import (
    PIECE,
    Z_SCALE,
    Directions,
    Guidance,
    Mask,
    groups,
    numbers,
    packed,
    table,
)
from edgewise.methods.fixed_point.moves import Rate
from edgewise.methods.fixed_point.network import moves
from edgewise.plan import Budget, PageIn, make_plan, plain_plan
from edgewise.run import Executor
from tests.methods.steps import Record, network, run
from tests.support import DEVICE

EVERY = {
    "plain": FixedPoint(),
    "three": FixedPoint(directions=3, law="rademacher"),
    "largest": FixedPoint(keep=0.1),
    "random": FixedPoint(keep=0.3, mask="random", directions=2),
    "sharpness": FixedPoint(sharpness=5e-3, directions=2),
    "normalized": FixedPoint(normalize=True, epsilon=1e-2),
    "guided": FixedPoint(beta=0.6, guided_after=1),
    "all": FixedPoint(2, beta=0.6, sharpness=5e-3, normalize=True, keep=0.2),
    "blocks": FixedPoint(2, decay_steps=5, blocks=(Block(("4.*",), 70, 0.5),)),
    "all blocks": FixedPoint(
        2, beta=0.6, sharpness=5e-3, normalize=True, keep=0.3, blocks=(Block(("4.*",), 3),)
    ),
}


def small() -> nn.Sequential:
    return network(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(16, 3))


def batch(samples: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 1, 8, 8, generator=generator), torch.arange(samples) % 3


def captured_at(lr: float, settings: FixedPoint, model: nn.Module | None = None, seed: int = 0) -> Captured:
    return capture_with(settings, model or small(), "cross_entropy", SGD(lr=lr), batch(), seed=seed)


def weights(captured: Captured) -> dict[str, Tensor]:
    return {name: p.clone() for name, p in captured.model.named_parameters()}


# -- directions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["normal", "rademacher"])
def test_directions_have_mean_zero_and_variance_one_in_8_bits(law: str) -> None:
    entries = torch.tensor(table(law), dtype=torch.float64)  # type: ignore[arg-type]
    assert torch.equal(entries, -entries.flip(0))
    assert entries.abs().max() <= 127
    assert float((entries * Z_SCALE).square().mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("bits", [8, 16])
def test_pieces_are_those_of_the_whole(bits: int) -> None:
    """Cut anywhere, every number is uniform, and a shorter tensor has the beginning of a longer one."""
    drawn = torch.cat([piece for _, piece in numbers(3 * PIECE + 77, bits, 5, 9, 1)])
    short = torch.cat([piece for _, piece in numbers(PIECE + 3, bits, 5, 9, 1)])
    assert torch.equal(drawn[: PIECE + 3], short)
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < 1 << bits
    assert float(drawn.double().mean()) / (1 << bits) == pytest.approx(0.5, abs=0.012)


@given(count=st.integers(1, 2 * PIECE), first=st.integers(0, 3 * PIECE), bits=st.sampled_from([8, 16]))
def test_a_slice_draws_what_the_whole_draws_there(count: int, first: int, bits: int) -> None:
    whole = torch.cat([piece for _, piece in numbers(5 * PIECE, bits, 5, 9, 1)])
    found = torch.cat([piece for _, piece in numbers(count, bits, 5, 9, 1, first)])
    assert torch.equal(found, whole[first : first + count])
    flags = whole % 3 > 0
    for mask in (Mask(bits="kept"), Mask(below=100, stream=2)):
        every = torch.cat(list(mask.pieces(5 * PIECE, {"kept": packed(flags)}, 1)))
        some = torch.cat(list(mask.pieces(count, {"kept": packed(flags)}, 1, first)))
        assert torch.equal(some, every[first : first + count])


def test_moves_are_rounded_products_and_opposite() -> None:
    for size in (1, 33, 1000):
        found = moves(size)
        assert all(abs(d - size * (i - 127) * Z_SCALE) <= 0.5 for i, d in enumerate(found))
        assert found == tuple(-d for d in reversed(found))


def test_a_mask_of_bits_keeps_just_those() -> None:
    flags = torch.rand(5000, generator=torch.Generator().manual_seed(0)) < 0.1
    tensors = {"step": torch.tensor(3), "kept": packed(flags)}
    directions = Directions(5000, "rademacher", 0, (7,), Mask(bits="kept"))
    z = torch.cat([piece for _, piece in directions.pieces(0, tensors)])
    assert torch.equal(z != 0, flags)


def test_a_mask_of_chance_keeps_its_share() -> None:
    for below in (64, 255, 256):
        (piece, *_) = Mask(below=below, stream=9).pieces(1000, {}, seed=0)
        assert float(piece.double().mean()) == pytest.approx(below / 256, abs=0.05)


def test_directions_drawn_together_are_those_drawn_alone() -> None:
    """In groups of any size, also of more than a piece; and every direction is in one group."""
    directions = Directions(PIECE + 70, "normal", 3, tuple(range(9)))
    tensors = {"step": torch.tensor(1)}
    alone = [torch.cat([z for _, z in directions.pieces(i, tensors)]) for i in range(9)]
    for samples in (1, 32, 100):
        cut = groups(9, 600, samples)
        assert [i for group in cut for i in group] == list(range(9))
        drawn = [torch.cat([z for _, z in directions.together(group, tensors)], 1) for group in cut]
        assert torch.equal(torch.cat(drawn), torch.stack(alone))


def test_a_guided_direction_follows_the_last() -> None:
    """In the mean it is (1 - beta) of it, with the variance of the two laws' sum."""
    last = torch.full((20_000,), 60, dtype=torch.int8)
    guidance = Guidance("followed", alpha=0.5, beta=0.6, after=2)
    directions = Directions(20_000, "normal", 0, (7,), guidance=guidance)
    drawn = {}
    for step in (1, 2):
        tensors = {"step": torch.tensor(step), "followed": last}
        drawn[step] = torch.cat([piece for _, piece in directions.pieces(0, tensors)]).double() * Z_SCALE
    assert float(drawn[1].mean()) == pytest.approx(0, abs=0.03)
    assert float(drawn[2].mean()) == pytest.approx(0.4 * 60 * Z_SCALE, abs=0.03)
    variance = 0.6**2 * 0.5**0.5 + 0.4**2 * 0.5**0.5
    assert float(drawn[2].var()) == pytest.approx(variance, rel=0.05)


# -- the step ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_a_step_of_zero_leaves_every_bit(name: str) -> None:
    """Perturbed in place, again and again, and restored: integers come back as they were."""
    captured = captured_at(0.0, EVERY[name])
    before = weights(captured)
    run(captured, batch(), steps=3)
    after = weights(captured)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_gradient_of_one_direction_is_plus_or_minus_z() -> None:
    """With a step of exactly one unit a unit of z_q: w loses s z_q, and nothing is rounded."""
    model = quantize(small(), batch()[0])
    scale = model.network.parameters["4.weight"].scale
    captured = captured_at(scale / Z_SCALE, FixedPoint(), model)
    before = weights(captured)["4.weight"]
    (result,) = run(captured, batch())
    names = list(model.network.parameters)
    stream = (1 << 31) + names.index("4.weight")
    (z,) = [p for _, p in Directions(48, "normal", 0, (stream,)).pieces(0, {"step": torch.tensor(0)})]
    moved = (before - weights(captured)["4.weight"]).flatten()
    assert int(result.notes["signs"]) in (-1, 1)
    assert torch.equal(moved.long(), int(result.notes["signs"]) * z)


def loss_at(model: nn.Module, step: int, places: list[tuple[int, int, str]], names: str = "") -> float:
    """Of the integer network with each parameter at the sum of `(direction, sign, size)`; then taken back.

    Only parameters whose names begin with `names` are moved.
    """
    parameters = model.network.parameters
    before = {name: model.get_parameter(name).data.clone() for name in parameters}
    for direction, sign, size in places:
        for index, (name, own) in enumerate(parameters.items()):
            if not name.startswith(names):
                continue
            held = model.get_parameter(name).data.view(-1)
            drawn = Directions(held.numel(), "normal", 0, ((1 << 31) + len(parameters) * direction + index,))
            (z,) = [piece for _, piece in drawn.pieces(0, {"step": torch.tensor(step)})]
            held += sign * torch.tensor(moves(getattr(own, size)), dtype=torch.int16)[z + 127]
    loss = float(nn.functional.cross_entropy(model(batch()[0]).double(), batch()[1]))
    for name, tensor in before.items():
        model.get_parameter(name).data.copy_(tensor)
    return loss


@pytest.mark.parametrize("sharpness", [0.0, 0.1])
def test_the_sign_is_that_of_the_losses(sharpness: float) -> None:
    """Of the very same integer network at both perturbations; beside where the loss ascends, if so asked."""
    settings = FixedPoint(epsilon=3e-2, sharpness=sharpness)
    model = quantize(small(), batch()[0], settings)
    signs = [int(r.notes["signs"]) for r in run(captured_at(0.0, settings, model), batch(), steps=6)]

    def sign(step: int, direction: int, base: list[tuple[int, int, str]]) -> int:
        plus, minus = (loss_at(model, step, [*base, (direction, way, "epsilon")]) for way in (1, -1))
        return 1 if plus > minus else -1

    for step, found in enumerate(signs):
        base = [(1, sign(step, 1, []), "rho")] if sharpness else []
        assert found == sign(step, 0, base)


def test_blocks_are_perturbed_by_themselves() -> None:
    """Each sign is that of losses at which all other blocks stay where they are."""
    settings = FixedPoint(epsilon=3e-2, directions=2, blocks=(Block(("4.*",), 70),))
    model = quantize(small(), batch()[0], settings)
    captured = captured_at(0.0, settings, model)
    assert sum(op.kind == "convolution" for op in captured.graph.ops) == 1 + 4
    assert sum(op.kind == "matmul" for op in captured.graph.ops) == 1 + 4
    for step, result in enumerate(run(captured, batch(), steps=2)):
        signs = result.notes["signs"].tolist()
        for block, own in (("4.", signs[:70:9]), ("0.", signs[70:])):
            for sign, direction in zip(own, range(0, 70, 9) if block == "4." else (0, 1), strict=True):
                plus, minus = (loss_at(model, step, [(direction, s, "epsilon")], block) for s in (1, -1))
                assert sign == (1 if plus > minus else -1)


@pytest.mark.parametrize("trained", ["4.weight", "4.bias", "4."])
@pytest.mark.parametrize("name", ["plain", "three", "all"])
def test_a_probe_has_the_bits_of_passes(name: str, trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All directions of the head in one op, or one after another at moved weights: the same in all."""
    results = []
    for probed in (True, False):
        if not probed:
            monkeypatch.setattr(building, "probed", lambda *_: None)
        model = small()
        for path, p in model.named_parameters():
            p.requires_grad_(path.startswith(trained))
        captured = captured_at(3e-2, EVERY[name], model)
        found = [(r.loss, r.notes["signs"].tolist()) for r in run(captured, batch(), steps=3)]
        results.append((found, weights(captured)))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(results[0][1][key], results[1][1][key]) for key in results[0][1])


def test_a_rate_falls_to_nothing() -> None:
    """On a straight line, in integers; and a block has its own."""
    rate = Rate(units=3.0, decay_steps=8)
    assert [rate.factor(at, 2) for at in (0, 2, 4, 8, 99)] == [98304, 73728, 49152, 0, 0]
    assert Rate(3.0).factor(99, 2) == 98304
    moved = {}
    for factor in (1.0, 0.25):
        settings = FixedPoint(epsilon=1e-2, decay_steps=4, blocks=(Block(("4.*",), rate=factor),))
        captured = captured_at(0.1, settings)
        states = [weights(captured)]
        with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
            for at in range(6):
                executor.step(batch(), at)
                states.append(executor.state())
        steps = [(b["4.weight"].double() - a["4.weight"].double()).norm() for a, b in pairwise(states)]
        assert steps[4] == steps[5] == 0
        moved[factor] = float(steps[0])
    assert moved[0.25] == pytest.approx(moved[1.0] / 4, rel=0.02)


def test_rounding_is_unbiased() -> None:
    """The mean of many updates lies within five standard errors of the real step, in every weight."""
    settings = FixedPoint(law="rademacher")
    model = quantize(small(), batch()[0], settings)
    scale = model.network.parameters["4.weight"].scale
    units = 0.31  # of a weight, for a z of 1
    captured = captured_at(units * scale, settings, model)
    moved = []
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        before = executor.state()
        for step in range(200):
            sign = int(executor.step(batch(), step).notes["signs"])
            change = (before["4.weight"] - executor.state()["4.weight"]).double().flatten()
            stream = (1 << 31) + 2
            (z,) = [
                p
                for _, p in Directions(48, "rademacher", 0, (stream,)).pieces(0, {"step": torch.tensor(step)})
            ]
            moved.append(change - units * Z_SCALE * 36 * sign * z.sign())
            executor.load_state(before)
    errors = torch.stack(moved)
    assert errors.abs().max() < 1
    assert (errors.mean(0).abs() < 5 * errors.std(0) / 200**0.5).all()
    assert abs(float(errors.mean())) < 4 * float(errors.std()) / errors.numel() ** 0.5


@pytest.mark.parametrize("name", EVERY)
def test_a_planned_step_has_the_bits_of_the_plain_one(name: str) -> None:
    """Under the least memory there is: weights go to the slower tier and come back."""
    states = []
    for planned in (False, True):
        captured = captured_at(3e-2, EVERY[name])
        plan = plain_plan(captured.graph, DEVICE)
        if planned:
            with pytest.raises(BudgetInfeasible) as caught:
                make_plan(captured.graph, DEVICE, Budget(1000), time_limit=5)
            assert caught.value.min_ram_bytes is not None
            budget = Budget(caught.value.min_ram_bytes)
            plan = make_plan(captured.graph, DEVICE, budget, time_limit=5, gap=0.5)
            assert any(isinstance(step, PageIn) for step in plan.steps)
        with Executor(captured, plan, DEVICE) as executor:
            losses = [executor.step(batch(), step).loss for step in range(3)]
            states.append((losses, executor.state()))
    assert states[0][0] == states[1][0]
    assert all(torch.equal(states[0][1][key], states[1][1][key]) for key in states[0][1])


def test_the_mean_loss_is_that_of_the_integer_network() -> None:
    captured = captured_at(0.0, FixedPoint(epsilon=1e-4))
    (result,) = run(captured, batch())
    exact = nn.functional.cross_entropy(captured.model(batch()[0]), batch()[1])
    assert result.loss == pytest.approx(float(exact), abs=1e-3)


def test_scales_may_come_from_more_data_than_a_batch() -> None:
    more = torch.cat([batch()[0] * factor for factor in (1, 3)])
    model = quantize(small(), more, FixedPoint())
    assert (
        model.network.nodes[0].operator.scale > quantize(small(), batch()[0]).network.nodes[0].operator.scale
    )
    captured = captured_at(1e-2, FixedPoint(), model)
    assert captured.graph.value["0:conv2d 0.0+"].shape == (6, 4, 8, 8)
    assert inference_graph(model, 6).value["0:conv2d"].shape == (6, 4, 8, 8)
    (result,) = run(captured, batch())
    exact = nn.functional.cross_entropy(captured.model(batch()[0]), batch()[1])
    assert result.loss == pytest.approx(float(exact), abs=1e-2)


def test_memory_is_that_of_integer_inference() -> None:
    """At most a tenth more, for any number of directions; no direction and no second copy is held."""
    model = quantize(small(), batch()[0])
    inference = plain_plan(inference_graph(model), DEVICE).peak_bytes
    for settings in (FixedPoint(), FixedPoint(directions=4)):
        step = plain_plan(captured_at(1e-2, settings).graph, DEVICE).peak_bytes
        assert step <= 1.1 * inference


def test_layers_before_the_first_trained_one_run_once_a_step() -> None:
    model = small()
    model[0].requires_grad_(False)
    graph = captured_at(1e-2, FixedPoint(directions=3), model).graph
    assert sum(op.kind == "convolution" for op in graph.ops) == 1
    assert sum(op.kind == "matmul" for op in graph.ops) == 1  # all directions of a head in one op
    model.append(nn.ReLU()).append(nn.Linear(3, 3))
    graph = captured_at(1e-2, FixedPoint(directions=3), model).graph
    assert sum(op.kind == "convolution" for op in graph.ops) == 1
    assert sum(op.kind == "matmul" for op in graph.ops) == 12


def test_only_what_the_mask_keeps_is_changed() -> None:
    captured = captured_at(3e-2, FixedPoint(keep=0.25))
    before = weights(captured)
    run(captured, batch(), steps=5)
    changed = (before["4.weight"] != weights(captured)["4.weight"]).flatten()
    largest = before["4.weight"].flatten().int().abs().topk(12).indices
    assert 8 <= int(changed.sum()) <= 12
    assert set(changed.nonzero().flatten().tolist()) <= set(largest.tolist())


def test_weights_stay_in_their_range() -> None:
    """However far the steps go: saturated, never wrapped around."""
    captured = captured_at(0.05, FixedPoint(headroom=1.0))
    most = captured.model.network.parameters
    run(captured, batch(), steps=40)
    after = weights(captured)
    assert all(int(after[name].int().abs().max()) <= most[name].most for name in after)
    assert any(int(after[name].int().abs().max()) == most[name].most for name in after)


def test_normalized_steps_are_a_share_of_each_norm() -> None:
    captured = captured_at(0.05, FixedPoint(normalize=True))
    before = weights(captured)
    run(captured, batch())
    for name, tensor in weights(captured).items():
        moved = (tensor.double() - before[name].double()).norm()
        assert float(moved) == pytest.approx(0.05 * float(before[name].double().norm()), rel=0.02)


# -- against floating point ----------------------------------------------------------------------------------


def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # noqa: PLC0415

    inputs, targets = load_digits(return_X_y=True)
    return torch.tensor(inputs, dtype=torch.float32) / 16, torch.tensor(targets)


def float_run(
    weights: dict[str, Tensor], steps: list[tuple[Tensor, Tensor]], lr: float, epsilon: float
) -> None:
    """sign-SPSA of a linear probe in float64 with the very same directions, by its formula."""
    for step, (x, y) in enumerate(steps):
        z = {}
        for index, (name, w) in enumerate(weights.items()):
            drawn = Directions(w.numel(), "normal", 0, ((1 << 31) + index,))
            pieces = [p for _, p in drawn.pieces(0, {"step": torch.tensor(step)})]
            z[name] = (torch.cat(pieces) * Z_SCALE).view(w.shape)

        def loss(scale: float, z: dict[str, Tensor] = z, x: Tensor = x, y: Tensor = y) -> Tensor:
            w, b = (weights[name] + scale * z[name] for name in ("0.weight", "0.bias"))
            return nn.functional.cross_entropy(x.double() @ w.T + b, y)

        sign = (loss(epsilon) - loss(-epsilon)).sign()
        for name in weights:
            weights[name] -= lr * sign * z[name]


def test_16w8a_is_the_float_run_with_the_same_seeds(record_property: Record) -> None:
    """Within 1% accuracy on a linear probe of digits (1,497 to train, 300 to test)."""
    inputs, targets = digits()
    order = torch.randperm(1497, generator=torch.Generator().manual_seed(0))
    steps = [(inputs[o], targets[o]) for o in order.repeat(10).split(64) if len(o) == 64][:100]
    model = network(nn.Linear(64, 10))
    float_weights = {name: p.detach().double() for name, p in model.named_parameters()}
    captured = capture_with(FixedPoint(headroom=16), model, "cross_entropy", SGD(lr=3e-2), steps[0])
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        for step, each in enumerate(steps):
            executor.step(each, step)
    float_run(float_weights, steps, 3e-2, 1e-3)
    x, y = inputs[1497:], targets[1497:]
    real = (x.double() @ float_weights["0.weight"].T + float_weights["0.bias"]).argmax(1) == y
    found = captured.model(x).argmax(1) == y
    assert float(real.double().mean()) > 0.3  # chance is 0.1
    apart = abs(float(real.double().mean()) - float(found.double().mean()))
    record_property("points apart", 100 * apart)
    assert apart <= 0.01


# -- what is refused -----------------------------------------------------------------------------------------


def test_a_perturbation_below_half_a_unit_is_refused() -> None:
    """8 bits, just where the theory says: epsilon / Dw < 1/2, where nothing would move at all."""
    model = small().requires_grad_(False)
    model[4].weight.requires_grad_(True)
    largest = float(model[4].weight.detach().abs().max())
    least = largest / (2 * 127 - 3.5)  # epsilon = Dw / 2 for Dw = (largest + 3.5 epsilon) / 127
    settings = [FixedPoint(weight_bits=8, epsilon=f * least, headroom=1.0) for f in (0.2, 0.99, 1.01, 5)]
    for each in settings[:2]:
        with pytest.raises(UsageError, match=r"`epsilon` .* is less than half a unit of `4.weight`.*8 bits"):
            captured_at(1e-2, each, model)
    for each in settings[2:]:
        captured = captured_at(1e-2, each, model)
        before = weights(captured)
        run(captured, batch(), steps=2)
        assert not torch.equal(before["4.weight"], weights(captured)["4.weight"])


def test_8_bits_learn_at_an_epsilon_of_a_few_units() -> None:
    settings = FixedPoint(weight_bits=8, epsilon=3e-2)
    losses = [result.loss for result in run(captured_at(3e-2, settings), batch(), steps=40)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize(
    ("lr", "settings", "text"),
    [
        (1e-7, FixedPoint(), "with lr 1e-07 the largest step is less than half a unit of `0.weight`"),
        (50.0, FixedPoint(), "with lr 50 the largest step is beyond the whole range"),
        (1e-2, FixedPoint(sharpness=1e-7), "`sharpness` 1e-07 is less than half a unit"),
        (1e-2, FixedPoint(epsilon=1e-7), "`epsilon` 1e-07 is less than half a unit"),
    ],
)
def test_steps_that_integers_cannot_represent(lr: float, settings: FixedPoint, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        captured_at(lr, settings)


def test_other_losses_optimizers_and_targets_are_refused() -> None:
    x, y = batch()
    with pytest.raises(UsageError, match="its loss is `cross_entropy`, in integers"):
        capture_with(FixedPoint(), small(), "mse", SGD(lr=0.1), (x, y))
    for optimizer in (AdamW(), SGD(lr=0.1, momentum=0.9), SGD(lr=0.1, weight_decay=0.1)):
        with pytest.raises(UsageError, match="`sgd` without momentum and weight decay"):
            capture_with(FixedPoint(), small(), "cross_entropy", optimizer, (x, y))
    with pytest.raises(UsageError, match="need targets of int64"):
        capture_with(FixedPoint(), small(), "cross_entropy", SGD(lr=0.1), (x, y.float()))
    with pytest.raises(UsageError, match="quantized for other settings"):
        capture_with(FixedPoint(directions=2), quantize(small(), x), "cross_entropy", SGD(lr=0.1), (x, y))
    frozen = small().requires_grad_(False)
    with pytest.raises(UsageError, match="nothing can be trained"):
        capture_with(FixedPoint(), frozen, "cross_entropy", SGD(lr=0.1), (x, y))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"directions": 0}, "`directions` is 0"),
        ({"epsilon": 0.0}, "`epsilon` is 0.0"),
        ({"weight_bits": 17}, "`weight_bits` is 17; it must be from 2 to 16"),
        ({"keep": 0.0}, "`keep` is 0.0"),
        ({"beta": 1.5}, "`beta` is 1.5; it must be from 0 to 1"),
        ({"headroom": 0.5}, "`headroom` is 0.5"),
        ({"decay_steps": -1}, "`decay_steps` is -1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        FixedPoint(**settings)  # type: ignore[arg-type]


def test_blocks_out_of_range() -> None:
    with pytest.raises(UsageError, match="`directions` is 0"):
        Block(("4.*",), 0)
    with pytest.raises(UsageError, match="`rate` is 0"):
        Block(("4.*",), rate=0.0)
    blocks = (Block(("*.weight",)), Block(("4.weight",)))
    with pytest.raises(UsageError, match=r"block \['4.weight'\] has no .* Left for it: `0.bias`, `4.bias`"):
        captured_at(1e-2, FixedPoint(blocks=blocks))


def test_versions_of_a_weight_follow_one_another() -> None:
    """w, moved for each pass, and at last the next step's w: one storage for all of them."""
    graph = captured_at(1e-2, FixedPoint(directions=2)).graph
    chain = [(old, new) for op in graph.ops for old, new in op.updates if old.startswith("4.weight")]
    assert [new for _, new in chain][-1] == "4.weight.next"
    assert all(new == old for (_, new), (old, _) in pairwise(chain))
    assert graph.carries["4.weight"] == "4.weight.next"
