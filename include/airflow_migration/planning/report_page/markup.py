"""HTML in which text cannot become markup: what is not `Html` already is escaped wherever it is put."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Node = str | int | None
"""A child: None and the empty text are left out."""

NOTHING = Html("")
LONG_TEXT = 24
"""From how many characters on a cell is kept wide enough to be read, so that a narrow page scrolls its table."""


def html(value: Node) -> Html:
    """HTML of a value."""
    if value is None:
        return NOTHING
    return value if isinstance(value, Html) else Html(escape(str(value)))


def joined(nodes: Iterable[Node], between: str = "") -> Html:
    return Html(Html(between).join(html(node) for node in nodes))


def tag(name: str, *children: Node, **attributes: str | int | float | None) -> Html:
    """An element.

    :param attributes: ``class_`` is written ``class``, ``aria_label`` ``aria-label``; those of None are left out
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{joined(children)}</{name}>")


def section(id: str, title: str, *children: Node) -> Html:
    """A part of the page with its heading; nothing where it has no content."""
    content = joined(children)
    return tag("section", tag("h2", title), content, id=id) if content else NOTHING


def listing(items: Iterable[Node], class_: str | None = None) -> Html:
    lines = joined(tag("li", item) for item in items)
    return tag("ul", lines, class_=class_) if lines else NOTHING


def facts(pairs: Iterable[tuple[str, Node]], class_: str = "facts") -> Html:
    """Names and values; a pair without a value is left out."""
    rows = joined(
        tag("div", tag("dt", name), tag("dd", _text(value))) for name, value in pairs if value not in (None, "")
    )
    return tag("dl", rows, class_=class_) if rows else NOTHING


def more(summary: Node, *children: Node) -> Html:
    """What is shown on demand, and always on paper; nothing where there is nothing."""
    content = joined(children)
    return tag("details", tag("summary", summary), content) if content else NOTHING


def table(caption: str, names: Sequence[str], rows: Iterable[Sequence[Node]]) -> Html:
    """A table that scrolls by itself where the page is narrow; nothing where it has no rows.

    The first cell names its row; whole numbers stand on the right.
    """
    body = joined(tag("tr", joined(_cells(row))) for row in rows)
    if not body:
        return NOTHING
    head = tag("tr", joined(tag("th", name, scope="col") for name in names))
    inner = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body))
    # Scrolling by keyboard needs the focus.
    return tag("div", inner, class_="scroll", role="region", tabindex=0, aria_label=caption)


def _cells(row: Sequence[Node]) -> Iterable[Html]:
    first, *others = row
    yield tag("th", _breakable(first), scope="row")
    for cell in others:
        yield tag("td", _text(cell), class_=_class_of(cell))


def _breakable(name: Node) -> Node:
    """A name that is broken at its underscores where it is broken at all."""
    return Html(html(name).replace("_", "_<wbr>")) if isinstance(name, str) and not isinstance(name, Html) else name


def _text(value: Node) -> Node:
    return f"{value:,}" if isinstance(value, int) else value


def _class_of(cell: Node) -> str | None:
    if isinstance(cell, int):
        return "number"
    return "words" if len(cell or "") > LONG_TEXT else None
