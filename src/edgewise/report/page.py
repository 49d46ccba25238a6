"""The page: every section that the data have something to say in, in one file that needs nothing else."""

from collections import Counter
from statistics import median

from edgewise import __version__
from edgewise.report.address_map import address_map
from edgewise.report.bars import bars
from edgewise.report.breakdown import break_down
from edgewise.report.categories import categories
from edgewise.report.choices import Choice, choices
from edgewise.report.curves import epoch_curve, loss_curve
from edgewise.report.frame import document, section
from edgewise.report.headline import head
from edgewise.report.loops import Loop, exact_words
from edgewise.report.nouns import ReportData
from edgewise.report.svg import Markup, join, tag
from edgewise.report.tables import (
    choice_table,
    device_table,
    environment_table,
    file_table,
    loop_table,
    recipe_text,
)
from edgewise.report.timeline import plain_is_far, timeline
from edgewise.report.trace import trace
from edgewise.report.trade_off import trade_off_curve, trade_off_words
from edgewise.report.units import bytes_text, clipped, percent, plural, seconds_text


def render_report(data: ReportData) -> str:
    """`data` as one HTML page that loads nothing, runs no script but its own, and can be read without it."""
    followed = trace(data.plan, data.graph, data.device)
    found = tuple(moment.loop for moment in followed.moments if moment.loop is not None)
    breakdown = break_down(data, followed)
    body = [
        head(data, breakdown, found),
        section("Memory, step by step", _timeline_words(data), timeline(data, followed)),
        _choices(data, choices(data, followed)),
        _loops(data, found),
        section("Energy and time", _price_words(data), bars(breakdown)),
        section("What more or less RAM would cost", trade_off_words(data), trade_off_curve(data)),
        section("RAM by category", "At the step that holds most, in either way.", categories(data, followed)),
        section("Addresses", _address_words(data, found), address_map(data, followed)),
        _learning(data),
        _run(data),
        _device(data),
        section("Files", "What this page was made from.", file_table(data)),
        tag("footer", f"Made by Edgewise {__version__}."),
    ]
    return document(f"{clipped(data.graph.name)} on {clipped(data.device.name)}", join(body))


def _timeline_words(data: ReportData) -> str:
    measured = " The solid line is what the run was measured to hold." if data.memory else ""
    line = "The dashed line is what plain training holds when it has come equally far."
    if plain_is_far(data):
        times = f"{data.plain.peak_bytes / max(data.certificate.peak_bytes, 1):,.0f}"
        line = f"Plain training needs {times} times as much at its peak, far above this chart."
    return (
        f"What the plan holds in RAM during each of its {plural(len(data.plan.steps), 'step')}, by kind."
        f"{measured} {line}"
    )


def _choices(data: ReportData, found: tuple[Choice, ...]) -> Markup:
    title = "What did not stay in RAM, and why it paid"
    if not found:
        return section(title, "", tag("p", "Every value stays in RAM until its last use."))
    tier = data.device.memory.paging
    table = choice_table(found, tier[0] if tier else "")
    note = _dearer_note(data, sum(choice.looks_dearer for choice in found))
    return section(title, _choice_words(data, found), table, note)


def _loops(data: ReportData, found: tuple[Loop, ...]) -> Markup:
    if not found:
        return Markup("")
    return section("Ops that ran as loops", _loop_words(data, found), loop_table(found, data.plan))


def _loop_words(data: ReportData, found: tuple[Loop, ...]) -> str:
    names = len({loop.op.name for loop in found})
    again = f", {len(found):,} times together" if len(found) > names else ""
    verb = "runs" if names == 1 else "run"
    return (
        f"{names:,} of {plural(len(data.graph.ops), 'op')} {verb} slice by slice{again}: what an op streams "
        "is in the slower tier, and only a tile of it in RAM. A slice is moved, then computed; one waits for "
        'the other. "RAM" is what the op needs so, "RAM if whole" what it would need by its best option that '
        "is no loop, beside nothing else in either way. The result of the step is "
        f"{exact_words(data.plan, data.graph)}."
    )


def _choice_words(data: ReportData, found: tuple[Choice, ...]) -> str:
    tier = data.device.memory.paging
    where = f" or read from {tier[0]}" if tier else ""
    streams = any(choice.streams for choice in found)
    slices = " What is streamed is never whole in RAM: an op moves it in slices." if streams else ""
    overlap = " Transfers run beside compute: not all their time adds to the step."
    again = (choice.value for choice in found if choice.how.startswith("recomputed"))
    makers = Counter(op.name for value in again if (op := data.graph.producer.get(value)))
    shared = " Outputs of one op are recomputed together, for one price."
    notes = (
        slices,
        shared if max(makers.values(), default=0) > 1 else "",
        overlap if data.device.overlaps else "",
    )
    return (
        f"{plural(len(found), 'value')} left RAM before the last use, or were not there from the start, to "
        f'be recomputed{where} when needed. "RAM if kept" is what the fullest of the steps in between would '
        f"need with the value. Prices are those of {clipped(data.device.name)}, for all times together; the "
        f"largest saving, bytes times time, stands first.{''.join(notes)}"
    )


