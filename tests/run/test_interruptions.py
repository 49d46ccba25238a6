"""A step that does not finish: nothing is lost, or the executor knows that something is."""

import errno
import os
import random
import threading
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from edgewise.capture import SGD, AdamW, Captured, capture
from edgewise.errors import DeviceError, UsageError
from edgewise.plan import Plan
from edgewise.plan.schedule import Action
from edgewise.run import Executor
from edgewise.zoo import resolve_task
from tests.run.training import Trained, assert_same_bits, plain, train
from tests.support import DEVICE, plain_order, plan_of, random_order

ARGS = {"features": 12, "hidden": (16, 16)}


@pytest.fixture
def captured() -> Captured:
    task = resolve_task("mlp", batch=4, args=ARGS)
    return capture(task.model, task.loss, SGD(0.1, momentum=0.9), task.example_batch)


BATCH = resolve_task("mlp", batch=4, args=ARGS).example_batch


def paging(captured: Captured) -> Plan:
    order, homes = random_order(captured.graph, random.Random(3), forget=0.5, page=0.8)
    return plan_of(order, captured.graph, homes=homes)


def interrupt_at(captured: Captured, monkeypatch: pytest.MonkeyPatch, op: str, error: BaseException) -> None:
    """Let op `op` fail the next time that it runs, and only then."""
    kernel, left = captured.kernels[op], [error]

    def failing(*arguments: object) -> tuple[Tensor, ...]:
        if left:
            raise left.pop()
        return kernel(*arguments)

    monkeypatch.setitem(captured.kernels, op, failing)


def undisturbed(captured: Captured, start: dict[str, Tensor]) -> Trained:
    return train(captured, plain(captured), [BATCH] * 2, start=start)


def an_update(captured: Captured, position: int) -> str:
    return [op.name for op in captured.graph.ops if op.updates][position]


@pytest.mark.parametrize("plan_of_captured", [plain, paging])
def test_interrupted_before_anything_changed_the_step_can_be_repeated(
    captured: Captured, monkeypatch: pytest.MonkeyPatch, plan_of_captured
) -> None:
    with Executor(captured, plan_of_captured(captured), DEVICE) as executor:
        start = executor.state()
        interrupt_at(captured, monkeypatch, captured.graph.ops[4].name, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            executor.step(BATCH, 0)
        assert all(torch.equal(tensor, start[name]) for name, tensor in executor.state().items())
        losses = [executor.step(BATCH, step).loss for step in range(2)]
        state = executor.state()
    assert_same_bits(Trained(losses, state, []), undisturbed(captured, start))


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), MemoryError("no more"), RuntimeError("a kernel broke")]
)
@pytest.mark.parametrize("plan_of_captured", [plain, paging])
def test_interrupted_half_way_the_executor_refuses_until_a_state_is_loaded(
    captured: Captured, monkeypatch: pytest.MonkeyPatch, error: BaseException, plan_of_captured
) -> None:
    with Executor(captured, plan_of_captured(captured), DEVICE) as executor:
        start = executor.state()
        executor.step(BATCH, 0)
        checkpoint = executor.state()
        interrupt_at(captured, monkeypatch, an_update(captured, 2), error)
        with pytest.raises(type(error)):
            executor.step(BATCH, 1)
        for call in (executor.state, executor.sync, lambda: executor.step(BATCH, 1)):
            with pytest.raises(UsageError) as caught:
                call()
            assert str(caught.value) == (
                "Training step 1 was interrupted after it had begun to change the parameters: they are part "
                "old, part new. Put a whole state back with `load_state`, as from a checkpoint."
            )
        executor.load_state(checkpoint)
        executor.step(BATCH, 1)
        state = executor.state()
    theirs = undisturbed(captured, start)
    assert_same_bits(Trained(theirs.losses, state, []), theirs)


