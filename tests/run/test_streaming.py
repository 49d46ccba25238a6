"""Whole steps with everything streamed: the numbers of the plain step, in the RAM and traffic certified."""

import random
from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from edgewise.capture import SGD, AdamW, Captured, Optimizer, capture
from edgewise.capture.tiling import Turn
from edgewise.errors import UsageError
from edgewise.plan import Compute, Plan, check
from edgewise.run import Executor
from edgewise.zoo import resolve_task
from tests.numerics.eager import relative_difference
from tests.run.streams import streaming_plan
from tests.run.training import Trained, assert_within_budget, plain, start_of, train
from tests.support import DEVICE

TOLERANCE = 1e-6
CASES = {
    "digits-cnn": {},
    "resnet8": {},
    "transformer": {"width": 64, "length": 24},
}


class Case(NamedTuple):
    captured: Captured
    batch: tuple[Tensor, Tensor]
    start: dict[str, Tensor]
    plain: Trained


@cache
def case_of(name: str, optimizer: Optimizer) -> Case:
    task = resolve_task(name, batch=2, args=CASES[name])
    captured = capture(task.model, task.loss, optimizer, task.example_batch)
    start = start_of(captured)
    return Case(
        captured,
        task.example_batch,
        start,
        train(captured, plain(captured), [task.example_batch], start=start),
    )


def assert_trains_as_plain(case: Case, plan: Plan) -> Executor:
    with Executor(case.captured, plan, DEVICE) as executor:
        executor.load_state(case.start)
        result = executor.step(case.batch, 0)
        state = executor.state()
    assert_within_budget(result, plan)
    certificate = executor.certificate
    above = [
        i for i, (a, b) in enumerate(zip(result.live_bytes, certificate.ram_bytes, strict=True)) if a > b
    ]
    assert above == [], "no step of the plan holds more than certified"
    assert (result.bytes_read, result.bytes_written) == (certificate.bytes_read, certificate.bytes_written)
    assert result.loss == pytest.approx(case.plain.losses[0], rel=TOLERANCE)
    ours, theirs = (torch.cat([t.double().flatten() for t in s.values()]) for s in (state, case.plain.state))
    assert relative_difference(ours, theirs) <= TOLERANCE
    return executor


@pytest.mark.parametrize("name", CASES)
def test_a_step_with_everything_streamed(name: str) -> None:
    case = case_of(name, SGD(0.05, momentum=0.9, weight_decay=1e-3))
    plan = streaming_plan(case.captured.graph)
    assert sum(bool(step.streamed) for step in plan.steps if isinstance(step, Compute)) > 3
    assert plan.peak_bytes < plain(case.captured).peak_bytes / 10
    assert_trains_as_plain(case, plan)


@pytest.mark.parametrize("optimizer", [SGD(0.05), SGD(0.05, momentum=0.9)], ids=["sgd", "momentum"])
@pytest.mark.parametrize("name", ["digits-cnn", "transformer"])
@pytest.mark.parametrize("seed", range(2))
def test_any_options_with_any_operands_streamed(name: str, optimizer: Optimizer, seed: int) -> None:
    case = case_of(name, optimizer)
    assert_trains_as_plain(case, streaming_plan(case.captured.graph, random.Random(seed)))


def test_training_goes_on_from_step_to_step() -> None:
    case = case_of("digits-cnn", AdamW())
    plan = streaming_plan(case.captured.graph)
    batches = [case.batch] * 3
    theirs = train(case.captured, plain(case.captured), batches, start=case.start)
    ours = train(case.captured, plan, batches, start=case.start)
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-5)


def test_parameters_that_begin_and_end_in_ram_may_change_in_the_tier() -> None:
    case = case_of("digits-cnn", SGD(0.05, momentum=0.9))
    graph = case.captured.graph
    plan = streaming_plan(graph, at_home=False)
    streamed = {name for step in plan.steps if isinstance(step, Compute) for name in step.streamed}
    assert not plan.homes
    assert streamed & {name for name, _ in case.captured.model.named_parameters()}
    assert_trains_as_plain(case, plan)


def test_exact_options_keep_the_bits() -> None:
    case = case_of("transformer", SGD(0.05))
    graph = case.captured.graph
    steps = [step for step in streaming_plan(graph).steps if isinstance(step, Compute)]
    exact = [step for step in steps if step.streamed and graph.op[step.op].option(step.option).exact]
    assert {graph.op[step.op].kind for step in exact} >= {"elementwise", "copy"}
    assert not check(streaming_plan(graph), graph, DEVICE).exact


def test_interrupted_while_a_weight_in_the_tier_changes_the_state_is_torn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = case_of("digits-cnn", SGD(0.05))
    plan = streaming_plan(case.captured.graph)
    ops = [step for step in plan.steps if isinstance(step, Compute)]
    tiled = [step.op for step in ops if step.streamed and case.captured.graph.op[step.op].updates]
    assert tiled
    run = Turn.run

    def failing(self: Turn) -> None:
        run(self)
        if self.loop is case.captured.loops[tiled[0]].get(self.loop.name):
            raise KeyboardInterrupt

    with Executor(case.captured, plan, DEVICE) as executor:
        executor.load_state(case.start)
        with monkeypatch.context() as patch:
            patch.setattr(Turn, "run", failing)
            with pytest.raises(KeyboardInterrupt):
                executor.step(case.batch, 0)
        with pytest.raises(UsageError, match="part old, part new"):
            executor.step(case.batch, 0)
        executor.load_state(case.start)
        assert executor.step(case.batch, 0).loss == pytest.approx(case.plain.losses[0], rel=TOLERANCE)
