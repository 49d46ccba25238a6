"""The page: every section the data allow, only figures that were computed, and text of others as text."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.devices import Device, load_device
from edgewise.graph import Graph, Option, Value
from edgewise.plan import Budget, Plan, make_plan, plain_plan, replay
from edgewise.plan.schedule import plain_order
from edgewise.report import ReportData, load_report, render_report
from edgewise.report.curves import loss_curve
from edgewise.report.frame import POLICY
from edgewise.report.timeline import plain_is_far
from edgewise.report.trace import plain_steps
from edgewise.report.units import bytes_text, exact_bytes, joules_text, percent, seconds_text
from edgewise.train import EpochLine, StepLine
from tests.report.inputs import BOARD, Page, graph_of, plan_at_random, plan_in_slices, write_plan, write_run
from tests.support import looped, plan_of

OF_A_PLAN = ("Memory, step by step", "Energy and time", "RAM by category", "Addresses", "Device: ", "Files")
OF_A_RUN = ("Training", "The run", "Recipe", "Environment")
HOSTILE = "</script><script>alert(1)</script><img src=http://127.0.0.1/x onerror=alert(2)>\"'&\u202e`"


def replaced(data: ReportData, **fields: object) -> Page:
    return Page(render_report(msgspec.structs.replace(data, **fields)))


@pytest.fixture(scope="module")
def page(run_data: ReportData) -> Page:
    return Page(render_report(run_data))


class TestSections:
    """What the data allow is there, and nothing else."""

    @pytest.mark.parametrize("title", [*OF_A_PLAN, *OF_A_RUN, "What did not stay in RAM"])
    def test_a_run_has_all(self, page: Page, title: str) -> None:
        assert title in page.text

    def test_a_plan_has_none_of_a_run(self, tmp_path: Path, graph: Graph, plan: Plan) -> None:
        page = Page(render_report(load_report(write_plan(tmp_path, graph, plan))))

        assert all(title in page.text for title in OF_A_PLAN)
        assert not any(title in page.text for title in OF_A_RUN)
        assert "not run measured" in page.text
        assert "Test accuracy" not in page.text

    @pytest.mark.parametrize(
        ("name", "gone"),
        [
            ("metrics.jsonl", ("Training ", "Test accuracy")),
            ("memory.json", ("The solid line",)),
            ("recipe.toml", ("Recipe",)),
            ("environment.json", ("Linux for tests",)),
        ],
    )
    def test_a_run_without(self, run_dir: Path, name: str, gone: tuple[str, ...]) -> None:
        (run_dir / name).unlink()
        page = Page(render_report(load_report(run_dir)))

        assert not [text for text in gone if f" {text}" in page.text.replace("training", "")]

    def test_a_plan_that_does_nothing_special(self, tmp_path: Path, graph: Graph) -> None:
        plan = plan_of(plain_order(graph), graph, BOARD)
        page = Page(render_report(load_report(write_plan(tmp_path, graph, plan))))

        assert "as plain training does; the budget is" in page.text
        assert "Every value stays in RAM until its last use." in page.text
        assert "recompute" not in page.text.replace("recomputation", "").replace("recomputed", "")

    def test_a_graph_without_a_backward_pass(self, tmp_path: Path, graph: Graph) -> None:
        forward = Graph("forward", graph.values[:6], graph.ops[:2], ("h1",))
        values = tuple(v for v in graph.values if v.name in {"x", "w1", "a1", "h1"})
        forward = Graph("forward", values, forward.ops, ("h1",))
        page = Page(
            render_report(
                load_report(write_plan(tmp_path, forward, plan_of(plain_order(forward), forward, BOARD)))
            )
        )

        assert "backward" not in page.text

    def test_a_graph_without_ops(self, tmp_path: Path) -> None:
        empty = Graph("empty", (), (), ())
        page = Page(render_report(load_report(write_plan(tmp_path, empty, plan_of((), empty, BOARD)))))

        assert "The plan has no steps." in page.text


class TestFigures:
    """The numbers are the certificate's and the run's."""

    def test_the_headline(self, page: Page, run_data: ReportData) -> None:
        found, plain = run_data.certificate, run_data.plain
        peak = bytes_text(found.peak_bytes)
        for text in (
            f"Plain training needs {bytes_text(plain.peak_bytes)} {exact_bytes(plain.peak_bytes)}",
            f"Budget {bytes_text(run_data.plan.budget.ram_bytes)}",
            f"{peak} planned {peak} certified {peak} measured",
            (
                f"{percent(found.joules / plain.joules - 1, signed=True)} {joules_text(found.joules)}; plain "
                f"{joules_text(plain.joules)}"
            ),
            (
                f"{percent(found.seconds / plain.seconds - 1, signed=True)} {seconds_text(found.seconds)}; "
                f"plain {seconds_text(plain.seconds)}"
            ),
            "9.75% \N{RIGHTWARDS ARROW} 96.2% before training, and after epoch 1",
            (
                f"{len(found.recomputed)} recomputations, {len(found.paged_out)} page-outs, "
                f"{len(found.paged_in)} page-ins; a better one saves at most 25% of the extra energy"
            ),
        ):
            assert text in page.text

    def test_the_run(self, page: Page) -> None:
        assert "A step took 12.5 ms on this machine (median of 30)." in page.text
        assert "Within a step, the high-water mark of the process rose by 76 KiB at most." in page.text

    def test_an_arena_above_the_budget_is_told(self, run_data: ReportData) -> None:
        budget = run_data.plan.budget.ram_bytes
        found = msgspec.structs.replace(run_data.certificate, arena_bytes=budget + 2048)

        assert "So it is 2 KiB larger than the budget" in replaced(run_data, certificate=found).text
        assert "larger than the budget" not in replaced(run_data).text

    def test_digests(self, page: Page, run_data: ReportData) -> None:
        assert all(digest.sha256 in page.text for digest in run_data.digests)

    def test_sources_of_the_device(self, page: Page) -> None:
        assert all(" ".join(text.split()) in page.text for text in BOARD.sources.values())
        assert all(f"assumed: {text}" in page.text for text in BOARD.assumed.values())
        assert "6.37 Mflop/s" in page.text
        assert f"{joules_text(BOARD.compute.joules_per_flop)}/flop" in page.text

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"status": "optimal", "gap": 0.0}, "no plan has less extra energy"),
            ({"gap": 0.008}, "a better one saves at most 0.80% of the extra energy"),
            ({"gap": 1.0, "minimize": "seconds"}, "how much extra time a better one would save is not known"),
            ({"cost_model": "poet"}, "Paging takes no time in this cost model."),
        ],
    )
    def test_how_good_the_plan_is(self, run_data: ReportData, changes: dict[str, object], text: str) -> None:
        assert text in replaced(run_data, plan=msgspec.structs.replace(run_data.plan, **changes)).text

    def test_a_measurement_above_the_budget_is_not_hidden(self, run_data: ReportData) -> None:
        steps = (StepLine(1, 1, 0.5, 0.1, run_data.plan.budget.ram_bytes + 1),)

        assert "measured, above the budget" in replaced(run_data, steps=steps).text

    def test_a_measurement_off_the_plan_is_told(self, run_data: ReportData) -> None:
        memory = msgspec.structs.replace(run_data.memory_file, live_bytes=(1,) * len(run_data.plan.steps))
        steps = (StepLine(1, 1, 0.5, 0.1, run_data.plan.peak_bytes * 9 // 10),)

        assert "measured, \N{MINUS SIGN}10" in replaced(run_data, steps=steps, memory_file=memory).text

    def test_targets_that_are_numbers(self, run_data: ReportData) -> None:
        epochs = (EpochLine(0, test_mse=4.25), EpochLine(1, 0.5, test_mse=0.125))
        page = replaced(run_data, epochs=epochs)

        assert "Test mean squared error 4.25 \N{RIGHTWARDS ARROW} 0.125" in page.text
        assert "Test mean squared error of each epoch" in page.text

    def test_one_epoch_only(self, run_data: ReportData) -> None:
        assert "Test accuracy 50% after epoch 3" in replaced(run_data, epochs=(EpochLine(3, None, 0.5),)).text


class TestChoiceWords:
    """The words above the table of what did not stay in RAM."""

    def words(self, tmp_path: Path, device: Device) -> str:
        graph = graph_of(3)
        ops = list(graph.ops)
        ops[0] = msgspec.structs.replace(ops[0], outputs=("a1", "b1"))
        ops[-2] = msgspec.structs.replace(ops[-2], inputs=(*ops[-2].inputs, "b1"))
        graph = Graph(graph.name, (*graph.values, Value("b1", 8)), tuple(ops), graph.outputs)
        plan = plan_at_random(graph, forget=1.0, page=0.0, device=device)
        return Page(render_report(load_report(write_plan(tmp_path, graph, plan), device))).text

    def test_outputs_of_one_op(self, tmp_path: Path) -> None:
        assert "Outputs of one op are recomputed together, for one price." in self.words(tmp_path, BOARD)

    def test_transfers_beside_compute(self, tmp_path: Path) -> None:
        assert load_device("host").overlaps
        assert "Transfers run beside compute: not all" in self.words(tmp_path, load_device("host"))
        assert "Transfers run beside compute" not in self.words(tmp_path, BOARD)

    def test_a_way_that_looks_dearer(self, tmp_path: Path) -> None:
        tier = msgspec.structs.replace(BOARD.memory.sd, watts=1e-6)
        device = msgspec.structs.replace(BOARD, memory=msgspec.structs.replace(BOARD.memory, sd=tier))

        assert "the other way costs less by itself. Values share operands" in self.words(tmp_path, device)
        assert "this plan is not proven to be the best" in self.words(tmp_path, device)


@pytest.fixture(scope="module")
def loop_text(loop_data: ReportData) -> str:
    return Page(render_report(loop_data)).text


class TestLoops:
    """A plan that streams says so wherever it matters; one that does not says nothing of it."""

    def test_the_head(self, loop_text: str, loop_data: ReportData) -> None:
        found = loop_data.certificate
        ops = len(set(found.streamed))
        for words in (
            f"page-ins, {ops} ops in slices; ",
            f"Written to sd in a step {bytes_text(found.bytes_written)} {exact_bytes(found.bytes_written)}; ",
            f"{bytes_text(found.bytes_read)} read; ",
            "Its result is that of the unplanned step, but the sums of 1 op may be taken in",
        ):
            assert words in loop_text

    def test_the_share_in_slices(self, loop_text: str, loop_data: ReportData) -> None:
        found, size = loop_data.certificate, {value.name: value.bytes for value in loop_data.graph.values}
        paged = sum(size[name] for name in (*found.paged_in, *found.paged_out))
        share = 1 - paged / (found.bytes_written + found.bytes_read)

        assert f"; {percent(share)} of both in slices" in loop_text

    def test_the_section(self, loop_text: str, loop_data: ReportData) -> None:
        ops = len(set(loop_data.certificate.streamed))

        assert (
            f"Ops that ran as loops {ops} of {len(loop_data.graph.ops)} ops run slice by slice: " in loop_text
        )
        assert "8 slices; sums reordered" in loop_text

    def test_the_other_sections(self, loop_text: str) -> None:
        assert "What is streamed is never whole in RAM: an op moves it in slices." in loop_text
        assert re.search(r" \d+ values? of \S+ KiB (are|is) never in RAM and ha(ve|s) none\.", loop_text)
        assert re.search(r"Planned: compute, first time [^.]*, streaming ", loop_text)
        assert "tiles and workspace of loops" in loop_text
        assert " in slices " in loop_text

    @pytest.mark.parametrize(("limit", "words"), [(None, "; "), (1 << 20, " of 1 MiB allowed; ")])
    def test_a_limit_of_what_is_written(self, limit: int | None, words: str, loop_data: ReportData) -> None:
        budget = msgspec.structs.replace(loop_data.plan.budget, written_bytes=limit)
        plan = msgspec.structs.replace(loop_data.plan, budget=budget)

        assert (
            f"{exact_bytes(loop_data.certificate.bytes_written)}{words}"
            in replaced(loop_data, plan=plan).text
        )

    def test_where_the_bits_are_the_same(self, tmp_path: Path, graph: Graph) -> None:
        loops = looped(graph)
        page = Page(render_report(load_report(write_plan(tmp_path, loops, plan_in_slices(loops)))))

        assert "Its result is bit for bit that of the unplanned step." in page.text
        assert "another order" not in page.text

    def test_tooltips(self, loop_data: ReportData) -> None:
        html = render_report(loop_data)
        tip = r"compute backward2\\nin 8 slices: rows 8\\nstreams [^\\]+\\n  "
        tip += r"\S+ KiB read, \S+ K?i?B written\\n  "

        assert re.search(tip + r"\S+ ms of transfers, then \S+ m?s of compute, in turn\\n", html)

    @pytest.mark.parametrize("share", [0.6, 0.9])
    def test_a_plan_without_them(self, share: float, tmp_path: Path, loop_graph: Graph) -> None:
        plan = plan_at_random(loop_graph, forget=share, page=0.5)
        text = Page(render_report(load_report(write_plan(tmp_path, loop_graph, plan)))).text

        words = ("loop", "slice", "stream", "bit for bit", "tiles", "never in RAM")
        assert [word for word in words if word in text.replace("never whole", "")] == []

    def test_names_of_others(self, tmp_path: Path) -> None:
        graph = looped(_renamed(graph_of(3, name=HOSTILE, layer=HOSTILE), HOSTILE))
        named = tuple(
            msgspec.structs.replace(op, options=tuple(_hostile(option) for option in op.options))
            for op in graph.ops
        )
        graph = msgspec.structs.replace(graph, ops=named)
        page = Page(render_report(load_report(write_plan(tmp_path, graph, plan_in_slices(graph)))))

        assert page.named("img") == []
        assert "Ops that ran as loops" in page.text
        assert [attributes.get("type") for attributes in page.named("script")].count(None) == 1


def _hostile(option: Option) -> Option:
    return msgspec.structs.replace(option, name=HOSTILE) if option.is_tiled else option


class TestFarBelow:
    """Where a plan needs a small part of plain training's RAM, the chart is of the plan."""

    @pytest.mark.parametrize(("share", "far"), [(0.5, False), (0.3, False), (0.15, True)])
    def test_the_chart(self, share: float, far: bool, tmp_path: Path, loop_graph: Graph) -> None:
        plan = plan_in_slices(loop_graph, share)
        data = load_report(write_plan(tmp_path, loop_graph, plan))
        page = Page(render_report(data))
        times = f"{data.plain.peak_bytes / plan.peak_bytes:,.0f}"

        assert plain_is_far(data) is far
        assert (f"plain training {bytes_text(data.plain.peak_bytes)}, above this chart" in page.text) is far
        assert (f"needs {times} times as much at its peak, far above this chart." in page.text) is far
        assert ("The dashed line is what plain training holds" in page.text) is not far

    def test_the_bars(self, tmp_path: Path, loop_graph: Graph) -> None:
        for share, enlarged in ((0.5, False), (0.099, True)):
            plan = plan_in_slices(loop_graph, share)
            data = load_report(write_plan(tmp_path, loop_graph, plan))
            times = f"planned, \N{MULTIPLICATION SIGN}{data.plain.peak_bytes / plan.peak_bytes:,.0f} "

            assert (times in Page(render_report(data)).text) is enlarged


