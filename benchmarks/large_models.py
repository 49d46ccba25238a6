"""Seven large models at half, 30% and 20% of their activation peak, beside what training scripts do today.

    python benchmarks/large_models.py [--models NAME ...] [--shares S ...] [--time-limit S] [--anew]

Each model is captured in a process of its own, with fake tensors, so that none needs its own memory here.
Results are kept in build/large_models/ and taken from there unless `--anew`: a run can be stopped and goes on
where it was. Writes docs/benchmarks/large_models.md; a model takes two to ten minutes.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._large_models_page import measured_table, page_of  # noqa: E402
from benchmarks._measured_peers import TASKS, measured_rows  # noqa: E402
from benchmarks._networks import NETWORKS, Training  # noqa: E402
from benchmarks._partitioner import order_of, splits  # noqa: E402
from edgewise.capture import SGD, capture  # noqa: E402
from edgewise.devices import Compute, Device, Memory, Ram, Tier  # noqa: E402
from edgewise.errors import BudgetInfeasible  # noqa: E402
from edgewise.graph import Graph  # noqa: E402
from edgewise.plan import Budget, check, make_plan, plain_plan  # noqa: E402
from edgewise.plan.every_block import every_block  # noqa: E402
from edgewise.plan.problem import Candidate, Problem, judge  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks" / "large_models.md"
RESULTS = ROOT / "build" / "large_models"
SHARES = (0.5, 0.3, 0.2)
SWEEP = tuple(round(1 - step / 20, 2) for step in range(21))
UNLIMITED = Budget(1 << 62)
RATES = Compute(
    flops_per_second=2e9,
    bytes_per_second=1e10,
    seconds_per_op=2e-6,
    class_flops_per_second={
        "matmul": 5e10,
        "convolution": 2e10,
        "depthwise_convolution": 1e9,
        "elementwise": 5e9,
        "reduction": 5e9,
        "normalization": 1e9,
        "softmax": 1e9,
        "pooling": 5e8,
        "embedding": 5e9,
        "copy": 5e9,
        "random": 1e8,
        "optimizer": 2e9,
    },
)
"""The proportions of one core of a server, round figures: those of the shipped profile `host`."""

RAM_ONLY = Device("server-core", "one core of a server, nothing to page to", RATES, Memory(Ram(1 << 40)))
PAGING = Device(
    "server-core-ssd",
    "one core of a server, a solid-state disk",
    RATES,
    Memory(Ram(1 << 40), ssd=Tier(5e8, 2.5e8, 1e-4, 2e-4, watts=2.0, overlap=True)),
)


# -- one model, in a process of its own ----------------------------------------------------------------------


class Subject:
    """A captured model, and its figures by the plain plan."""

    def __init__(self, name: str, training: Training) -> None:
        begin = time.process_time()
        step = capture(training.model, training.loss, SGD(0.1, momentum=0.9), training.batch, name=name)
        self.capture_seconds = time.process_time() - begin
        self.graph: Graph = step.graph
        self.problem = Problem(self.graph, RAM_ONLY, UNLIMITED, "seconds", "full")
        plain = plain_plan(self.graph, RAM_ONLY, minimize="seconds")
        self.carried_bytes = carried_bytes(self.graph)
        self.plain_bytes, self.plain_seconds = plain.peak_bytes, plain.seconds
        self.activation_bytes = plain.peak_bytes - self.carried_bytes

    def share(self, peak_bytes: int) -> float:
        return (peak_bytes - self.carried_bytes) / self.activation_bytes

    def budget(self, share: float) -> Budget:
        return Budget(int(self.carried_bytes + share * self.activation_bytes))

    def point(self, candidate: Candidate) -> dict[str, Any]:
        found = candidate.certificate
        return {
            "peak_bytes": found.peak_bytes,
            "share": self.share(found.peak_bytes),
            "overhead": found.seconds / self.plain_seconds - 1,
            "recomputed": len(found.recomputed),
        }


def carried_bytes(graph: Graph) -> int:
    """Parameters, optimizer states and running statistics: what is in RAM between steps."""
    return sum(value.bytes for value in graph.sources() if value.kind in ("parameter", "state"))


def peers(subject: Subject, training: Training) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Checkpoint-every-block, and the sweep of `activation_memory_budget`, counted by our replay."""
    yield "every_block", [subject.point(candidate) for candidate in every_block(subject.problem)]
    points = []
    for split in splits(training, SWEEP):
        candidate = judge(subject.problem, order_of(subject.problem, split.saved))
        if candidate is None:
            raise RuntimeError(f"the partitioner's split at {split.budget} is no plan of the captured graph")
        points.append({"budget": split.budget, "cpu_seconds": split.seconds, **subject.point(candidate)})
    yield "memory_budget", points


