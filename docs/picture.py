"""The picture in the README: RAM op by op, plain and planned, from the run of the demo (`make picture`)."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgewise.graph import Graph
from edgewise.plan import Compute, Step
from edgewise.plan.schedule import lay_out, plain_order
from edgewise.report import ReportData, load_report
from edgewise.report.svg import Markup, tag
from edgewise.report.units import bytes_text, percent

DOCS = Path(__file__).parent
WIDTH, HEIGHT = 860, 380
LEFT, RIGHT, TOP, BOTTOM = 78, 24, 64, 48
GREY, BLUE, INK, RED = "#c9ced6", "#3b7dd8", "#1f2933", "#c0392b"


def by_op(steps: Sequence[Step], ram_bytes: Sequence[int], graph: Graph) -> list[int]:
    """For each op of the graph, the most RAM from the end of the op before it to its own end."""
    position = {op.name: number for number, op in enumerate(graph.ops)}
    peaks, now, at = [0] * len(graph.ops), 0, 0
    for step, size in zip(steps, ram_bytes, strict=True):
        now = max(now, size)
        if isinstance(step, Compute) and position[step.op] == at:
            peaks[at], now, at = now, 0, at + 1
    return peaks


class Scale:
    """From op numbers and bytes to the drawing."""

    def __init__(self, count: int, top_bytes: int) -> None:
        self.dx = (WIDTH - LEFT - RIGHT) / count
        self.dy = (HEIGHT - TOP - BOTTOM) / top_bytes

    def y(self, size: float) -> float:
        return HEIGHT - BOTTOM - size * self.dy

    def path(self, sizes: Iterable[int]) -> str:
        """A line that stands at each size for the width of an op."""
        return "M" + "L".join(
            f"{LEFT + (i + end) * self.dx:.1f} {self.y(size):.1f}"
            for i, size in enumerate(sizes)
            for end in (0, 1)
        )

    def area(self, sizes: Sequence[int]) -> str:
        floor = self.y(0)
        return f"{self.path(sizes)}L{WIDTH - RIGHT} {floor:.1f}L{LEFT} {floor:.1f}Z"


def words(x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK, size: int = 14) -> Markup:
    """Text at a place."""
    return tag("text", text, x=x, y=y, text_anchor=anchor, fill=fill, font_size=size)


def axis(scale: Scale, top_bytes: int) -> list[Markup]:
    """Horizontal lines at round sizes."""
    step = 2 ** (top_bytes // 5).bit_length()
    lines = []
    for size in range(0, top_bytes + 1, step):
        y = scale.y(size)
        lines += [
            tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, stroke="#e4e7eb"),
            words(LEFT - 8, y + 4, bytes_text(size), anchor="end", size=12),
        ]
    return lines


def draw(data: ReportData) -> str:
    """The picture as SVG."""
    graph, plan, budget = data.graph, data.plan, data.plan.budget.ram_bytes
    plain = by_op(lay_out(plain_order(graph), graph), data.plain.ram_bytes, graph)
    measured = by_op(plan.steps, data.memory or data.certificate.ram_bytes, graph)
    scale = Scale(len(plain), max(plain))
    y = scale.y(budget)
    share = percent(budget / max(plain))
    parts = [
        tag("rect", width=WIDTH, height=HEIGHT, fill="#ffffff"),
        *axis(scale, max(plain)),
        tag("path", d=scale.area(plain), fill=GREY),
        tag("path", d=scale.area(measured), fill=BLUE),
        tag(
            "line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, stroke=RED, stroke_width=2, stroke_dasharray="6 4"
        ),
        words(LEFT, 24, f"RAM during one training step of {graph.name}, {len(plain)} ops", size=17),
        words(LEFT, 46, f"plain: {bytes_text(max(plain))}", fill="#7b8794"),
        words(LEFT + 150, 46, f"with a plan, measured: {bytes_text(max(measured))}", fill=BLUE),
        words(LEFT + 400, 46, f"budget: {bytes_text(budget)}, {share} of plain ({plan.device})", fill=RED),
        words(LEFT, HEIGHT - 18, "forward", size=12),
        words((LEFT + WIDTH) / 2, HEIGHT - 18, "backward and updates, op by op", size=12),
    ]
    return tag(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        font_family="system-ui, sans-serif",
    )


def main() -> None:
    """Write docs/picture.svg from the run directory that is given, build/demo otherwise."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo")
    (DOCS / "picture.svg").write_text(draw(load_report(source)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