def test_what_the_planner_makes(tmp_path: Path, graph: Graph) -> None:
    budget = Budget(plain_plan(graph, BOARD).peak_bytes * 7 // 10)
    plan = make_plan(graph, BOARD, budget, time_limit=10)
    text = Page(render_report(load_report(write_plan(tmp_path, graph, plan)))).text

    assert f"within a budget of {bytes_text(budget.ram_bytes)}" in text
    assert f"found by the solver {plan.solver} for the least joules" in text


class TestLoss:
    """Losses that are no numbers."""

    def test_some(self, run_data: ReportData) -> None:
        steps = (StepLine(1, 1, 2.0), StepLine(2, 1, None), StepLine(3, 1, 1.0))

        assert "1 step had a loss that is no number, and is left out." in replaced(run_data, steps=steps).text

    def test_all(self, run_data: ReportData) -> None:
        page = replaced(run_data, steps=(StepLine(1, 1, None), StepLine(2, 1, None)))

        assert "None of 2 steps had a loss that is a number: training diverged." in page.text

    @given(losses=st.lists(st.none() | st.floats(-1e300, 1e300), min_size=1, max_size=30))
    @settings(max_examples=30, deadline=None)
    def test_any(self, run_data: ReportData, losses: list[float | None]) -> None:
        steps = tuple(StepLine(number, 1, loss) for number, loss in enumerate(losses))
        curve = loss_curve(msgspec.structs.replace(run_data, steps=steps))

        assert Page(curve).tags
        assert not re.search(r"[\"ML ](nan|-?inf)\b", curve)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    graph = _renamed(graph_of(3, name=HOSTILE, layer=HOSTILE), HOSTILE)
    folder = write_run(tmp_path_factory.mktemp("hostile") / "run", graph, plan_at_random(graph))
    (folder / "recipe.toml").write_text(HOSTILE)
    html = render_report(load_report(folder))
    return html, Page(html)


class TestOthersText:
    """Names, paths and texts of others stay text."""

    def test_there_is_no_element_of_theirs(self, hostile: tuple[str, Page]) -> None:
        _, page = hostile

        assert page.named("img") == []
        assert [attributes.get("type") for attributes in page.named("script")].count(None) == 1
        assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
        assert "alert(1)" in page.text

    def test_tooltips_cannot_end_their_element(self, hostile: tuple[str, Page]) -> None:
        html, _ = hostile
        tips = re.findall(r'<script type="application/json" class="tips">(.*?)</script>', html, re.DOTALL)

        assert len(tips) == 4
        assert not [text for text in tips if "<" in text]

    def test_a_mark_of_direction_is_spelt_out(self, hostile: tuple[str, Page]) -> None:
        assert "\u202e" not in hostile[0]

    def test_nothing_is_loaded(self, hostile: tuple[str, Page], page: Page) -> None:
        for found in (hostile[1], page):
            loading = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}
            assert not [key for _, attributes in found.tags for key in attributes if key in loading]
            style = next(iter(re.findall(r"<style>(.*?)</style>", hostile[0], re.DOTALL)))
            assert "url(" not in style
            assert "@import" not in style

    def test_the_policy_allows_one_script_and_no_request(self, page: Page) -> None:
        metas = [m for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]

        assert [meta["content"] for meta in metas] == [POLICY]
        assert POLICY.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")

    def test_a_very_long_name_is_cut(self, tmp_path: Path) -> None:
        graph = _renamed(graph_of(3, layer="y" * 100_000), "x" * 10_000)
        html = render_report(load_report(write_plan(tmp_path, graph, plan_at_random(graph))))

        assert "x" * 97 not in html
        assert len(html) < 200_000


