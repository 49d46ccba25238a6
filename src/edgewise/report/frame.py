"""What every page is made of: the document around it, its head, its tiles and sections, and the file."""

import base64
import hashlib
import os
from pathlib import Path

from edgewise.errors import UsageError
from edgewise.report.script import SCRIPT
from edgewise.report.style import STYLE
from edgewise.report.svg import Markup, tag, void

_SOURCE = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_SOURCE}'; base-uri 'none'"
"""What a browser may do with a page: fetch nothing, and run this one script."""


def document(title: str, body: Markup) -> str:
    """The whole file, which runs no script but its own and loads nothing."""
    policy = void("meta", http_equiv="Content-Security-Policy", content=POLICY)
    head_ = tag(
        "head",
        void("meta", charset="utf-8"),
        policy,
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    page = tag("html", head_, tag("body", tag("main", body), tag("script", Markup(SCRIPT))), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def header(title: str, verdict: object, about: object, tiles: list[Markup]) -> Markup:
    """The head of a page: the verdict in a sentence, and the figures that everything else explains."""
    return tag(
        "header",
        tag("h1", title),
        tag("p", verdict, class_="verdict"),
        tag("p", about, class_="about"),
        tag("div", *tiles, class_="tiles"),
    )


def tile(label: str, big: str, small: object, class_: str = "") -> Markup:
    """A figure with the words that say what it is."""
    return tag(
        "dl",
        tag("dt", label),
        tag("dd", big, class_=f"big {class_}".strip()),
        tag("dd", small, class_="small"),
        class_="tile",
    )


def section(title: str, about: object, *content: object) -> Markup:
    """A section, or nothing if it has no content."""
    if not any(content):
        return Markup("")
    return tag("section", tag("h2", title), tag("p", about, class_="about") if about else "", *content)


def write_page(path: Path, text: str, name: str, hint: str) -> Path:
    """Write a page to `path`, and return that; a reader sees the old page or the new one, never half of one.

    Raises:
        UsageError: it cannot be written; the error says so of the page's `name`, and ends with `hint`.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"Cannot write the {name} {path}: {error.strerror}. {hint}") from error
    return path
