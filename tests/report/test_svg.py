"""Markup by hand: nothing that anybody wrote elsewhere gets into it unescaped."""

import html

from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.report.svg import Markup, band, box, breakable, escape, join, line, stair, tag, void
from tests.report.inputs import Page


@given(st.text())
@settings(deadline=None)
def test_text_stays_text(text: str) -> None:
    page = Page(tag("p", text, title=text))

    assert [name for name, _ in page.tags] == ["p"]
    assert len(page.tags[0][1]) == 1


@given(st.text())
@settings(deadline=None)
def test_breaks_add_nothing_to_a_name(text: str) -> None:
    assert breakable(text).replace("<wbr>", "") == escape(text)


def test_markup_is_not_escaped_twice() -> None:
    assert escape("<a>") == "&lt;a&gt;"
    assert escape(escape("<a>")) == "&lt;a&gt;"
    assert join(("<", Markup("<b>")), ", ") == "&lt;, <b>"


def test_what_cannot_be_seen_is_spelt_out() -> None:
    assert escape("a\x00b\u202ec\ud800") == "a\\u0000b\\u202ec\\ud800"
    assert html.unescape(escape("two\nlines\tand \u00e9")) == "two\nlines\tand \u00e9"


def test_attributes() -> None:
    assert (
        tag("path", class_="a b", stroke_width=1.25, fill=None)
        == '<path class="a b" stroke-width="1.2"></path>'
    )
    assert void("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert tag("i", title='"x"') == '<i title="&quot;x&quot;"></i>'


def test_paths() -> None:
    assert line(((0, 1), (2.26, 3))) == "M0 1L2.3 3"
    assert box(1, 2, 3, 4) == "M1 2h3v4h-3z"
    assert stair((0, 1, 2, 3), (5, 5, 7)) == "M0 5H2V7H3"
    assert band((0, 1, 2), (0, 0), (4, 5)) == "M0 4H1V5H2L2 0H0Z"
