"""The same comparison on models small enough to run: real steps, real bytes.

Each way trains in a process of its own. Ours is counted by the executor. The peer is compiled by PyTorch's
backend `aot_eager_decomp_partition`, which partitions as Inductor does and then runs op by op; a dispatch
mode around its forward and backward graphs counts the storages that live, and the kernel's high-water mark
is the witness of both.
"""

import json
import multiprocessing
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgewise.capture import SGD, capture
from edgewise.devices import Compute, Device, Memory, Ram
from edgewise.plan import Budget, make_plan, plain_plan
from edgewise.run import Executor, process
from edgewise.zoo import Task, resolve_loss, resolve_task

STEPS = 4
DEVICE = Device(
    "this-core",
    "one core, as the shipped profile `host` has it",
    Compute(2e9, bytes_per_second=1e10, class_flops_per_second={"matmul": 5e10, "convolution": 2e10}),
    Memory(Ram(1 << 40)),
)
TASKS: dict[str, dict[str, Any]] = {
    "resnet18": {"batch": 8},
    "transformer": {
        "batch": 16,
        "args": {"length": 64, "width": 128, "depth": 4, "heads": 4, "dropout": 0.0},
    },
}


class Counting(TorchDispatchMode):
    """Bytes of the storages that ops made and that still live, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.live_bytes = self.peak_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.sweep()
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        return result

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001  # the identity of a storage
        if key not in self.alive:
            self.alive[key] = (StorageWeakRef(storage), storage.nbytes())
            self.live_bytes += storage.nbytes()

    def sweep(self) -> None:
        for key in [key for key, (reference, _) in self.alive.items() if reference.expired()]:
            self.live_bytes -= self.alive.pop(key)[1]


def task_of(name: str) -> Task:
    return resolve_task(name, **TASKS[name])


def compiled_step(name: str, budget: float | None) -> dict[str, Any]:
    """Steps of the compiled model at `budget`; `None` runs the model as it is, in eager mode."""
    import torch._functorch.config as functorch_config  # noqa: PLC0415  # only in the child
    from torch._dynamo.backends.debugging import aot_eager_decomp_partition_with_mode  # noqa: PLC0415

    torch.set_num_threads(1)
    process.return_freed_memory()
    task = task_of(name)
    loss, counting = resolve_loss(task.loss), Counting()
    model: Any = task.model
    for tensor in (*model.parameters(), *model.buffers()):
        counting.add(tensor.detach())
    carried = counting.live_bytes
    inputs, targets = task.example_batch
    if budget is not None:
        functorch_config.activation_memory_budget = budget

        def backend(gm: Any, example: Any) -> Any:
            return aot_eager_decomp_partition_with_mode(gm, example, mode=counting)

        model = torch.compile(Losing(model, loss), backend=backend)
    else:
        model = Losing(model, loss)
    return _train(model, task.model, counting, (inputs, targets), carried, counted=budget is None)


class Losing(nn.Module):
    """The model with its loss, so that both are compiled."""

    def __init__(self, model: nn.Module, loss: Any) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(self.model(inputs), targets)


def _train(
    model: Any, inner: nn.Module, counting: Counting, batch: Any, carried: int, *, counted: bool
) -> dict[str, Any]:
    peaks, seconds, high = [], [], 0
    for step in range(STEPS):
        process.trim()
        process.reset_peak()
        before, counting.peak_bytes = process.resident_bytes(), 0
        for parameter in inner.parameters():
            parameter.grad = None
        begin = time.process_time()
        if counted and step < STEPS - 1:  # the mode slows eager steps down: the last one is timed without
            with counting:
                model(*batch).backward()
        else:
            model(*batch).backward()
        seconds.append(time.process_time() - begin)
        high = process.peak_resident_bytes() - before
        peaks.append(counting.peak_bytes)
        counting.sweep()
    return {"peak_bytes": max(peaks) - carried, "seconds": min(seconds[1:]), "process_bytes": high}


def planned_step(name: str, share: float) -> dict[str, Any]:
    """Steps of our plan at `share` of the activation peak; all of it at 1."""
    torch.set_num_threads(1)
    process.return_freed_memory()
    task = task_of(name)
    captured = capture(task.model, task.loss, SGD(0.01), task.example_batch, name=name)
    sources = captured.graph.sources()
    carried = sum(value.bytes for value in sources if value.kind in ("parameter", "state"))
    plan = plain_plan(captured.graph, DEVICE, minimize="seconds")
    if share < 1:
        budget = Budget(int(carried + share * (plan.peak_bytes - carried)))
        plan = make_plan(captured.graph, DEVICE, budget, minimize="seconds", time_limit=20)
    seconds, results = [], []
    with Executor(captured, plan, DEVICE) as executor:
        for step in range(STEPS):
            begin = time.process_time()
            results.append(executor.step(task.example_batch, step))
            seconds.append(time.process_time() - begin)
    peak = max(result.peak_bytes for result in results)
    return {
        "certified_bytes": plan.peak_bytes - carried,
        "peak_bytes": peak - carried,
        "seconds": min(seconds[1:]),
        "process_bytes": results[-1].process_bytes,
    }


def measured_rows(name: str, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One row a way: eager, compiled at some budgets, ours at some shares."""
    ways: list[tuple[str, Any, Any]] = [("eager PyTorch", compiled_step, None)]
    ways += [(f"memory budget {budget:g}", compiled_step, budget) for budget in (1.0, 0.5, 0.25, 0.0)]
    ways += [(f"ours, {share:.0%}", planned_step, share) for share in (1.0, 0.6, 0.4)]
    rows = []
    for words, function, argument in ways:
        say(f"  {name}, measured: {words}")
        rows.append({"name": name, "way": words, **alone(function, name, argument)})
    return rows


def alone(function: Any, *arguments: Any) -> dict[str, Any]:
    """What `function` returns in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return json.loads(json.dumps(pool.apply(function, arguments)))
