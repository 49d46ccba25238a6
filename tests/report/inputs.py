"""What the tests of the report share: a training step by hand, runs of it, and a reader of pages."""

import json
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec

from edgewise.devices import Device, load_device
from edgewise.graph import WHOLE, Graph, Op, Option, Value, save_graph
from edgewise.plan import Budget, Plan, check, make_plan, plain_plan, save_plan
from edgewise.plan.addresses import place
from tests.support import plan_of, random_order

BOARD = load_device("nrf52840")
VOID = {"meta", "wbr"}


def graph_of(layers: int, name: str = "net", size: int = 1024, layer: str = "body") -> Graph:
    """A training step of `layers` linear layers, each with its activation, its gradient and its update."""
    values = [Value("x", size, "input"), Value("loss", 4, "output"), Value(f"g{layers}", size, "gradient")]
    ops = []
    for i in range(1, layers + 1):
        values += [Value(f"w{i}", 2 * size, "parameter"), Value(f"m{i}", 2 * size, "state")]
        values += [Value(f"a{i}", size), Value(f"h{i}", size)]
        below, place = _below(i), f"{layer}.{i}"
        relu = (WHOLE, Option("in_place", ((f"a{i}", f"h{i}"),)))
        ops.append(
            Op(f"linear{i}", (below, f"w{i}"), (f"a{i}",), flops=64 * size, kind="matmul", layer=place)
        )
        ops.append(Op(f"relu{i}", (f"a{i}",), (f"h{i}",), flops=size, options=relu, layer=place))
    work = (Option("whole", workspace_bytes=size // 2),)
    ops.append(Op("criterion", (f"h{layers}",), ("loss", f"g{layers}"), flops=size, options=work))
    for i in range(layers, 0, -1):
        made = (f"d{i}", *((f"g{i - 1}",) if i > 1 else ()))
        values += [Value(f"d{i}", 2 * size, "gradient"), Value(f"w{i}.next", 2 * size, "parameter")]
        values += [Value(f"m{i}.next", 2 * size, "state"), *(Value(n, size, "gradient") for n in made[1:])]
        reads = (f"g{i}", f"h{i}", _below(i), f"w{i}")
        ops.append(Op(f"backward{i}", reads, made, flops=128 * size, kind="matmul", layer=f"{layer}.{i}"))
        updates = ((f"w{i}", f"w{i}.next"), (f"m{i}", f"m{i}.next"))
        ops.append(Op(f"update{i}", (f"d{i}",), flops=8 * size, updates=updates))
    return Graph(name, tuple(values), tuple(ops), ("loss",))


def _below(i: int) -> str:
    return f"h{i - 1}" if i > 1 else "x"


def plan_at_random(
    graph: Graph, seed: int = 3, *, forget: float = 0.5, page: float = 0.4, device: Device = BOARD
) -> Plan:
    """A valid plan that recomputes and pages without much thought, in a tight arena."""
    order, homes = random_order(graph, random.Random(seed), forget=forget, page=page)
    plan = plan_of(order, graph, device, homes)
    packed = place(plan.steps, graph, plan.homes)
    return msgspec.structs.replace(
        plan,
        budget=Budget(plan.peak_bytes + 100),
        addresses=packed.addresses,
        workspaces=packed.workspaces,
        gap=0.25,
    )


def plan_in_slices(graph: Graph, share: float = 0.15, *, device: Device = BOARD) -> Plan:
    """A plan of the planner for `share` of plain training's RAM; below what whole ops need, it streams."""
    budget = Budget(int(share * plain_plan(graph, device).peak_bytes))
    return make_plan(graph, device, budget, time_limit=5)


def write_plan(folder: Path, graph: Graph, plan: Plan) -> Path:
    """`plan.json` with `graph.json` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_graph(graph, folder / "graph.json")
    save_plan(plan, folder / "plan.json")
    return folder / "plan.json"


def step_line(step: int, loss: float | None, peak_bytes: int | None = None) -> dict[str, Any]:
    return {
        "type": "step", "step": step, "epoch": 1, "loss": loss, "seconds": 0.0125, "peak_bytes": peak_bytes
    }  # fmt: skip


def epoch_line(epoch: int, accuracy: float | None, **more: Any) -> dict[str, Any]:
    return {"type": "epoch", "epoch": epoch, "train_loss": 0.5, "test_accuracy": accuracy, **more}


def write_run(
    folder: Path, graph: Graph, plan: Plan, lines: list[dict[str, Any]] | None = None, device: Device = BOARD
) -> Path:
    """A whole run directory."""
    write_plan(folder, graph, plan)
    live = check(plan, graph, device).ram_bytes
    if lines is None:
        lines = [epoch_line(0, 0.0975), *(step_line(n, 2.5 / n, max(live)) for n in range(1, 31))]
        lines.append(epoch_line(1, 0.9625))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(
        folder / "memory.json", format="edgewise.memory/1", live_bytes=live, step=2, process_bytes=77_777
    )
    write_json(
        folder / "environment.json",
        format="edgewise.environment/1",
        versions={"torch": "2.13.0", "edgewise": "0.1.0"},
        platform="Linux for tests",
        threads=2,
        device=msgspec.to_builtins(device),
    )
    (folder / "recipe.toml").write_text('description = "a recipe for tests"\n')
    (folder / "checkpoint.json").write_text("{}")
    (folder / "checkpoint.safetensors").write_bytes(b"weights")
    return folder


def write_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(fields))


class Page(HTMLParser):
    """What stands in a page, and whether every element that begins also ends."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]
