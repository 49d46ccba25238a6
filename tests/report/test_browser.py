"""The page in a real browser. What it looked like is kept in `build/test-artifacts`."""

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from edgewise.graph import Graph
from edgewise.plan import Plan
from edgewise.report import write_report
from edgewise.report.comparison_page import write_comparison
from tests.report.comparisons import comparison, row, unfit
from tests.report.inputs import graph_of, plan_at_random, plan_in_slices, write_run
from tests.support import looped

ARTIFACTS = Path(__file__).parents[2] / "build" / "test-artifacts"
NAMES = ("chromium", "chromium-browser", "google-chrome")
BACKGROUND = (251, 251, 249)


def chromium(profile: Path, *arguments: str) -> str:
    """What a headless Chromium prints."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, "There is no Chromium to look at the report with. Install it: apt-get install -y chromium"
    quiet = (
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--disable-gpu",
    )
    command = [
        found,
        "--headless=new",
        "--no-sandbox",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
        *quiet,
    ]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=240, check=True)
    return done.stdout


class Server(ThreadingHTTPServer):
    """Serves one page, and remembers what was asked of it."""

    def __init__(self, page: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.page = page
        self.asked: list[str] = []

    @property
    def place(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.server.page)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the test asserts on what was asked."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(b"") as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def whole() -> tuple[Graph, Plan]:
    graph = graph_of(8, name="eight layers", size=8192)
    return graph, plan_at_random(graph, forget=0.25, page=0.3)


def sliced() -> tuple[Graph, Plan]:
    graph = looped(graph_of(8, name="eight layers in slices", size=8192), reordered=("update3",))
    return graph, plan_in_slices(graph)


@pytest.mark.parametrize(("name", "made"), [("report", whole), ("report-loops", sliced)])
def test_it_is_not_blank(name: str, made: Callable[[], tuple[Graph, Plan]], tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path / "run", *made()))
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    picture = ARTIFACTS / f"{name}.png"
    picture.unlink(missing_ok=True)
    shutil.copyfile(page, ARTIFACTS / f"{name}.html")

    chromium(tmp_path / "profile", "--window-size=1280,4400", f"--screenshot={picture}", page.as_uri())

    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert image.size == (1280, 4400)
        pixels = image.convert("RGB")
    counts = {color: count for count, color in pixels.getcolors(maxcolors=2**24) or []}
    assert BACKGROUND in counts
    assert len(counts) > 200
    assert sum(count for color, count in counts.items() if min(color) < 240) > 0.05 * 1280 * 4400
    assert min(pixels.crop((300, 420, 1100, 760)).getextrema()[2]) < 120  # the areas of the timeline


def test_a_comparison_draws_its_lines_in_colour(tmp_path: Path) -> None:
    rows = (
        row("backprop", 1.1, (0.1, 0.9, 0.95)),
        row("spsa", 0.7, (0.1, 0.2, 0.3)),
        unfit("elastic", 90_000),
    )
    page = write_comparison(comparison(*rows), tmp_path)
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    picture = ARTIFACTS / "comparison.png"
    picture.unlink(missing_ok=True)

    chromium(tmp_path / "profile", "--window-size=1280,2200", f"--screenshot={picture}", page.as_uri())

    with Image.open(picture) as image:
        counts = {color: count for count, color in image.convert("RGB").getcolors(maxcolors=2**24) or []}
    assert BACKGROUND in counts
    for colour in ((0x2F, 0x6F, 0xB0), (0xD9, 0x82, 0x2B)):  # of lines and legend
        assert counts.get(colour, 0) > 100


def test_it_asks_for_nothing_and_runs_only_its_own_script(tmp_path: Path, server: Server) -> None:
    intruder = (
        f"<img src={server.place}/image><script src={server.place}/script></script>"
        f"<style>@import '{server.place}/style'</style><script>document.title='taken'</script>"
    )
    graph = graph_of(3, name=intruder, layer=intruder)
    folder = write_run(tmp_path / "run", graph, plan_at_random(graph))
    (folder / "recipe.toml").write_text(intruder)
    server.page = write_report(folder).read_bytes()

    after = chromium(tmp_path / "profile", "--dump-dom", f"{server.place}/report.html")

    assert set(server.asked) <= {"/report.html", "/favicon.ico"}  # the icon is the browser's own idea
    assert "<title>taken</title>" not in after
    assert '<div class="tip"></div>' in after  # its own script ran


SWEEP = """<script>
const seen = new Set();
for (const stage of document.querySelectorAll(".stage")) {
  const box = stage.getBoundingClientRect();
  for (let y = 0; y < box.height; y += 6) {
    const at = {clientX: box.left + box.width * 0.6, clientY: box.top + y};
    stage.dispatchEvent(new PointerEvent("pointermove", at));
    const tip = document.querySelector(".tip");
    if (tip.style.display === "block") seen.add(stage.parentNode.id + ": " + tip.textContent);
  }
}
document.title = [...seen].join("\\n\\n");
</script></body>"""


def test_a_chart_tells_what_is_under_the_pointer(tmp_path: Path) -> None:
    graph = graph_of(3)
    folder = write_run(tmp_path / "run", graph, plan_at_random(graph))
    html = write_report(folder).read_text(encoding="utf-8")
    page = tmp_path / "page.html"
    free = html.replace('http-equiv="Content-Security-Policy"', 'name="policy"')  # lets SWEEP run
    page.write_text(free.replace("</body>", SWEEP), encoding="utf-8")

    after = chromium(tmp_path / "profile", "--dump-dom", "--window-size=1280,900", page.as_uri())

    told = unescape(after.partition("<title>")[2].partition("</title>")[0])
    assert re.search(r"timeline: step \d+: .*\nplanned .*, measured .*\n(.*\n)*plain training here", told)
    assert re.search(r"addresses: [a-z]\d\S*\n\S+ KiB at [\d,]+\nsteps \d+ to \d+", told)
    assert re.search(r"loss: step \d+, epoch 1\nloss \S+\nmean \S+", told)
    assert re.search(r"epochs: epoch 1\ntest accuracy 96.2%", told)
