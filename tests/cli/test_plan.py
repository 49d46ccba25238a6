"""`edgewise plan`: the keys programs rely on, budgets in every unit, files that `check` and `report` find."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgewise.cli import plan as plan_command
from edgewise.cli.loops import write_loops
from edgewise.cli.words import against, arena_words, count_words, gap_words, limit_words
from edgewise.devices import Cost, load_device
from edgewise.graph import Graph, Op, Option, Stream, Value, load_graph, save_graph
from edgewise.plan import Budget, Compute, check, load_plan, minimum_ram, plain_plan
from edgewise.report.loops import Loop
from edgewise.report.units import seconds_text
from tests.cli.conftest import Run, tiny_graph, tiny_loops

PLAIN = 4000 + 4000 + 1000 + 1000 + 1000  # a, b, c, x and gb, while `back_c` runs

KEYS = {
    "status",
    "gap",
    "peak_bytes",
    "seconds",
    "joules",
    "solve_seconds",
    "recomputed",
    "paged_out",
    "ram_bytes",
    "plain_peak_bytes",
    "plain_seconds",
    "plain_joules",
}


def test_json_has_the_keys_that_programs_rely_on(run: Run, graph_file: Path) -> None:
    said = run("plan", graph_file, "--device", "rpi4", "--ram", "20KB", "--json")
    assert said.code == 0
    assert said.err == "", "quiet where stderr is no terminal"
    assert set(said.json) > KEYS
    assert said.json["ram_bytes"] == 20_000
    assert (said.json["status"], said.json["gap"]) == ("optimal", 0)
    assert said.json["recomputed"] == said.json["paged_out"] == []
    assert said.json["peak_bytes"] == said.json["plain_peak_bytes"] == PLAIN


def test_a_tight_budget_costs_something_and_is_kept(run: Run, graph_file: Path) -> None:
    found = run("plan", graph_file, "--device", "rpi4", "--ram", "0.95x", "--json").json
    assert found["ram_bytes"] == int(0.95 * PLAIN)
    assert found["certified_peak_bytes"] == found["peak_bytes"] <= found["ram_bytes"]
    assert found["recomputed"] or found["paged_out"]
    assert found["joules"] > found["plain_joules"]


def test_without_a_budget_it_is_all_of_the_devices_ram(run: Run, graph_file: Path) -> None:
    found = run("plan", graph_file, "--device", "nrf52840", "--json").json
    assert found["ram_bytes"] == 262_144


@pytest.mark.parametrize("minimize", ["joules", "seconds"])
@pytest.mark.parametrize("cost_model", ["full", "poet"])
def test_what_is_minimized_under_which_costs(
    minimize: str, cost_model: str, run: Run, graph_file: Path
) -> None:
    words = ("--minimize", minimize, "--cost-model", cost_model)
    found = run("plan", graph_file, "--device", "rpi4", "--ram", "0.95x", *words, "--json").json
    assert (found["minimize"], found["cost_model"]) == (minimize, cost_model)


def test_a_limit_of_time_is_kept(run: Run, graph_file: Path) -> None:
    words = ("plan", graph_file, "--device", "rpi4", "--ram", "0.95x", "--json")
    free = run(*words).json
    refused = run(*words, "--seconds", "1.001x")
    assert refused.code == 3
    assert refused.json["min_ram_bytes"] > free["peak_bytes"]
    assert run(*words, "--seconds", "2h").json["seconds"] == pytest.approx(free["seconds"])


def test_for_people_there_is_a_table(run: Run, graph_file: Path) -> None:
    said = run("plan", graph_file, "--device", "rpi4", "--ram", "10500")
    assert said.code == 0
    table = dict(line.split("  ", 1) for line in said.out.splitlines())
    assert list(table) == [
        "graph",
        "device",
        "plain training",
        "budget",
        "planned peak",
        "certified peak",
        "highest address",
        "plan",
        "quality",
        "time of a step",
        "energy of a step",
        "traffic",
    ]
    assert table["budget"].strip() == "10.3 KiB of RAM"
    assert "against plain" in table["energy of a step"]


def test_nothing_fits(run: Run, graph_file: Path) -> None:
    words = ("plan", graph_file, "--device", "rpi4", "--ram", "2KiB", "--json")
    said = run(*words)
    least = said.json["min_ram_bytes"]
    assert said.code == 3
    assert said.json["op"] in tiny_graph().op
    assert said.err.startswith("edgewise: No plan fits 2,048 B.")
    assert run(*words[:-2], least, "--json").code == 0
    assert run(*words[:-2], least - 1, "--json").code == 3


def test_least_ram(run: Run, graph_file: Path) -> None:
    expected = minimum_ram(tiny_graph(), load_device("rpi4"))
    words = ("plan", graph_file, "--device", "rpi4", "--min-ram")
    assert run(*words).out == f"{expected.ram_bytes}\n"
    assert run(*words, "--json").json == {
        "min_ram_bytes": expected.ram_bytes,
        "op": expected.op,
        "exact": expected.exact,
    }


def test_a_plan_is_written_with_its_graph_beside_it(run: Run, graph_file: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "p.json"
    said = run("plan", graph_file, "--device", "rpi4", "--ram", "0.95x", "-o", out)
    assert str(out) in said.out
    graph = load_graph(out.parent / "graph.json")
    assert graph == tiny_graph()
    plan = load_plan(out)
    assert check(plan, graph, load_device("rpi4")).peak_bytes == plan.peak_bytes


def test_a_second_plan_may_share_the_graph_but_not_replace_it(
    run: Run, graph_file: Path, tmp_path: Path
) -> None:
    words = ("--device", "rpi4", "-o")
    assert run("plan", graph_file, *words, "p.json").code == 0
    assert run("plan", graph_file, *words, "q.json").code == 0
    other = tmp_path / "other.json"
    save_graph(tiny_graph("other", 2000), other)
    said = run("plan", other, *words, "r.json")
    assert said.code == 2
    assert "graph.json is the graph of something else" in said.err
    assert "Write the plan into another folder" in said.err
    assert run("plan", other, *words, "p.json").code == 0, "planning anew over a plan replaces both"
    assert load_graph(tmp_path / "graph.json").name == "other"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--ram", "much"], 2, "`much` is not a size such as `256KiB`"),
        (["--seconds", "soon"], 2, "`soon` is not a time such as `200ms`"),
        (["--time-limit", "0"], 2, "`--time-limit 0` must be above zero seconds."),
        (["--time-limit", "nan"], 2, "must be above zero seconds."),
        (["--device", "zx81"], 2, "No device `zx81`."),
        (
            ["-o", "nowhere/p.json"],
            2,
            "Cannot write nowhere/p.json: there is no folder nowhere. Make it first.",
        ),
        (["-o", "graph.json"], 2, "graph.json is where the graph goes. Name the plan otherwise"),
        (["-o", "folder"], 2, "Cannot write"),
    ],
)
def test_what_cannot_be_done_is_said(
    words: list[str], code: int, said: str, run: Run, graph_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    found = run("plan", graph_file, *words)
    assert (found.code, found.out) == (code, "")
    assert said in found.err


@pytest.mark.parametrize(
    ("model", "code", "said"),
    [
        ("none.json", 2, "Cannot read the graph file none.json: No such file or directory. Check the path."),
        ("bad.json", 5, "bad.json is not a graph file"),
        ("none.toml", 2, "none.toml"),
        ("resnet19", 2, "Did you mean `resnet18`?"),
        ("mlp@x", 2, "`mlp@x` is no model. Write its batch size behind an `@`, as in `resnet18@4`"),
        ("@4", 2, "`@4` is no model."),
        ("mlp@0", 2, "Batch size 0"),
        ("mymodel:build", 2, "No module `mymodel`"),
    ],
)
def test_what_is_no_model(model: str, code: int, said: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    found = run("plan", model)
    assert found.code == code
    assert said in found.err


MODEL = """\
from torch import nn

