"""Local losses: what each block learns from, what stops, what is alive at once."""

import random
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD
from edgewise.errors import UsageError
from edgewise.methods import ActivityPerturbation, Backprop, LocalLosses, Method
from edgewise.plan import plain_plan
from edgewise.run import Executor
from edgewise.zoo import build_model
from tests.methods.steps import captured_by, exact_gradient, network, run
from tests.methods.tapped import BLOCKS, gradients_at, images, mixer, mixer_by, replicated, with_heads
from tests.support import DEVICE, plan_of, random_order

DIVIDED = ActivityPerturbation(BLOCKS, patches=True, groups=2)
LOCAL = [LocalLosses(BLOCKS), ActivityPerturbation(BLOCKS), DIVIDED]


def vectors(width: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(5, width, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 3


def test_a_block_has_the_gradient_of_its_replicated_losses() -> None:
    """Their values are all the same, their gradients are not, and the sum of these is what the block gets."""
    captured, heads = mixer_by(LocalLosses(BLOCKS))
    model: Any = captured.model
    (found,) = gradients_at(captured, images(), heads)
    x, targets = images()
    side = x.unflatten(3, (2, 2)).unflatten(2, (2, 2)).permute(0, 2, 4, 1, 3, 5)
    x_BPD = side.flatten(3).flatten(1, 2)
    for index, block in enumerate(BLOCKS):
        y_BPD = model.blocks[index](x_BPD)
        y_BPD.retain_grad()
        losses = list(chain(*replicated(y_BPD, heads, block, targets, groups=2)))
        assert all(torch.allclose(loss, losses[0]) for loss in losses)
        apart = [torch.autograd.grad(loss, y_BPD, retain_graph=True)[0] for loss in losses]
        for number, gradient in enumerate(apart):
            reached = gradient.unflatten(2, (2, 3)).flatten(1, 2).abs().sum((0, 2)) > 0
            assert reached.nonzero().flatten().tolist() == [number]
        own = dict(model.blocks[index].named_parameters())
        exact = torch.autograd.grad(sum(losses), list(own.values()))
        for name, gradient in zip(own, exact, strict=True):
            assert torch.allclose(found[f"{block}.{name}"], gradient, atol=1e-6)
        x_BPD = y_BPD.detach()


@pytest.mark.parametrize("method", LOCAL, ids=str)
def test_gradients_stop_at_the_end_of_a_block(method: Method) -> None:
    """What the first block gets is the same, bit for bit, whatever comes behind it."""
    model = mixer()
    captured = captured_by(method, model, images())
    heads = with_heads(captured)
    (before,) = gradients_at(captured, images(), heads)
    with torch.no_grad():
        for parameter in (*model.blocks[1].parameters(), *model.head.parameters()):
            parameter.normal_()
    later = {name: head + 1 for name, head in heads.items() if "blocks.1" in name}
    (after,) = gradients_at(captured, images(), {**heads, **later})
    first = [name for name in before if name.startswith("blocks.0.")]
    assert first
    assert all(torch.equal(before[name], after[name]) for name in first)
    assert all(before[name].any() for name in first)
    assert not torch.equal(before["blocks.1.channels.weight"], after["blocks.1.channels.weight"])


class Skipping(nn.Module):
    """What the first block makes reaches the head past the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        raw = self.first(x)
        scores: Tensor = self.head(self.second(raw.relu()).relu() + 2 * raw)
        return scores


def test_gradients_stop_on_every_way_around_a_block() -> None:
    """The first layer learns from its own loss only, though the others see its output as well."""
    model = Skipping()
    batch = vectors(4)
    for method in (LocalLosses(("first", "second")), ActivityPerturbation(("first", "second"))):
        captured = captured_by(method, model, batch)
        zero = {name: 0 * head for name, head in with_heads(captured).items()}
        (found,) = gradients_at(captured, batch, zero)
        assert not found["first.weight"].any()
        assert not found["second.weight"].any()
        assert found["head.weight"].any()


def test_without_stops_all_losses_reach_everything() -> None:
    """With heads of zero, only the model's own loss has a gradient: backprop's."""
    model = mixer()
    captured = captured_by(LocalLosses(BLOCKS, stop_gradients=False), model, images())
    heads = with_heads(captured)
    (plain,) = gradients_at(captured, images(), {name: 0 * head for name, head in heads.items()})
    exact = exact_gradient(model, images())
    assert all(torch.allclose(plain[name], exact[name], atol=1e-6) for name in exact)
    (found,) = gradients_at(captured, images(), heads)
    (stopped,) = gradients_at(mixer_by(LocalLosses(BLOCKS))[0], images(), heads)
    name = "blocks.0.channels.weight"
    assert not torch.allclose(found[name], stopped[name], rtol=0.1)


def test_heads_learn() -> None:
    """They start at zero, where the loss is that of a guess."""
    captured = captured_by(LocalLosses(BLOCKS), mixer(), images(), optimizer=SGD(lr=0.1, momentum=0.9))
    results = run(captured, images(), steps=8)
    for block in BLOCKS:
        losses = [float(result.notes[f"local_loss.{block}"]) for result in results]
        assert losses[0] == pytest.approx(torch.log(torch.tensor(3.0)).item(), abs=1e-6)
        assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("method", "model", "batch"),
    [
        (LOCAL[0], mixer(), images()),
        (DIVIDED, mixer(), images()),
        (
            ActivityPerturbation(directions=2, shared=True),
            network(nn.Linear(3, 3), nn.Linear(3, 3)),
            vectors(),
        ),
    ],
    ids=["local losses", "positions and groups", "shared noise"],
)
def test_a_planned_step_has_the_bits_of_the_plain_one(method: Method, model: nn.Module, batch: Any) -> None:
    """Also one that forgets, draws again and pages at random: the noise is the same each time."""
    captured = captured_by(method, model, batch, optimizer=SGD(lr=0.1, momentum=0.9))
    order, homes = random_order(captured.graph, random.Random(0), forget=0.3, page=0.5)
    states: list[dict[str, Tensor]] = []
    for plan in (plain_plan(captured.graph, DEVICE), plan_of(order, captured.graph, homes=homes)):
        with Executor(captured, plan, DEVICE) as executor:
            states.append(executor.state())
            executor.load_state(states[0])
            for step in range(3):
                assert executor.step(batch, step).peak_bytes == plan.peak_bytes
            states.append(executor.state())
    assert all(torch.equal(states[1][name], states[3][name]) for name in states[1])


def test_only_one_block_is_alive() -> None:
    """What is needed besides what every step carries on does not grow with the depth; backprop's does."""
    needs: dict[tuple[type, int], int] = {}
    for depth in (2, 3):
        blocks = tuple(f"blocks.{i}" for i in range(depth))
        for method in (LocalLosses(blocks), ActivityPerturbation(blocks), Backprop()):
            model = build_model("local-mixer", {"size": 8, "width": 8, "groups": 2, "blocks": depth})
            captured = captured_by(method, model.train(), images(32, size=8))
            carried = sum(v.bytes for v in captured.graph.sources() if v.kind in ("parameter", "state"))
            needs[type(method), depth] = plain_plan(captured.graph, DEVICE).peak_bytes - carried
    for local in (LocalLosses, ActivityPerturbation):
        assert needs[local, 3] < 1.05 * needs[local, 2]
        assert needs[local, 3] < 0.6 * needs[Backprop, 3]
    assert needs[Backprop, 3] > 1.3 * needs[Backprop, 2]


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ({"patches": 1, "width": 256, "groups": 1, "blocks": 1}, 272),
        ({"patches": 1, "width": 512, "groups": 16, "blocks": 1}, 429),
        ({"size": 32, "channels": 3, "patches": 8, "width": 512, "groups": 16, "blocks": 4}, 919),
    ],
    ids=["S/1/1", "M/1/16", "M/8/16"],
)
def test_the_mixer_has_the_published_sizes(sizes: dict[str, int], count: int) -> None:
    """In thousands of parameters, a head for each block included."""
    parameters = sum(p.numel() for p in build_model("local-mixer", sizes).parameters())
    assert round((parameters + sizes["blocks"] * 11 * sizes["width"]) / 1000) == pytest.approx(count, abs=2)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"patches": 3}, "28 pixels cannot be cut into 3 `patches`"),
        ({"groups": 5}, "`width` 64 cannot be divided into 5 `groups`"),
        ({"blocks": 0}, "`blocks` is 0; it must be at least 1"),
    ],
)
def test_a_mixer_that_cannot_be(sizes: dict[str, int], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        build_model("local-mixer", sizes)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.unused, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(self.body(x)))
        return scores