def _dearer_note(data: ReportData, dearer: int) -> Markup:
    """What to make of rows in which the other way has the lower price."""
    if not dearer:
        return Markup("")
    proof = (
        "which no plan does better"
        if data.plan.status == "optimal"
        else "and this plan is not proven to be the best, so some of these may not pay"
    )
    text = (
        f"For {plural(dearer, 'value')} the other way costs less by itself. Values share operands and room, "
        f"so a planner weighs all of them at once, {proof}."
    )
    return tag("p", text, class_="note")


def _price_words(data: ReportData) -> str:
    free = " Paging takes no time in this cost model." if data.plan.cost_model == "poet" else ""
    return (
        f"One training step on {clipped(data.device.name)}, predicted from its profile, against plain "
        f"training: the same ops, each once, on a device with RAM enough.{free}"
    )


def _address_words(data: ReportData, found: tuple[Loop, ...]) -> str:
    arena, peak = data.certificate.arena_bytes, data.certificate.peak_bytes
    budget = data.plan.budget.ram_bytes
    waste = "No byte is lost to gaps."
    if 0 < peak < arena:
        waste = f"Gaps between values cost {percent(arena / peak - 1)} above the peak."
    if arena > budget:
        waste += (
            f" So it is {bytes_text(arena - budget)} larger than the budget, which counts the values: "
            "PyTorch places them itself, but a device that needs one arena would need that much more."
        )
    return (
        f"One arena of {bytes_text(arena)}: each rectangle is a value, as high as its bytes, as wide as its "
        f"stay, or what an op works in for one step. {waste}{_unplaced_words(data, found)}"
    )


def _unplaced_words(data: ReportData, found: tuple[Loop, ...]) -> str:
    """What has no address: values that are never in RAM."""
    streamed = {name for loop in found for name in loop.streamed}.difference(data.plan.addresses)
    if not streamed:
        return ""
    size = bytes_text(sum(data.graph.value[name].bytes for name in streamed))
    verb = "is never in RAM and has none" if len(streamed) == 1 else "are never in RAM and have none"
    return f" {plural(len(streamed), 'value')} of {size} {verb}."


def _learning(data: ReportData) -> Markup:
    loss, epochs = loss_curve(data), epoch_curve(data)
    what = "Accuracy" if data.accuracies else "Error"
    parts = [
        tag("div", tag("h3", title), chart) for title, chart in (("Loss", loss), (what, epochs)) if chart
    ]
    return section("Training", "", tag("div", *parts, class_="pair") if parts else "")


def _run(data: ReportData) -> Markup:
    """Where and how the run took place."""
    if not data.is_run:
        return Markup("")
    recipe, environment = recipe_text(data), join((_facts(data), environment_table(data)))
    parts = [
        tag("div", tag("h3", title), content)
        for title, content in (("Recipe", recipe), ("Environment", environment))
        if content
    ]
    return section("The run", "", tag("div", *parts, class_="pair") if parts else "")


def _facts(data: ReportData) -> Markup:
    """What was measured on the machine that ran the plan, as opposed to predicted for the device."""
    facts = []
    seconds = [line.seconds for line in data.steps if line.seconds is not None]
    if seconds:
        facts.append(
            f"A step took {seconds_text(median(seconds))} on this machine (median of {len(seconds):,})."
        )
    if data.process_bytes is not None:
        rise = bytes_text(data.process_bytes)
        facts.append(f"Within a step, the high-water mark of the process rose by {rise} at most.")
    summary = data.summary
    if summary is not None:
        facts.append(f"Training and evaluation took {seconds_text(summary.training_seconds)}.")
        if summary.evaluation_peak_bytes is not None:
            facts.append(f"Evaluation held {bytes_text(summary.evaluation_peak_bytes)} at most.")
        if summary.interrupted:
            facts.append("The run was interrupted, and can be resumed.")
    return tag("p", " ".join(facts)) if facts else Markup("")


def _device(data: ReportData) -> Markup:
    device = data.device
    count = len(device.assumed)
    assumed = f" Of its figures, {count:,} {'is' if count == 1 else 'are'} assumed." if count else ""
    about = f"{clipped(device.description, 400)}.{assumed}"
    return section(f"Device: {clipped(device.name)}", about, device_table(data))
