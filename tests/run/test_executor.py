"""The executor: every byte counted, memory really given up, batches and states checked before use."""

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, AdamW, Captured, capture
from edgewise.errors import PlanRejected, UsageError
from edgewise.graph import Graph
from edgewise.plan import PageIn, PageOut, Plan
from edgewise.plan.schedule import Action
from edgewise.run import Executor
from edgewise.zoo import resolve_task
from tests.run.training import assert_same_bits, assert_within_budget, plain, start_of, train
from tests.support import DEVICE, plain_order, plan_of, random_order


@pytest.fixture
def captured() -> Captured:
    task = resolve_task("mlp", batch=4, args={"features": 12, "hidden": (16, 16)})
    return capture(task.model, task.loss, SGD(0.1, momentum=0.9), task.example_batch)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return resolve_task("mlp", batch=4, args={"features": 12, "hidden": (16, 16)}).example_batch


def paging(captured: Captured, seed: int = 0) -> Plan:
    """A plan that forgets, pages, and gives parameters a home in the tier."""
    order, homes = random_order(captured.graph, random.Random(seed), forget=0.5, page=0.7)
    plan = plan_of(order, captured.graph, homes=homes)
    assert homes
    assert any(isinstance(step, PageIn) for step in plan.steps)
    return plan


def absence(graph: Graph, parameter: str) -> Plan:
    """The plain plan, but `parameter` spends the time between forward and backward pass in the tier."""
    reads = [i for i, op in enumerate(graph.ops) if parameter in op.reads]
    order = list(plain_order(graph))
    order.insert(reads[1], Action("in", parameter))
    order.insert(reads[0] + 1, Action("out", parameter))
    plan = plan_of(tuple(order), graph)
    assert PageIn(parameter) in plan.steps
    assert PageOut(parameter) in plan.steps
    return plan


# -- bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_live_bytes_are_those_the_check_certified_step_by_step(
    captured: Captured, batch: tuple[Tensor, Tensor], seed: int
) -> None:
    with Executor(captured, paging(captured, seed), DEVICE) as executor:
        result = executor.step(batch, 0)
        assert result.live_bytes == executor.certificate.ram_bytes
        assert result.peak_bytes == executor.certificate.peak_bytes
        assert result.bytes_written == executor.certificate.bytes_written
        assert result.bytes_read == executor.certificate.bytes_read


def test_what_the_process_holds_falls_with_the_plan() -> None:
    task = resolve_task("mlp", batch=2048, args={"features": 512, "hidden": (512,) * 6})
    captured = capture(task.model, task.loss, SGD(0.1), task.example_batch)
    plain_plan = plain(captured)
    order, homes = random_order(captured.graph, random.Random(0), forget=0.9, page=1.0)
    paged_plan = plan_of(order, captured.graph, homes=homes)
    rises = []
    for plan in (plain_plan, paged_plan):
        with Executor(captured, plan, DEVICE) as executor:
            executor.step(task.example_batch, 0)
            rises.append(executor.step(task.example_batch, 1).process_bytes)
    assert paged_plan.peak_bytes < 0.5 * plain_plan.peak_bytes
    assert rises[1] < 0.6 * rises[0]
    assert rises[1] < paged_plan.peak_bytes + 2**21


# -- who owns the memory -------------------------------------------------------------------------------------


def test_values_at_home_in_the_tier_are_out_of_memory_between_steps(
    captured: Captured, batch: tuple[Tensor, Tensor]
) -> None:
    plan = paging(captured)
    parameters = dict(captured.model.named_parameters())
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    away = [name for name in parameters if name in plan.homes]
    with Executor(captured, plan, DEVICE) as executor:
        executor.step(batch, 0)
        assert away
        assert all(parameters[name].untyped_storage().nbytes() == 0 for name in away)
        state = executor.state()
        executor.sync()
        assert all(torch.equal(parameters[name], state[name]) for name in parameters)
        executor.step(batch, 1)
        assert all(parameters[name].untyped_storage().nbytes() == 0 for name in away)
        state = executor.state()
    assert {name: parameter.numel() for name, parameter in parameters.items()} == sizes
    assert all(torch.equal(parameters[name], state[name]) for name in parameters)


def test_a_parameter_that_leaves_for_a_while_is_not_kept_alive_by_the_model(
    captured: Captured, batch: tuple[Tensor, Tensor]
) -> None:
    name = "layers.3.weight"
    parameter = captured.model.get_parameter(name)
    theirs = train(captured, plain(captured), [batch] * 2, start=(start := start_of(captured)))
    seen = []
    kernel = captured.kernels[captured.graph.ops[0].name]

    def spy(*arguments: object) -> tuple[Tensor, ...]:
        seen.append(parameter.untyped_storage().nbytes())
        return kernel(*arguments)

    captured.kernels[captured.graph.ops[0].name] = spy
    ours = train(captured, absence(captured.graph, name), [batch] * 2, start=start)
    assert seen == [0, 0]
    assert_same_bits(ours, theirs)
    assert torch.equal(parameter, ours.state[name])