def planned(subject: Subject, device: Device, budget: Budget, limit: float) -> dict[str, Any]:
    """Our plan at `budget`, or what the least is."""
    cpu, wall = time.process_time(), time.monotonic()
    row: dict[str, Any] = {"budget_bytes": budget.ram_bytes, "asked": subject.share(budget.ram_bytes)}
    try:
        plan = make_plan(subject.graph, device, budget, minimize="seconds", time_limit=limit)
    except BudgetInfeasible as error:
        row |= {"least_bytes": error.min_ram_bytes, "op": error.op}
    else:
        found = check(plan, subject.graph, device)
        row |= {
            "peak_bytes": found.peak_bytes,
            "share": subject.share(found.peak_bytes),
            "overhead": found.seconds / subject.plain_seconds - 1,
            "gap": plan.gap,
            "recomputed": len(found.recomputed),
            "paged": len(found.paged_in),
            "arena": found.arena_bytes / found.peak_bytes,
        }
    return row | {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.monotonic() - wall}


def measure(name: str, path: Path, options: argparse.Namespace) -> None:
    """Fill in what is missing of the results of model `name` in `path`."""
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() and not options.anew else {}
    training = NETWORKS[name]()
    subject = Subject(name, training)
    about = {
        "name": name,
        "words": training.words,
        "ops": len(subject.graph.ops),
        "carried_bytes": subject.carried_bytes,
        "activation_bytes": subject.activation_bytes,
        "plain_seconds": subject.plain_seconds,
        "capture_seconds": subject.capture_seconds,
        "working": max(subject.problem.least_working_bytes) / subject.activation_bytes,
        "sha256": subject.graph.sha256,
    }
    if results.get("sha256") != subject.graph.sha256:
        results = {}
    results |= about
    if "memory_budget" not in results:
        for key, points in peers(subject, training):
            results[key] = points
            save(path, results)
    rows: list[dict[str, Any]] = results.setdefault("ours", [])
    for device, budget in wanted(subject, results, options):
        if not any((row["device"], row["budget_bytes"]) == (device.name, budget.ram_bytes) for row in rows):
            rows.append({"device": device.name, **planned(subject, device, budget, options.time_limit)})
            rows[-1]["limit"] = options.time_limit
            save(path, results)
            say(f"  {name}: {told(rows[-1])}")


def wanted(
    subject: Subject, results: dict[str, Any], options: argparse.Namespace
) -> Iterator[tuple[Device, Budget]]:
    """Budgets to plan for: the shares, and the peaks that the peers reach."""
    for share in options.shares:
        yield RAM_ONLY, subject.budget(share)
    for points in (results["every_block"], results["memory_budget"]):
        if points:
            yield RAM_ONLY, Budget(min(point["peak_bytes"] for point in points))
    yield PAGING, subject.budget(min(options.shares))


def told(row: dict[str, Any]) -> str:
    asked = f"{row['device']}, {row['asked']:.1%}"
    seconds = f"{row['cpu_seconds']:.0f} s of CPU, {row['wall_seconds']:.0f} s"
    if "overhead" not in row:
        return f"{asked}: no plan ({seconds})"
    return f"{asked}: {row['overhead']:+.1%} ({seconds})"


def save(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(results, indent=1))
    beside.replace(path)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


# -- all models ----------------------------------------------------------------------------------------------


def path_of(name: str, options: argparse.Namespace) -> Path:
    return options.results / f"{name.replace(' ', '-')}.json"


def run_alone(name: str, options: argparse.Namespace) -> None:
    """Measure one model in a process of its own."""
    command = [sys.executable, __file__, "--alone", name, "--results", str(options.results)]
    command += ["--time-limit", str(options.time_limit), "--shares", *map(str, options.shares)]
    subprocess.run([*command, *(["--anew"] if options.anew else [])], check=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Large models below their activation peak, beside peers.")
    parser.add_argument("--models", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--shares", nargs="*", type=float, default=list(SHARES))
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--anew", action="store_true", help="measure again what was measured before")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--measured", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--alone", help=argparse.SUPPRESS, choices=list(NETWORKS))
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.alone:
        warnings.filterwarnings("ignore")  # of PyTorch, about itself
        measure(options.alone, path_of(options.alone, options), options)
        return
    for name in options.models:
        say(name)
        run_alone(name, options)
        write_page(options)
    measure_really(options)
    write_page(options)


def measure_really(options: argparse.Namespace) -> None:
    """Real steps of the small models of `_measured_peers.py`, those that are missing."""
    path = options.results / "measured.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() and not options.anew else []
    for name in options.measured:
        if not any(row["name"] == name for row in rows):
            rows += measured_rows(name, say)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(rows, indent=1))


def write_page(options: argparse.Namespace) -> None:
    """The page of all results there are, also of earlier runs."""
    known = [path for name in NETWORKS if (path := path_of(name, options)).exists()]
    models = [json.loads(path.read_text()) for path in known]
    path = options.results / "measured.json"
    measured = measured_table(json.loads(path.read_text()) if path.exists() else [])
    options.page.parent.mkdir(parents=True, exist_ok=True)
    finished = [model for model in models if "ours" in model]
    options.page.write_text(page_of(finished, measured, options.time_limit))


if __name__ == "__main__":
    main()