class Pixels(nn.Sequential):
    pass


@pytest.mark.parametrize("method", [LocalLosses, ActivityPerturbation])
@pytest.mark.parametrize(
    ("make", "blocks", "text"),
    [
        (Twice, ("boddy",), "`boddy` in `blocks` is no module of the model. Did you mean `body`?"),
        (Twice, ("head", "head"), "`head` stands twice in `blocks`"),
        (Twice, ("unused",), "of `blocks`, `unused`: not called in a pass"),
        (Twice, ("body",), "of `blocks`, `body`: called more than once"),
        (
            lambda: Pixels(nn.Linear(3, 4), nn.Unflatten(1, (2, 2))),
            ("0",),
            r"heads that make what the model makes, \[B, C\] numbers; this model returns \[5, 2, 2\]",
        ),
    ],
)
def test_blocks_that_cannot_be(method: type, make: type, blocks: tuple[str, ...], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        captured_by(method(blocks), make(), vectors())


def test_local_losses_need_blocks() -> None:
    with pytest.raises(UsageError, match="`blocks` is empty; name the modules that end in a loss"):
        LocalLosses(())


def test_the_layers_before_a_block_belong_to_it() -> None:
    model = network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    captured = captured_by(LocalLosses(("2",)), model, vectors())
    (found,) = gradients_at(captured, vectors(), with_heads(captured))
    assert all(found[f"{layer}.weight"].any() for layer in (0, 2, 4))