def test_the_model_can_be_trained_again_after_closing(
    captured: Captured, batch: tuple[Tensor, Tensor]
) -> None:
    start = start_of(captured)
    first = train(captured, paging(captured), [batch] * 2, start=start)
    second = train(captured, paging(captured, 1), [batch] * 2, start=start)
    assert_same_bits(first, second)


def test_momentum_starts_at_zero_in_every_executor(captured: Captured, batch: tuple[Tensor, Tensor]) -> None:
    train(captured, paging(captured), [batch])
    with Executor(captured, paging(captured), DEVICE) as executor:
        state = executor.state()
    assert all(not state[name].any() for name in captured.states)


def test_two_executors_cannot_hold_one_model(captured: Captured, batch: tuple[Tensor, Tensor]) -> None:
    with Executor(captured, paging(captured), DEVICE) as executor:
        executor.step(batch, 0)
        with pytest.raises(UsageError, match="Close the executor that holds it, or capture the model again"):
            Executor(captured, plain(captured), DEVICE)


def test_a_parameter_inside_a_larger_storage_gets_its_own(batch: tuple[Tensor, Tensor]) -> None:
    model = nn.Linear(12, 10)
    model.weight.data = torch.randn(1000)[100:220].reshape(10, 12)
    captured = capture(model, "cross_entropy", SGD(0.1), batch)
    before = model.weight.detach().clone()
    trained = train(captured, plain(captured), [batch])
    assert torch.equal(model.weight, trained.state["weight"])
    assert not torch.equal(model.weight, before)
    assert model.weight.untyped_storage().nbytes() == 480


def test_a_closed_executor_says_so(captured: Captured, batch: tuple[Tensor, Tensor]) -> None:
    executor = Executor(captured, paging(captured), DEVICE)
    state = executor.state()
    executor.close()
    executor.close()
    calls: list[Callable[[], object]] = [
        executor.state, executor.sync, lambda: executor.step(batch, 0), lambda: executor.load_state(state)
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(UsageError) as caught:
            call()
        assert (
            str(caught.value) == "This executor is closed; its parameters are in the model. Make a new one."
        )


def test_the_paging_file_is_made_where_it_is_asked_for(
    captured: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("edgewise.run.executor.Pager", lambda _, directory: seen.append(directory))
    with pytest.raises(AttributeError):
        Executor(captured, paging(captured), DEVICE, paging_dir=tmp_path)
    assert seen == [tmp_path]


# -- what is refused -----------------------------------------------------------------------------------------


def test_a_plan_that_does_not_pass_the_check_is_refused(captured: Captured) -> None:
    plan = plain(captured)
    wrong = [
        msgspec.structs.replace(plan, steps=plan.steps[1:]),
        msgspec.structs.replace(plan, graph_sha256="0" * 64),
        msgspec.structs.replace(plan, peak_bytes=plan.peak_bytes - 1),
    ]
    for tampered in wrong:
        with pytest.raises(PlanRejected):
            Executor(captured, tampered, DEVICE)
    with pytest.raises(PlanRejected, match="another-board"):
        Executor(captured, plan, msgspec.structs.replace(DEVICE, name="another-board"))


SHAPE = (
    "Tensor `batch.0` is (3, 12) torch.float32; the step was captured for (4, 12) torch.float32. "
    "Use batches of that size, or capture again."
)
DTYPE = (
    "Tensor `batch.1` is (4,) torch.int32; the step was captured for (4,) torch.int64. "
    "Use batches of that size, or capture again."
)


@pytest.mark.parametrize(
    ("rows", "targets", "text"), [(3, torch.int64, SHAPE), (4, torch.int32, DTYPE)], ids=["shape", "dtype"]
)
def test_other_shapes_and_dtypes(captured: Captured, rows: int, targets: torch.dtype, text: str) -> None:
    with Executor(captured, plain(captured), DEVICE) as executor:
        with pytest.raises(UsageError) as caught:
            executor.step((torch.zeros(rows, 12), torch.zeros(4, dtype=targets)), 0)
        assert str(caught.value) == text
        executor.step((torch.zeros(4, 12), torch.zeros(4, dtype=torch.int64)), 0)


@pytest.mark.parametrize("given", [({"x": torch.zeros(4, 12)}, torch.zeros(4)), ((torch.zeros(4, 12),), 3)])
def test_batches_of_another_structure(captured: Captured, given: tuple) -> None:
    with (
        Executor(captured, plain(captured), DEVICE) as executor,
        pytest.raises(
            UsageError, match=r"differs from the one .* not \(T, T\)\. Use batches like the example"
        ),
    ):
        executor.step(given, 0)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 10)

    def forward(self, x: Tensor, power: int) -> Tensor:
        return self.layer(x) ** power


def test_numbers_in_a_batch_are_part_of_what_was_captured(batch: tuple[Tensor, Tensor]) -> None:
    x, targets = batch
    captured = capture(Scaled(), "cross_entropy", SGD(0.1), ({"x": x, "power": 2}, targets))
    with Executor(captured, plain(captured), DEVICE) as executor:
        executor.step(({"x": x, "power": 2}, targets), 0)
        with pytest.raises(UsageError, match=r"'power': 3.*, not .*'power': 2"):
            executor.step(({"x": x, "power": 3}, targets), 1)


def test_a_batch_may_be_a_part_of_the_data(captured: Captured) -> None:
    data, targets = torch.randn(100, 12), torch.randint(10, (100,))
    plan = plain(captured)
    start = start_of(captured)
    parts = train(captured, plan, [(data[8:12], targets[8:12])], start=start)
    whole = train(captured, plan, [(data[8:12].clone(), targets[8:12].clone())], start=start)
    strided = train(captured, plan, [(data.t().contiguous().t()[8:12], targets[8:12])], start=start)
    assert_same_bits(parts, whole)
    assert_same_bits(strided, whole)
    assert torch.equal(data, data.clone())


def test_inputs_may_be_their_own_targets() -> None:
    model, x = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 6)), torch.randn(4, 6)
    captured = capture(model, "mse", AdamW(), (x, x))
    plan = plain(captured)
    with Executor(captured, plan, DEVICE) as executor:
        result = executor.step((x, x.clone()), 0)
        assert_within_budget(result, plan)
        assert executor.step((x, x), 1).peak_bytes <= plan.budget.ram_bytes