def _renamed(graph: Graph, prefix: str) -> Graph:
    """`graph` with `prefix` before every name."""

    def names(found: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(prefix + name for name in found)

    def pairs(found: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        return tuple((prefix + old, prefix + new) for old, new in found)

    values = tuple(msgspec.structs.replace(v, name=prefix + v.name) for v in graph.values)
    ops = tuple(
        msgspec.structs.replace(
            op,
            name=prefix + op.name,
            inputs=names(op.inputs),
            outputs=names(op.outputs),
            updates=pairs(op.updates),
            options=tuple(msgspec.structs.replace(o, overwrites=pairs(o.overwrites)) for o in op.options),
        )
        for op in graph.ops
    )
    return Graph(graph.name, values, ops, names(graph.outputs))


class TestAccess:
    """Those who cannot see the charts are told what is in them."""

    def test_every_chart_has_a_title_and_a_description(self, page: Page) -> None:
        plots = [a for a in page.named("svg") if a.get("class") == "plot"]
        ids = [a["id"] for _, a in page.tags if "id" in a]

        assert len(plots) == 4
        assert len(ids) == len(set(ids))
        for plot in plots:
            assert plot["role"] == "img"
            assert set((plot["aria-labelledby"] or "").split()) <= set(ids)

    def test_tables_have_heads(self, page: Page) -> None:
        assert all(cell.get("scope") in ("col", "row") for cell in page.named("th"))

    def test_the_language_and_the_title_are_stated(self, page: Page) -> None:
        assert page.named("html") == [{"lang": "en"}]
        assert page.text.startswith("net on nrf52840")


@pytest.fixture(scope="module")
def large() -> tuple[str, Plan]:
    graph = graph_of(200)
    plan = plan_at_random(graph, forget=0.1, page=0.5)
    certificate = replay(plan.steps, graph, BOARD, homes=plan.homes)
    plain = replay(plain_steps(graph), graph, BOARD)
    assert len(plan.steps) > 2000
    data = ReportData(Path("plan.json"), graph, BOARD, plan, certificate, plain, is_run=True)
    steps = tuple(StepLine(n, 1, 1 / n) for n in range(1, 20_001))
    return render_report(msgspec.structs.replace(data, steps=steps)), plan


class TestLarge:
    """Graphs of thousands of steps still give a page that a browser likes."""

    def test_it_is_small(self, large: tuple[str, Plan]) -> None:
        assert len(large[0].encode()) < 2_000_000

    def test_what_is_left_out_is_told(self, large: tuple[str, Plan]) -> None:
        html, _ = large
        text = Page(html).text
        listed = len(re.findall(r'<span class="badge', html))
        total = int(re.search(r"(\d+) values left RAM before", text)[1])

        assert listed == min(400, total)
        assert total <= 400 or f"Not listed: {total - 400} values more" in text

    def test_the_peak_survives_thinning(self, large: tuple[str, Plan]) -> None:
        html, plan = large

        assert f"planned {bytes_text(plan.peak_bytes)}" in html