def test_a_torn_executor_still_gives_the_model_its_tensors_back(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = {name: p.shape for name, p in captured.model.named_parameters()}
    interrupt_at(captured, monkeypatch, an_update(captured, 1), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), Executor(captured, paging(captured), DEVICE) as executor:
        executor.step(BATCH, 0)
    assert {name: p.shape for name, p in captured.model.named_parameters()} == shapes


def test_running_statistics_count_as_changed() -> None:
    task = resolve_task("digits-cnn", batch=2, args={"depth": 1, "width": 4})
    captured = capture(task.model, task.loss, AdamW(), task.example_batch)
    kernels, broken = captured.kernels, captured.graph.ops[-1].name

    def fail(*_: object) -> tuple[Tensor, ...]:
        raise KeyboardInterrupt

    kernels[broken] = fail
    with Executor(captured, plain(captured), DEVICE) as executor:
        with pytest.raises(KeyboardInterrupt):
            executor.step(task.example_batch, 0)
        with pytest.raises(UsageError, match="part old, part new"):
            executor.state()


def fill_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Let the disk take `after` more writes; a list whose clearing makes room again."""
    written: list[int] = []
    pwrite, full = os.pwrite, [1]

    def writing(fd: int, data: memoryview, offset: int) -> int:
        if full and len(written) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(offset)
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", writing)
    return full


def test_disk_full_at_the_start_changes_nothing(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: p.detach().clone() for name, p in captured.model.named_parameters()}
    plan = paging(captured)
    fill_disk(monkeypatch, after=1)
    with pytest.raises(DeviceError, match="No space left on device"):
        Executor(captured, plan, DEVICE)
    assert all(torch.equal(p, before[name]) for name, p in captured.model.named_parameters())


def test_disk_full_in_the_forward_pass_loses_nothing(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = paging(captured)
    before = {name: p.detach().clone() for name, p in captured.model.named_parameters()}
    with Executor(captured, plan, DEVICE) as executor:
        start = executor.state()
        full = fill_disk(monkeypatch, after=0)
        with pytest.raises(
            DeviceError, match=r"Cannot write `.*` to the paging file: No space left on device\."
        ):
            executor.step(BATCH, 0)
        assert all(torch.equal(tensor, start[name]) for name, tensor in executor.state().items())
        executor.sync()
        assert all(torch.equal(p, before[name]) for name, p in captured.model.named_parameters())
        full.clear()
        losses = [executor.step(BATCH, step).loss for step in range(2)]
        state = executor.state()
    assert_same_bits(Trained(losses, state, []), undisturbed(captured, start))


def test_disk_full_in_the_backward_pass_is_not_hidden(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = paging(captured)
    with Executor(captured, plan, DEVICE) as executor:
        last = executor.certificate.paged_out
        fill_disk(monkeypatch, after=len(last) - 1)
        with pytest.raises(DeviceError, match="then resume from the last checkpoint"):
            executor.step(BATCH, 0)
        with pytest.raises(UsageError, match="part old, part new"):
            executor.state()


def test_a_value_that_cannot_be_read_back_is_not_made_up(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameter = "layers.3.weight"
    reads = [i for i, op in enumerate(captured.graph.ops) if parameter in op.reads]
    order = list(plain_order(captured.graph))
    order.insert(reads[1], Action("in", parameter))
    order.insert(reads[0] + 1, Action("out", parameter))
    executor = Executor(captured, plan_of(tuple(order), captured.graph), DEVICE)

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(DeviceError, match=r"Cannot read `layers\.3\.weight` from the paging file"):
        executor.step(BATCH, 0)
    with pytest.raises(UsageError, match="part old, part new"):
        executor.state()
    executor.close()
    assert captured.model.get_parameter(parameter).isnan().all()


def test_the_first_failure_is_the_one_that_is_told(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    plan = paging(captured)
    executor = Executor(captured, plan, DEVICE)
    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(KeyboardInterrupt), executor:
        raise KeyboardInterrupt


def test_values_are_paged_in_while_ops_run(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The read is let through only after an op ran that stands between the page-in and the reader."""
    graph = captured.graph
    value, before, after = next(
        (v.name, *gap)
        for v in graph.values
        if v.kind == "activation"
        for gap in pairwise(i for i, op in enumerate(graph.ops) if v.name in op.inputs)
        if gap[1] - gap[0] > 3
    )
    order = list(plain_order(graph))
    order.insert(after - 1, Action("in", value))
    order.insert(before + 1, Action("out", value))
    may_read, preadv = threading.Event(), os.preadv
    between = graph.ops[after - 1].name
    kernel = captured.kernels[between]

    def signalling(*arguments: object) -> tuple[Tensor, ...]:
        may_read.set()
        return kernel(*arguments)

    def waiting(*arguments: object) -> int:
        assert may_read.wait(30), "the op between did not run while the read was under way"
        return preadv(*arguments)

    monkeypatch.setitem(captured.kernels, between, signalling)
    monkeypatch.setattr(os, "preadv", waiting)
    train(captured, plan_of(tuple(order), graph), [BATCH])
