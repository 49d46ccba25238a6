"""Markup by hand: escaped HTML and SVG elements, and the few shapes that the charts are made of.

Shapes live in a drawing whose width stretches with the page (`preserveAspectRatio="none"`), so strokes must
be `non-scaling-stroke` (the style sheet sees to it) and text must not be among them: `chart.py` places it.
"""

import html
import re
from collections.abc import Iterable, Sequence

WIDTH = 1000.0
"""Width of every drawing in its own units; the page stretches it."""


class Markup(str):
    """Text that is markup already. Anything else is escaped before it enters a page."""

    __slots__ = ()


_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
"""Characters that a page must not hold, or that would make a name look like another one."""


def visible(text: str) -> str:
    """`text` with control characters, marks of direction and halves of pairs spelt out."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def escape(text: object) -> Markup:
    """`text` with every character that means something in HTML or XML made harmless."""
    return text if isinstance(text, Markup) else Markup(html.escape(visible(str(text))))


def breakable(text: str) -> Markup:
    """A name of many parts, which may be broken after each of them."""
    return Markup(re.sub(r"([._:/])(?=[^._:/])", r"\1<wbr>", escape(text)))


def join(parts: Iterable[object], separator: str = "") -> Markup:
    """All parts, escaped where they are not markup, one after another."""
    return Markup(separator.join(escape(part) for part in parts))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. `class_` is `class`, `stroke_width` is `stroke-width`; `None` leaves an attribute out."""
    words = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    inner = join(children)
    return Markup(f"<{name}{''.join(words)}>{inner}</{name}>")


def void(name: str, /, **attributes: object) -> Markup:
    """An element that HTML gives no end tag (`meta`, `link`)."""
    return Markup(tag(name, **attributes).removesuffix(f"</{name}>"))


def short(number: float) -> str:
    """A coordinate with at most one decimal."""
    text = f"{number:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _attribute(value: object) -> object:
    return short(value) if isinstance(value, float) else value


def stair(edges: Sequence[float], heights: Sequence[float]) -> str:
    """Path data of a line that stands at `heights[i]` from `edges[i]` to `edges[i + 1]`."""
    return "M" + _steps(edges, heights)[1:]


def band(edges: Sequence[float], lower: Sequence[float], upper: Sequence[float]) -> str:
    """Path data of the area between two stairs."""
    back_edges, back = list(reversed(edges)), list(reversed(lower))
    return "M" + _steps(edges, upper)[1:] + _steps(back_edges, back) + "Z"


def _steps(edges: Sequence[float], heights: Sequence[float]) -> str:
    """Moves along a stair, starting with `L`; runs of one height become one move."""
    parts = [f"L{short(edges[0])} {short(heights[0])}"]
    for index, height in enumerate(heights):
        text = short(height)
        if index and text != short(heights[index - 1]):
            parts.append(f"H{short(edges[index])}V{text}")
    parts.append(f"H{short(edges[-1])}")
    return "".join(parts)


def line(points: Iterable[tuple[float, float]]) -> str:
    """Path data of a line through `points`."""
    return "M" + "L".join(f"{short(x)} {short(y)}" for x, y in points)


def box(x: float, y: float, width: float, height: float) -> str:
    """Path data of a rectangle; many of them make one cheap path."""
    return f"M{short(x)} {short(y)}h{short(width)}v{short(height)}h{short(-width)}z"


def drawing(height: float, *shapes: object) -> Markup:
    """The stretching part of a chart: `shapes` on a canvas of `WIDTH` by `height`."""
    return tag(
        "svg",
        *shapes,
        class_="drawing",
        viewBox=f"0 0 {short(WIDTH)} {short(height)}",
        preserveAspectRatio="none",
        width="100%",
        height=short(height),
    )


def path(data: str, class_: str) -> Markup:
    """One path of a class; nothing if there is nothing to draw."""
    return tag("path", d=data, class_=class_) if data else Markup("")


def words(
    text: object, x: float, y: float, *, anchor: str = "start", dx: float = 0, class_: str = ""
) -> Markup:
    """Text at `x` (in units of the drawing, but placed in percent: it does not stretch) and `y` in pixels."""
    place = f"{x / WIDTH * 100:.2f}%"
    return tag("text", text, x=place, y=float(y), dx=dx or None, text_anchor=anchor, class_=class_ or None)