# -- state ---------------------------------------------------------------------------------------------------


def test_state_names_what_can_change(captured: Captured) -> None:
    with Executor(captured, plain(captured), DEVICE) as executor:
        names = [name for name, _ in captured.model.named_parameters()]
        assert set(executor.state()) == {*names, *(f"{name}.momentum" for name in names)}


def test_state_is_a_copy(captured: Captured, batch: tuple[Tensor, Tensor]) -> None:
    with Executor(captured, plain(captured), DEVICE) as executor:
        before = executor.state()
        kept = {name: tensor.clone() for name, tensor in before.items()}
        executor.step(batch, 0)
        assert all(torch.equal(before[name], kept[name]) for name in kept)


def test_a_run_continues_from_its_state_bit_by_bit(captured: Captured, batch: tuple[Tensor, Tensor]) -> None:
    start = start_of(captured)
    whole = train(captured, paging(captured), [batch] * 4, start=start)
    with Executor(captured, paging(captured, 1), DEVICE) as executor:
        executor.load_state(start)
        executor.step(batch, 0)
        executor.step(batch, 1)
        middle = executor.state()
    with Executor(captured, paging(captured, 2), DEVICE) as executor:
        executor.load_state(middle)
        losses = [executor.step(batch, step).loss for step in (2, 3)]
        assert losses == whole.losses[2:]
        assert all(torch.equal(tensor, whole.state[name]) for name, tensor in executor.state().items())


def test_states_that_do_not_fit(captured: Captured) -> None:
    with Executor(captured, plain(captured), DEVICE) as executor:
        state = executor.state()
        name = next(iter(state))
        wrong = {
            f"missing or unknown: `{name}`.": {n: t for n, t in state.items() if n != name},
            "missing or unknown: `odd`.": {**state, "odd": torch.zeros(1)},
            f"has `{name}` as (1,) torch.float32, not": {**state, name: torch.zeros(1)},
            f"has `{name}` as {tuple(state[name].shape)} torch.float64": {
                **state,
                name: state[name].double(),
            },
        }
        for text, given in wrong.items():
            with pytest.raises(UsageError) as caught:
                executor.load_state(given)
            assert text in str(caught.value)
            assert str(caught.value).endswith("Load the state of a run with the same model and optimizer.")
        assert all(torch.equal(tensor, state[n]) for n, tensor in executor.state().items())


# -- layouts -------------------------------------------------------------------------------------------------


class InParts(nn.Module):
    """Fills every other column: `copy` onto a part lies in memory otherwise than the trace has it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 40)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        parts = torch.zeros_like(h)
        parts[:, ::2] = h[:, ::2].relu()
        parts[:, 1::2] += h[:, 1::2].tanh()
        found: Tensor = self.head(parts)
        return found


def test_what_a_kernel_lays_out_otherwise_comes_back_the_same() -> None:
    torch.manual_seed(0)
    batch = torch.randn(3, 6), torch.tensor([0, 1, 0])
    captured = capture(InParts(), "cross_entropy", SGD(0.1), batch)
    start = start_of(captured)
    expected = train(captured, plain(captured), [batch] * 2, start=start)
    for seed in range(6):
        found = train(captured, paging(captured, seed), [batch] * 2, start=start)
        assert_same_bits(found, expected)
