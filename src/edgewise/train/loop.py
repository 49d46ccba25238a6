"""`train_run`: from a recipe to a run directory with a trained model in it."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgewise.capture import SGD, AdamW, Captured, Optimizer
from edgewise.devices import Device, load_device
from edgewise.graph import encode_graph
from edgewise.methods.capture import capture_with
from edgewise.plan import Plan, encode_plan
from edgewise.run import Executor
from edgewise.train.checkpoint import TENSORS, Position, load_tensors
from edgewise.train.data import Dataset, check_enough, epoch_order, load_data
from edgewise.train.environment import describe_environment
from edgewise.train.epochs import Epochs
from edgewise.train.evaluate import Evaluator
from edgewise.train.files import write_whole
from edgewise.train.fit import check_fit
from edgewise.train.interrupts import Interrupts
from edgewise.train.method_names import method_text
from edgewise.train.metrics import FILE as METRICS
from edgewise.train.metrics import MetricsLog, cut_back
from edgewise.train.planning import Planned, earlier_plan, plan_run
from edgewise.train.recipe import OptimizerConfig, Recipe, Sgd, check_recipe
from edgewise.train.recipe_file import encode_recipe
from edgewise.train.records import SUMMARY_FORMAT, EpochLine, RunSummary
from edgewise.train.run_dir import ENVIRONMENT, GRAPH, MEMORY, PLAN, RECIPE, SUMMARY, check_position, take
from edgewise.train.watch import Watch
from edgewise.zoo import resolve_task

WATCHED = 64
"""Training samples that set the scales of layers on int8."""


def train_run(
    recipe: Recipe,
    run_dir: Path,
    *,
    resume: bool = False,
    watch: Watch | None = None,
    plan: Plan | None = None,
) -> RunSummary:
    """Train what `recipe` says, and leave everything about it in `run_dir`.

    The weights after each step depend on the recipe's model, data, method and training only: neither the plan
    and its budget nor an interruption and `resume` change a bit of them. Ctrl-C ends the run after its
    current step, with a checkpoint; a second one at once, with the checkpoint of the last epoch.

    Args:
        recipe: what to train.
        run_dir: a directory without a run in it; or with one of this recipe, to `resume`.
        resume: go on where the checkpoint in `run_dir` stands; `train.epochs` and the device may be others.
        watch: hears of the run as it goes.
        plan: to run by, if it was made for this recipe's step and budget; else one is made.

    Raises:
        UsageError: the recipe, data, model and run directory do not fit together. Nothing was changed.
        ModelUnsupported: the model cannot be captured.
        BudgetInfeasible: no plan fits the budget.
        CorruptArtifact: a file in `run_dir`, or of the data, is damaged.
        DeviceError: the disk is full or failed; the last checkpoint is still good.
    """
    watch = watch or Watch()
    check_recipe(recipe)
    position = take(run_dir, recipe, resume=resume)
    dataset = load_data(recipe.data)
    check_enough(dataset, recipe.train.batch)
    steps_per_epoch = recipe.steps_of_epoch(len(dataset.train))
    if position is not None:
        check_position(position, steps_per_epoch, run_dir)
    start = position or Position("", recipe.digest, epoch=0, step=0, sha256="")
    watch.started(recipe.train.epochs * steps_per_epoch, recipe.train.epochs, start.step)
    device = load_device(recipe.device.name)
    captured = capture_task(recipe, dataset)
    earlier = (earlier_plan(run_dir, device) if resume else None) or plan
    planned = plan_run(recipe.device, captured.graph, device, earlier=earlier, progress=watch.progress)
    watch.planned(planned.plan, planned.plain)
    past = cut_back(run_dir / METRICS, step=start.step, epoch=start.epoch if position else -1)
    paging_dir = Path(recipe.device.paging_dir).expanduser() if recipe.device.paging_dir else run_dir
    with Executor(captured, planned.plan, device, paging_dir=paging_dir) as executor:
        if position is not None:
            executor.load_state(load_tensors(run_dir))
        _write_setting(run_dir, recipe, device, captured, planned)
        begin = time.perf_counter()
        with MetricsLog(run_dir / METRICS) as log, Interrupts() as interrupts:
            evaluator = _evaluator(captured, planned, dataset, recipe.train.batch)
            epochs = Epochs(recipe, dataset.train, executor, evaluator, log, watch, interrupts, run_dir)
            interrupted = epochs.run(start, past)
        seconds = time.perf_counter() - begin
    summary = _summary(recipe, device, planned, epochs, seconds, interrupted=interrupted)
    write_whole(run_dir / SUMMARY, msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n")
    watch.finished(summary)
    return summary


def capture_task(recipe: Recipe, dataset: Dataset, optimizer: Optimizer | None = None) -> Captured:
    """The training step of the recipe's model on batches of its data, by its method.

    `optimizer` takes the place of the recipe's.

    Raises:
        UsageError: model, loss, data and method do not fit together.
        ModelUnsupported: the model cannot be captured, or not by this method.
    """
    train = recipe.train
    batch = dataset.train.batch(epoch_order(len(dataset.train), seed=train.seed, epoch=1)[: train.batch])
    task = resolve_task(
        recipe.model.name,
        batch=train.batch,
        args=recipe.model.args,
        loss=train.loss,
        example_batch=batch,
        seed=train.seed,
    )
    if dataset.class_count is None and train.loss is None and not hasattr(task.model, "loss"):
        task = dataclasses.replace(task, loss="mse")
    check_fit(task, dataset)
    return capture_with(
        recipe.method,
        task.model,
        task.loss,
        optimizer or make_optimizer(train.optimizer),
        task.example_batch,
        name=recipe.model.name,
        seed=train.seed,
        watched=_watched(dataset, train.batch),
    )


def _watched(dataset: Dataset, batch: int) -> Iterator[Any]:
    """Inputs of about `WATCHED` training samples, batch by batch."""
    order = epoch_order(len(dataset.train), seed=0, epoch=1)[: max(WATCHED // batch, 1) * batch]
    for at in range(0, len(order) - batch + 1, batch):
        yield dataset.train.batch(order[at : at + batch])[0]


def make_optimizer(config: OptimizerConfig) -> SGD | AdamW:
    """The optimizer that a recipe describes."""
    kind = SGD if isinstance(config, Sgd) else AdamW
    return kind(**msgspec.structs.asdict(config))


def _write_setting(
    run_dir: Path, recipe: Recipe, device: Device, captured: Captured, planned: Planned
) -> None:
    """Everything that is known before the first step; the recipe first, for it is what `resume` asks for."""
    environment = msgspec.json.format(msgspec.json.encode(describe_environment(device)), indent=1)
    plan = encode_plan(planned.plan)
    write_whole(run_dir / RECIPE, encode_recipe(recipe).encode())
    if (run_dir / PLAN).exists() and (run_dir / PLAN).read_bytes() != plan:
        (run_dir / MEMORY).unlink(missing_ok=True)  # it was measured with another plan
    write_whole(run_dir / GRAPH, encode_graph(captured.graph))
    write_whole(run_dir / PLAN, plan)
    write_whole(run_dir / ENVIRONMENT, environment + b"\n")


def _evaluator(captured: Captured, planned: Planned, dataset: Dataset, batch: int) -> Evaluator:
    """Parameters and buffers must all be in RAM to evaluate; optimizer states at home stay there."""
    own = {name for name, _ in (*captured.model.named_parameters(), *captured.model.named_buffers())}
    carried = [value for value in captured.graph.sources() if value.kind in ("parameter", "state")]
    resident = sum(v.bytes for v in carried if v.name in own or v.name not in planned.plan.homes)
    return Evaluator(
        captured.model,
        dataset.test,
        budget_bytes=planned.plan.budget.ram_bytes,
        resident_bytes=resident,
        most=batch,
    )


def _summary(
    recipe: Recipe, device: Device, planned: Planned, epochs: Epochs, seconds: float, *, interrupted: bool
) -> RunSummary:
    plan, certificate, plain = planned.plan, planned.certificate, planned.plain
    lines = epochs.lines
    before, after = lines.get(0, EpochLine(0)), lines[max(lines)] if lines else EpochLine(0)
    return RunSummary(
        format=SUMMARY_FORMAT,
        model=recipe.model.name,
        device=device.name,
        minimize=plan.minimize,
        status=plan.status,
        gap=plan.gap,
        solver=plan.solver,
        plain_peak_bytes=plain.peak_bytes,
        budget_ram_bytes=plan.budget.ram_bytes,
        planned_peak_bytes=plan.peak_bytes,
        certified_peak_bytes=certificate.peak_bytes,
        measured_peak_bytes=epochs.peak_bytes,
        process_bytes=epochs.process_bytes,
        evaluation_peak_bytes=epochs.evaluator.peak_bytes,
        plain_seconds=plain.seconds,
        planned_seconds=certificate.seconds,
        plain_joules=plain.joules,
        planned_joules=certificate.joules,
        recomputed=len(certificate.recomputed),
        paged_out=len(certificate.paged_out),
        paged_in=len(certificate.paged_in),
        measured_seconds=epochs.mean_seconds,
        accuracy_before=before.test_accuracy,
        accuracy_after=after.test_accuracy,
        mse_before=before.test_mse,
        mse_after=after.test_mse,
        mae_before=before.test_mae,
        mae_after=after.test_mae,
        training_seconds=seconds,
        epochs=epochs.epoch,
        steps=epochs.step,
        interrupted=interrupted,
        checkpoint=TENSORS,
        method=method_text(recipe.method),
        diverged_at=epochs.diverged_at,
    )
