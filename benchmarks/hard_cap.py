"""A hard cap, not a promise: the least memory in which a transformer's training steps survive.

    python benchmarks/hard_cap.py [--quick] [--page PATH]

Plain PyTorch and Edgewise train the same transformer on the same batch, each in a fork of this process that
the kernel allows only so much more private writable memory than it had at the fork (RLIMIT_DATA). The cap is
bisected for both. Writes docs/benchmarks/hard_cap.md; takes one to three minutes, with `--quick` (a smaller
model) half of that.

RLIMIT_AS would count what is only reserved too (stacks, arenas, mapped files): 600 MB for an imported torch.
RLIMIT_DATA counts what is the process's own and can be written, touched or not.
"""

import argparse
import gc
import json
import os
import platform
import re
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from edgewise.capture import SGD, Captured, capture
from edgewise.devices import Compute, Device, Memory, Ram, Tier
from edgewise.plan import Budget, Plan, make_plan, minimum_ram, plain_plan
from edgewise.run import Executor, process
from edgewise.zoo import Task, resolve_loss, resolve_task

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "hard_cap.md"
MIB = 2**20
STEPS = 2
OPTIMIZER = SGD(0.05, momentum=0.9)
SIZES = {
    "full": (32, {"length": 64, "width": 192, "depth": 4, "heads": 4, "vocabulary": 256, "dropout": 0.0}),
    "quick": (16, {"length": 64, "width": 96, "depth": 3, "heads": 4, "vocabulary": 256, "dropout": 0.0}),
}
HOST = Device(
    "capped-host",
    "a computer with a solid-state disk; only the memory counts here",
    Compute(2e10),
    Memory(Ram(2**40), ssd=Tier(5e8, 5e8, overlap=True)),
)


def task_of(size: str) -> Task:
    batch, args = SIZES[size]
    return resolve_task("transformer", batch=batch, args=args)


def captured_of(task: Task) -> Captured:
    return capture(task.model, task.loss, OPTIMIZER, task.example_batch, name="transformer")


# -- in the child --------------------------------------------------------------------------------------------


def child(way: str, size: str, cap_bytes: int, plan: Plan) -> dict[str, Any]:
    """Take the cap, then build the model and train it."""
    held = data_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (held + cap_bytes, held + cap_bytes))
    losses, seconds = train_plain(size) if way == "plain" else train_planned(size, plan)
    return {"losses": losses, "seconds": statistics.median(seconds)}


def warm_up() -> None:
    """Train a tiny model in both ways, so that all that is loaded late is loaded before the cap falls."""
    task = resolve_task("transformer", batch=1, args={"length": 4, "depth": 1})
    captured = captured_of(task)
    with Executor(captured, plain_plan(captured.graph, HOST), HOST) as executor:
        executor.step(task.example_batch, 0)
    inputs, targets = task.example_batch
    resolve_loss(task.loss)(task.model(inputs), targets).backward()


