"""What the documents say is so: commands exist and run, links lead somewhere, versions agree."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import edgewise
from edgewise.cli.app import COMMANDS
from edgewise.cli.reference import help_text
from edgewise.report.units import bytes_text, percent
from edgewise.train import parse_bytes
from edgewise.train.recipe import AdamW

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
FIRST_STEPS = DOCS / "tutorials" / "first_steps.md"
MICROCONTROLLER = DOCS / "tutorials" / "microcontroller.md"
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BLOCK = re.compile(
    r'^```(?P<kind>\w+)(?: title="(?P<title>[\w.]+)")?\n(?P<text>.*?)^```', re.DOTALL | re.MULTILINE
)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
DONE = 60 * 20


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def shell_lines(path: Path) -> list[str]:
    """Commands of a page, without comments."""
    blocks = [match["text"] for match in BLOCK.finditer(text_of(path)) if match["kind"] == "sh"]
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def pinned() -> dict[str, str]:
    """constraints.txt: name -> version."""
    lines = text_of(ROOT / "constraints.txt").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): exact for name, exact in pairs}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [
        link for link in LINK.findall(text_of(page)) if not link.startswith(("http:", "https:", "mailto:"))
    ]

    assert [link for link in targets if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = {m for line in [*shell_lines(page), *re.findall(r"`(make [a-z-]+)", text_of(page))]
             for m in re.findall(r"\bmake ([a-z-]+)", line)}  # fmt: skip

    assert named - targets == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cli.md"], ids=name_of)
def test_commands_and_their_flags_exist(page: Path) -> None:
    for line in shell_lines(page):
        found = re.search(r"\bedgewise (\w+)(?: (ls|cp|show|probe)\b)?", line)
        if found is None:
            continue
        command = tuple(word for word in found.groups() if word)
        assert command[0] in COMMANDS, line
        known = help_text(command)
        assert [flag for flag in re.findall(r"(?<= )--?[a-z][a-z-]*", line) if flag not in known] == [], line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_uses_public_names_only(page: Path) -> None:
    blocks = [match["text"] for match in BLOCK.finditer(text_of(page)) if match["kind"] == "python"]

    assert {name for block in blocks for name in re.findall(r"\bew\.(\w+)", block)} <= set(edgewise.__all__)


def run_page(page: Path, tmp_path: Path) -> str:
    """Run the commands of a page in order, in `tmp_path`; what the last of them printed."""
    tools = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    for block in BLOCK.finditer(text_of(page)):
        if block["title"]:
            (tmp_path / block["title"]).write_text(block["text"], encoding="utf-8")
            continue
        if block["kind"] == "c":
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block["text"]],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DONE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block['text']}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_first_steps_run_in_order(tmp_path: Path) -> None:
    printed = run_page(FIRST_STEPS, tmp_path)
    plain, budget, planned, measured = (int(figure) for figure in printed.split())

    assert measured <= planned <= budget < plain
    assert (tmp_path / "plan.html").is_file()
    assert (tmp_path / "runs" / "first" / "report.html").is_file()


def test_the_way_to_a_microcontroller_runs_in_order(tmp_path: Path) -> None:
    run_page(MICROCONTROLLER, tmp_path)

    assert (tmp_path / "build" / "digits" / "libmodel.a").is_file()


def test_decisions_are_numbered_without_a_gap_and_listed() -> None:
    index = text_of(DOCS / "decisions" / "index.md")

    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    assert [page.name for page in DECISIONS if f"]({page.name})" not in index] == []


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_a_question_what_was_known_and_a_choice(page: Path) -> None:
    text = text_of(page)

    assert text.startswith(f"# {page.name[:4]}. ")
    assert [line for line in text.splitlines() if line.startswith("## ")][:1] == ["## Question"]
    assert "## What was " in text
    assert "## Choice" in text
    assert len(text.splitlines()) <= 60, "one page"


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"([\w/-]+\.md)$", text_of(ROOT / "mkdocs.yml"), re.MULTILINE)

    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_every_measured_page_is_listed_and_names_the_program_that_wrote_it() -> None:
    index = text_of(DOCS / "benchmarks" / "index.md")
    pages = [page for page in (DOCS / "benchmarks").glob("*.md") if page.name != "index.md"]

    assert [page.name for page in pages if f"]({page.name})" not in index] == []
    for page in pages:
        programs = re.findall(r"benchmarks/\w+\.py", text_of(page))
        assert programs, name_of(page)
        assert [program for program in programs if not (ROOT / program).is_file()] == []


def test_the_picture_is_a_drawing_that_loads_nothing() -> None:
    text = text_of(DOCS / "picture.svg")

    assert ET.fromstring(text).tag.endswith("svg")
    assert "href" not in text


def test_versions_agree() -> None:
    assert PROJECT["version"] == edgewise.__version__ == version("edgewise")
    assert f"## {edgewise.__version__}" in text_of(ROOT / "CHANGELOG.md")


def test_what_is_pinned_is_what_is_tested() -> None:
    wanted = [
        *PROJECT["dependencies"],
        *(need for extra in PROJECT["optional-dependencies"].values() for need in extra),
    ]
    names = {re.match(r"[\w-]+", need)[0].lower() for need in wanted if not need.startswith("edgewise")}
    installed = {name: version(name).partition("+")[0] for name in names}

    assert {name: exact for name, exact in pinned().items() if name in names} == installed
    assert not [name for name in pinned() if name.startswith("nvidia")]


def test_ci_calls_nothing_that_the_readme_lacks() -> None:
    script, readme = (
        text_of(ROOT / ".ci" / "run"),
        text_of(ROOT / "README.md") + text_of(ROOT / "CONTRIBUTING.md"),
    )
    targets = re.findall(r"^make ([a-z-]+)$", script, re.MULTILINE)

    assert targets == ["lint", "test"]
    assert all(f"make {target}" in readme for target in targets)
    assert "chromium" in readme
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_demo_has_less_than_half_of_what_plain_training_needs() -> None:
    (command,) = re.findall(r"edgewise train digits (.*)$", text_of(ROOT / "Makefile"), re.MULTILINE)
    ram, device = re.search(r"--ram (\S+)", command)[1], re.search(r"--device (\S+)", command)[1]
    recipe = edgewise.load_recipe("digits", re.findall(r"--set (\S+)", command))
    task = edgewise.resolve_task(recipe.model.name, batch=recipe.train.batch, args=recipe.model.args)
    assert isinstance(recipe.train.optimizer, AdamW)
    step = edgewise.capture_step(task.model, task.loss, edgewise.AdamW(), task.example_batch)
    plain = edgewise.plain_plan(step.graph, edgewise.load_device(device))
    budget = parse_bytes(ram).of(plain.peak_bytes)

    assert budget < plain.peak_bytes / 2
    readme = text_of(ROOT / "README.md")
    assert f"({plain.peak_bytes:,} B)" in readme
    assert f"{bytes_text(budget)}, {percent(budget / plain.peak_bytes)} of that" in text_of(
        ROOT / "README.md"
    )