def build():
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 2))

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x) * x.sum().item()

    def example_batch(self, batch):
        import torch
        return torch.ones(batch, 4), torch.zeros(batch, dtype=torch.int64)
"""


def test_a_model_of_your_own_in_this_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine_to_plan.py").write_text(MODEL)
    found: dict[str, Any] = run(
        "plan", "mine_to_plan:build@16x6", "--ram", "0.9x", "--json", "-o", "p.json"
    ).json
    assert found["peak_bytes"] <= found["ram_bytes"]
    inputs = [value.shape for value in load_graph(tmp_path / "graph.json").values if value.kind == "input"]
    assert (16, 6) in inputs
    unknown = run("plan", "mine_to_plan:build")
    assert unknown.code == 2
    assert "`mine_to_plan:build@8x3x32x32`" in unknown.err


def test_a_model_that_cannot_be_captured(run: Run, tmp_path: Path) -> None:
    (tmp_path / "odd_to_plan.py").write_text(MODEL)
    said = run("plan", "odd_to_plan:Odd@2", "--json")
    assert said.code == 4
    assert said.json["error"] == "ModelUnsupported"
    assert said.json["parts"]


def test_a_model_of_the_zoo_and_the_words_about_it(run: Run) -> None:
    said = run("plan", "mlp@2", "--ram", "0.9x")
    assert said.out.startswith("model")
    assert "SGD without momentum; name a recipe for another" in said.out


def test_a_recipe_decides_its_optimizer(run: Run) -> None:
    said = run("plan", "digits-mlp", "--ram", "0.9x", "--time-limit", "5")
    assert said.code == 0
    head = dict(line.split(None, 1) for line in said.out.splitlines()[:3])
    assert head["recipe"] == "digits-mlp"


def test_places_that_cannot_be_written(run: Run, graph_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plan_command, "save_graph", full)
    said = run("plan", graph_file, "-o", "p.json")
    assert said.code == 2
    assert said.err == "edgewise: Cannot write p.json: No space left on device. Choose another place.\n"


SUMS = """\
that of the unplanned step, but the sums of {} may be taken in another order, each within 1e-6 relative"""


class TestLoops:
    """Plans below what whole ops need say what runs in slices, and what that does to bits and to the card."""

    TIGHT = ("--device", "rpi4", "--ram", "3500")

    def test_json(self, run: Run, loops_file: Path) -> None:
        said = run("plan", loops_file, *self.TIGHT, "--json", "-o", "p.json")
        found, entries = said.json, said.json["streamed"]
        plan, graph = load_plan(Path("p.json")), load_graph(Path("graph.json"))
        steps = [step for step in plan.steps if isinstance(step, Compute) and step.option != "whole"]
        assert [entry["op"] for entry in entries] == [step.op for step in steps]
        assert [tuple(entry["values"]) for entry in entries] == [step.streamed for step in steps]
        assert {entry["option"] for entry in entries} == {"rows 8"}
        assert {entry["tiles"] for entry in entries} == {8}
        for entry in entries:
            assert entry["ram_bytes"] <= found["peak_bytes"] < entry["whole_bytes"]
            assert plan.steps[entry["step"]].op == entry["op"]
        moved = sum(entry["bytes_written"] + entry["bytes_read"] for entry in entries)
        paged = sum(graph.value[name].bytes for name in (*found["paged_out"], *found["paged_in"]))
        assert 0 < found["bytes_streamed"] == moved
        assert found["bytes_written"] + found["bytes_read"] == moved + paged

    @pytest.mark.parametrize(
        ("reordered", "words"),
        [
            ((), "bit for bit that of the unplanned step"),
            (
                ("back_c",),
                SUMS.format("1 op"),
            ),
            (
                ("back_c", "to_b"),
                SUMS.format("2 ops"),
            ),
        ],
    )
    def test_the_bits(self, reordered: tuple[str, ...], words: str, run: Run, tmp_path: Path) -> None:
        save_graph(tiny_loops(reordered=reordered), tmp_path / "bits.json")
        found = run("plan", "bits.json", *self.TIGHT, "--json").json
        assert found["exact"] is not bool(reordered)
        assert sorted(found["reordered"]) == sorted(reordered)
        assert f"result            {words}\n" in run("plan", "bits.json", *self.TIGHT).out

    def test_for_people(self, run: Run, loops_file: Path) -> None:
        lines = run("plan", loops_file, *self.TIGHT).out.splitlines()
        assert next(line for line in lines if line.startswith("plan  ")).endswith(", 5 ops streamed")
        traffic = next(line for line in lines if line.startswith("traffic"))
        assert re.search(
            r"  [\d.]+ KiB written to sd in a step, [\d.]+ KiB read; [\d.]+% of it in slices$", traffic
        )
        head = next(i for i, line in enumerate(lines) if line.startswith("ops run as loops"))
        assert lines[head].split("  ")[0] == "ops run as loops"
        assert len(lines) == head + 6
        row = next(line for line in lines if line.startswith("to_b"))
        assert re.match(r"to_b +rows 8 +a, b +1,000 B +7.81 KiB +9.77 KiB +[\d.]+%$", row)

    def test_many_are_cut_short(self, run: Run, loops_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edgewise.cli.loops.SHOWN", 3)
        out = run("plan", loops_file, *self.TIGHT).out
        assert re.search(r"\nand 2 loops more, [\d.]+% of the time; --json lists all\n$", out)
        assert len(run("plan", loops_file, *self.TIGHT, "--json").json["streamed"]) == 5

    @pytest.mark.parametrize(
        ("layer", "names", "shown"),
        [
            ("", ("a", "b"), "a, b"),
            ("body.1", ("body.1.weight", "body.1:conv", "body.12.weight"), "weight, conv, body.12.weight"),
            ("body", ("body", "bodyguard"), "body, bodyguard"),
            ("body", (), "nothing"),
            ("body", ("x" * 40,), "x" * 31 + "\N{HORIZONTAL ELLIPSIS}"),
        ],
    )
    def test_names_stand_without_the_layer(
        self, layer: str, names: tuple[str, ...], shown: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plan = plain_plan(tiny_graph(), load_device("rpi4"))
        cost = Cost(0.0, 0.0)
        op = Op(f"{layer}:op", layer=layer)
        loop = Loop(0, op, Option("rows 2", tiles=2), names, 1, 2, 3, 4, cost, cost)
        write_loops([loop], plan)
        rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()[1:]]
        assert [cell for cell in rows[1] if cell][2].strip() == shown

    def test_a_plan_without_them_says_nothing_of_them(self, run: Run, loops_file: Path) -> None:
        words = ("plan", loops_file, "--device", "rpi4", "--ram", "11000")
        found, said = run(*words, "--json").json, run(*words).out
        assert (found["streamed"], found["exact"], found["reordered"], found["bytes_streamed"]) == (
            [],
            True,
            [],
            0,
        )
        assert not [
            word for word in ("loop", "stream", "result", "traffic") if word in said.replace("loops.json", "")
        ]

    def test_what_pages_says_how_much(self, run: Run, graph_file: Path) -> None:
        said = run("plan", graph_file, "--device", "rpi4", "--ram", "8KB").out
        assert re.search(r"\ntraffic +1,000 B written to sd in a step, 1,000 B read\n", said)

    def test_a_device_that_cannot_stream_needs_them_whole(
        self, run: Run, loops_file: Path, diskless: Path
    ) -> None:
        said = run("plan", loops_file, "--device", diskless, "--ram", "3500")
        assert said.code == 3
        assert "No plan fits 3,500 B." in said.err

    def test_nothing_fits(self, run: Run, loops_file: Path) -> None:
        said = run("plan", loops_file, "--device", "rpi4", "--ram", "500", "--json")
        least, op = said.json["min_ram_bytes"], said.json["op"]
        assert said.code == 3
        assert f"Least budget: {least:,} B; op `{op}`" in said.err
        assert run("plan", loops_file, "--device", "rpi4", "--ram", least).code == 0


@pytest.mark.parametrize(("size", "even"), [(10, False), (1, True)])
def test_the_op_that_sets_the_least_ram_may_be_a_loop(
    size: int, even: bool, run: Run, tmp_path: Path
) -> None:
    """`f` streams `y` in slices of a tenth; `x` is there whole from the start."""
    loop = Option("rows 10", workspace_bytes=100, streams=(Stream("y", 0, 1000, 10),), tiles=10)
    values = (Value("x", size, "input"), Value("y", 1000), Value("z", 4))
    last = Option("sum 10", streams=(Stream("y", 10, 1000, 10),), tiles=10)
    ops = (
        Op("f", ("x",), ("y",), flops=8, options=(Option("whole"), loop), layer="body"),
        Op("g", ("y",), ("z",), flops=8, options=(Option("whole"), last) if even else (Option("whole"),)),
    )
    save_graph(Graph("least", values, ops, ("z",)), tmp_path / "least.json")
    said = run("plan", "least.json", "--device", "rpi4", "--ram", "50")
    words = "op `f` of layer `body` sets it, even in slices (`rows 10`)" if even else "op `g` sets it"
    assert f"; {words}. Try `--ram " in said.err


def test_words() -> None:
    assert against(1.1, 1.0, seconds_text) == "1.1 s, +10% against plain"
    assert against(1.0, 1.0, seconds_text) == "1 s, the same as plain training"
    assert against(1.0, 0.0, seconds_text) == "1 s"
    assert limit_words(Budget(5)) == ""
    assert limit_words(Budget(5, 0.2, 3.0, 2048)) == ", 200 ms a step, 3 J a step, 2 KiB written"
    assert gap_words("optimal", 0.0) == "optimal"
    assert gap_words("feasible", 0.05) == "feasible; a better plan saves at most 5% of the overhead"
    plain = plain_plan(tiny_graph(), load_device("rpi4"))
    found = check(plain, tiny_graph(), load_device("rpi4"))
    found = msgspec.structs.replace(found, arena_bytes=11_001)
    assert arena_words(plain, found) == "11,001 B, above the budget"
    assert arena_words(plain, msgspec.structs.replace(found, arena_bytes=11_000)) == "11,000 B"
    words = count_words(plain)
    assert words == "7 of 7 values kept, 0 ops recomputed, 0 values paged out, 0 page-ins"
    steps = tuple(
        Compute(step.op, "rows 8", ("b",)) if step == Compute("to_b") else step for step in plain.steps
    )
    addresses = {name: stays for name, stays in plain.addresses.items() if name != "b"}
    streamed = msgspec.structs.replace(plain, steps=steps, addresses=addresses)
    assert count_words(streamed) == words.replace("7 of", "6 of") + ", 1 op streamed"