def data_bytes() -> int:
    """What RLIMIT_DATA is held against."""
    found = re.search(r"^VmData:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def train_plain(size: str) -> tuple[list[float], list[float]]:
    task = task_of(size)
    inputs, targets = task.example_batch
    loss = resolve_loss(task.loss)
    optimizer = torch.optim.SGD(task.model.parameters(), OPTIMIZER.lr, OPTIMIZER.momentum, foreach=False)
    losses, seconds = [], []
    for _ in range(STEPS):
        begin = time.perf_counter()
        optimizer.zero_grad()
        value = loss(task.model(inputs), targets)
        value.backward()
        optimizer.step()
        losses.append(value.item())
        seconds.append(time.perf_counter() - begin)
    return losses, seconds


def train_planned(size: str, plan: Plan) -> tuple[list[float], list[float]]:
    task = task_of(size)
    with Executor(captured_of(task), plan, HOST) as executor:
        results = [executor.step(task.example_batch, step) for step in range(STEPS)]
    return [result.loss for result in results], [result.seconds for result in results]


# -- in the parent -------------------------------------------------------------------------------------------


def survives(way: str, size: str, cap_bytes: int, plan: Plan) -> dict[str, Any] | None:
    """What a fork of this process measured under the cap, or None if it did not get through."""
    answer, ask = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what a process without memory has to say
            os.write(ask, json.dumps(child(way, size, cap_bytes, plan)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(ask)
    with os.fdopen(answer) as pipe:
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(told) if status == 0 else None


def least_cap(way: str, size: str, high: int, plan: Plan, precision: int) -> tuple[int, dict[str, Any]]:
    """The smallest cap that `way` survives, to `precision` bytes, and what it measured there."""
    found = survives(way, size, high, plan)
    while found is None:
        high *= 2
        found = survives(way, size, high, plan)
    low = 0
    while high - low > precision:
        middle = (low + high) // 2
        measured = survives(way, size, middle, plan)
        if measured is None:
            low = middle
        else:
            high, found = middle, measured
    return high, found


def measure(size: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    process.return_freed_memory()  # for both ways alike
    captured = captured_of(task_of(size))
    needs = plain_plan(captured.graph, HOST)
    least = minimum_ram(captured.graph, HOST, time_limit=5)
    budget = least.ram_bytes  # the question is the smallest cap, not the best bargain
    plan = make_plan(captured.graph, HOST, Budget(budget), minimize="seconds", time_limit=10, gap=0.5)
    precision = (4 if size == "quick" else 2) * MIB
    del captured
    warm_up()
    gc.collect()
    process.trim()
    planned_cap, planned = least_cap("planned", size, 2 * plan.peak_bytes, plan, precision)
    plain_cap, plain = least_cap("plain", size, 2 * needs.peak_bytes, plan, precision)
    fails = survives("plain", size, planned_cap, plan) is None
    return {
        "needs": needs.peak_bytes, "budget": budget, "plan": plan, "precision": precision, "fails": fails,
        "planned": planned, "planned_cap": planned_cap, "plain": plain, "plain_cap": plain_cap,
    }  # fmt: skip


TEXT = """# A hard cap, not a promise

The least memory in which training steps of a transformer survive, in a process that the kernel limits.

| way | least cap survived | loss after the last step | a step, median |
|---|---:|---:|---:|
{rows}

At the cap that Edgewise survives, plain PyTorch {outcome}. Their losses differ by {apart:.1e} of their size.

- Model: the zoo's `transformer` ({settings}), batch {batch}, {steps} steps of SGD with momentum.
- Plan: budget {budget:.1f} MiB, peak {peak:.1f} MiB (plain plan: {needs:.1f} MiB), solver `{solver}`.
- The cap is RLIMIT_DATA above what a forked process holds that has imported everything. So it pays for the
  model, for Edgewise's capture of it, and for buffers of PyTorch's kernels, which plans do not count. What
  Edgewise pages to disk may stay in the kernel's page cache, for which no process pays.
- Bisected to {precision} MiB; one thread, and blocks from 64 KiB returned at once, in both.
- Measured with `python benchmarks/hard_cap.py{quick}` on {machine}.
"""


def page_of(size: str, found: dict[str, Any]) -> str:
    batch, args = SIZES[size]
    plan, losses = found["plan"], (found["planned"]["losses"], found["plain"]["losses"])
    rows = [
        f"| {name} | {found[f'{way}_cap'] / MIB:.0f} MiB | {found[way]['losses'][-1]:.6f} "
        f"| {found[way]['seconds']:.2f} s |"
        for way, name in (("plain", "plain PyTorch (eager)"), ("planned", "Edgewise"))
    ]
    return TEXT.format(
        rows="\n".join(rows),
        outcome="fails" if found["fails"] else "SURVIVES TOO",
        apart=max(abs(a - b) / abs(b) for a, b in zip(*losses, strict=True)),
        settings=", ".join(f"{key} {value}" for key, value in args.items()),
        batch=batch,
        steps=STEPS,
        budget=found["budget"] / MIB,
        peak=plan.peak_bytes / MIB,
        needs=found["needs"] / MIB,
        solver=plan.solver,
        precision=found["precision"] // MIB,
        quick=" --quick" if size == "quick" else "",
        machine=f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The least memory in which training survives.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    size = "quick" if options.quick else "full"
    text = page_of(size, measure(size))
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
